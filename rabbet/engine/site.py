"""Where in the user's code a node was recorded; lines are resolved only when shown."""

from __future__ import annotations

import os
import sys
from types import CodeType, FrameType
from typing import Any

from rabbet.base import lines


def line_of(site: Any) -> tuple[str, int, str] | None:
    """(file, line number, function) of a recorded (code, instruction offset)."""
    if site is None:
        return None
    code, offset = site
    return code.co_filename, _line_number(code, offset), code.co_name


def describe(site: Any) -> str:
    """`train.py:14 in forward: h = self.fc(x)`, or "" where nothing is known."""
    found = line_of(site)
    return lines.show(*found) if found is not None else ""


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
        if not lines.is_package(frame.f_globals.get("__name__", "")):
            return frame.f_code, frame.f_lasti
        frame = frame.f_back
    return None


def _line_number(code: CodeType, offset: int) -> int:
    for start, end, line in code.co_lines():
        if start <= offset < end and line is not None:
            return line
    return code.co_firstlineno
