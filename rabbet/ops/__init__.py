"""The op library: importing it registers the ops of all files, and gives Values operators."""

from __future__ import annotations

import importlib
import pkgutil

from rabbet.graph.value import Value
from rabbet.ops.operators import attach

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
attach(Value)
