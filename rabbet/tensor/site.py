"""Where in the user's code a node was recorded; lines are resolved only when shown."""

from __future__ import annotations

import linecache
import os
from types import CodeType
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
