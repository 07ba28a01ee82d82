"""Lines of the user's code, as errors and reports show them."""

from __future__ import annotations

import linecache
import os
import sysconfig
from types import TracebackType

_AT = "\n  at "
_LONGEST = 100  # characters of a line that are shown
_LIBRARY = sysconfig.get_path("stdlib") + os.sep
_INSTALLED = tuple(os.sep + name + os.sep for name in ("site-packages", "dist-packages"))


def show(file: str, number: int, function: str) -> str:
    """`train.py:14 in forward: h = self.fc(x)`."""
    text = linecache.getline(file, number).strip()
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 4].rstrip() + " ..."
    where = f" in {function}" if function != "<module>" else ""
    return f"{_short(file)}:{number}{where}" + (f": {text}" if text else "")


def has_line(message: str) -> bool:
    """True where the message says a line already."""
    return _AT in message


def with_line(message: str, where: str) -> str:
    """The message with `at <file>:<line> ...` after its first part, before a hint; once only."""
    if not where or has_line(message):
        return message
    said, hint, rest = message.partition("\n  hint: ")
    return f"{said}{_AT}{where}{hint}{rest}"


def of_traceback(traceback: TracebackType | None) -> str:
    """The innermost line outside Rabbet and Python's own library; "" where there is none."""
    found = ""
    innermost: TracebackType | None = None
    while traceback is not None:
        if _is_users(traceback):
            innermost = traceback
        traceback = traceback.tb_next
    if innermost is not None:
        code = innermost.tb_frame.f_code
        found = show(code.co_filename, innermost.tb_lineno, code.co_name)
    return found


def is_package(name: object) -> bool:
    """True for the name of a module of Rabbet."""
    return name == "rabbet" or str(name).startswith("rabbet.")


def _is_users(traceback: TracebackType) -> bool:
    frame = traceback.tb_frame
    file = frame.f_code.co_filename
    if is_package(frame.f_globals.get("__name__")) or file.startswith("<frozen "):
        return False
    return not file.startswith(_LIBRARY) or any(part in file for part in _INSTALLED)


def _short(file: str) -> str:
    try:
        relative = os.path.relpath(file)
    except ValueError:  # another drive on Windows
        return file
    return file if relative.startswith("..") else relative
