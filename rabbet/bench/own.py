"""A module of the user's, timed like a workload: `rabbet bench --model my_model.py`.

The file defines `model()`, a Rabbet module, and `inputs()`, its arguments as a tuple of NumPy
arrays; and `torch_model()`, a PyTorch module that takes the same, if it is to be timed beside it.
Each function imports its framework itself, since each is called in a process that has no other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rabbet.bench.workload import Workload

PREFIX = "model:"


@dataclass(frozen=True)
class OwnModel:
    """The file; nothing is known of its FLOPs."""

    path: str
    kind = "own_model"
    flops = 0
    read_bytes = 0
    written_bytes = 0

    def call(self, name: str) -> Any:
        """What a function of the file returns; AttributeError where it has none of that name."""
        names: dict[str, Any] = {"__name__": "rabbet_bench_model", "__file__": self.path}
        exec(compile(Path(self.path).read_text(encoding="utf-8"), self.path, "exec"), names)
        if name not in names:
            raise AttributeError(f"{self.path} defines no {name}()")
        function: Callable[[], Any] = names[name]
        return function()

    def inputs(self) -> list[np.ndarray]:
        """The arguments."""
        return [np.asarray(x) for x in self.call("inputs")]


def workload(path: Path) -> Workload:
    """The file as a workload, in milliseconds a call; ValueError where there is no such file."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    full = str(path.resolve())
    return Workload(PREFIX + full, "ms", OwnModel(full), "calls", f"the model of {path.name}")
