"""Where in the user's code a node was recorded; lines are resolved only when shown."""

from __future__ import annotations

import linecache
import os
import sys
from types import CodeType, FrameType
from typing import Any


def line_of(site: Any) -> tuple[str, int, str, str] | None:
    """(file, line number, function, source line) of a recorded (code, instruction offset)."""
    if site is None:
        return None
    code, offset = site
    number = _line_number(code, offset)
    text = linecache.getline(code.co_filename, number).strip()
    return code.co_filename, number, code.co_name, text


def describe(site: Any) -> str:
    """`train.py:14 in forward: h = self.fc(x)`, or "" where nothing is known."""
    found = line_of(site)
    if found is None:
        return ""
    file, number, function, text = found
    where = f" in {function}" if function != "<module>" else ""
    return f"{_short(file)}:{number}{where}" + (f": {text}" if text else "")


def short(site: Any) -> str:
    """`train.py:14`."""
    found = line_of(site)
    return f"{os.path.basename(found[0])}:{found[1]}" if found else ""


def user_site() -> Any:
    """(code, instruction offset) of the innermost running frame outside Rabbet; None if there is
    none. The recorder has its own, for every op; this one is for errors.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name != "rabbet" and not name.startswith("rabbet."):
            return frame.f_code, frame.f_lasti
        frame = frame.f_back
    return None


def with_line(message: str, site: Any) -> str:
    """The message with `at <file>:<line> ...` after its first part, before a hint; once only."""
    where = describe(site)
    if not where or "\n  at " in message:
        return message
    said, hint, rest = message.partition("\n  hint: ")
    return f"{said}\n  at {where}{hint}{rest}"


def _short(file: str) -> str:
    try:
        relative = os.path.relpath(file)
    except ValueError:  # another drive on Windows
        return file
    return file if relative.startswith("..") else relative


def _line_number(code: CodeType, offset: int) -> int:
    for start, end, line in code.co_lines():
        if start <= offset < end and line is not None:
            return line
    return code.co_firstlineno
