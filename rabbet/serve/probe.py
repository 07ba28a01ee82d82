"""Whether requests of a model may be joined: found out by trying, when the model is loaded.

Joined results must have the bits of single ones. A model whose rows depend on each other (a mean
over the batch, batch norm in training mode) is found here and never joined. The tries also warm up.
"""

from __future__ import annotations

import numpy as np

from rabbet.base.errors import RabbetError
from rabbet.serve.batching import run_joined
from rabbet.serve.model import Model, TensorSpec

_FREE_SIZE = 8  # of symbols other than the batch


def is_joinable(model: Model, max_batch: int) -> bool:
    """True if rows computed in batches of several sizes equal those computed alone, bit for bit."""
    if model.batch_symbol is None or max_batch < 2:
        return False
    generator = np.random.default_rng(0)
    rows = [[_draw(spec, 1, generator) for spec in model.inputs] for _ in range(max_batch)]
    try:
        alone = [model.run(row) for row in rows[:3]]
        return all(
            _agrees(model, rows[:size], alone) for size in sorted({2, min(7, max_batch), max_batch})
        )
    except RabbetError:
        return False  # it does not take what we make up, so nothing is known of it


def _agrees(model: Model, rows: list[list[np.ndarray]], alone: list[list[np.ndarray]]) -> bool:
    joined = run_joined(model, rows)
    for expected, found in zip(alone, joined, strict=False):
        if isinstance(found, Exception):
            return False
        for a, b in zip(expected, found, strict=True):
            if a.shape != b.shape or a.tobytes() != b.tobytes():
                return False
    return True


def _draw(spec: TensorSpec, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Values that most models take: normal numbers, and 0 or 1 where they may be indices."""
    rest = [size if isinstance(size, int) else _FREE_SIZE for size in spec.shape[1:]]
    shape = (rows, *rest)
    if spec.dtype.is_float:
        return generator.standard_normal(shape).astype(spec.dtype.numpy)
    return generator.integers(0, 2, shape).astype(spec.dtype.numpy)
