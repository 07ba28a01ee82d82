"""Out of Python: program files (`.rbt`), loading them, and native libraries made from them."""

from __future__ import annotations

from rabbet.export.export import export
from rabbet.export.loaded import LoadedProgram, Port, load_program
from rabbet.export.native import build

__all__ = ["LoadedProgram", "Port", "build", "export", "load_program"]
