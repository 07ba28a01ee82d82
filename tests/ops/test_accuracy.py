"""The error of every float32 kernel against float64, beside that of the plain float32 reference.

Generated from the declarations: over all samples of an op, in units in the last place, the root of
the mean square is at most 1.2 times the reference's and the largest at most twice it. A reference
whose error is that of one rounding (many compute in float64) does not say what plain float32 would
give; there the bounds are a few units.
"""

from __future__ import annotations

import numpy as np
import pytest

from rabbet.graph.interpret import run
from rabbet.graph.op import Op
from tests.ops.conftest import Engine
from tests.ops.test_matrix import OPS, cases, promoted, single

COMPUTING = [op for op in OPS if op.kind not in ("source", "movement") and op.name != "cast"]
RMS, LARGEST = 1.2, 2.0
ROUNDED_ONCE = 0.5  # units in the last place: a mean square root below comes of one rounding
FEW_RMS, FEW_LARGEST = 3.0, 12.0  # units in the last place


def errors(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Units in the last place of the larger of each result and the typical one."""
    finite = np.isfinite(exact) & np.isfinite(found)
    exact, found = exact[finite], found[finite].astype(np.float64)
    if not exact.size:
        return exact
    typical = np.sqrt(np.mean(np.square(exact)))
    size = np.maximum(np.maximum(np.abs(exact), typical), np.finfo(np.float32).tiny)
    return (found - exact) / np.spacing(size.astype(np.float32)).astype(np.float64)


def compared(op: Op, engine: Engine) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the engine's float32 and of the reference's, over all samples."""
    ours, plain = [np.zeros(0)], [np.zeros(0)]
    for case, _, arrays in cases(op, "float32"):
        wide = [a.astype(np.float64) if a.dtype == np.float32 else a for a in arrays]
        exact = run(single(op, case, promoted(op, wide)), wide)
        graph = single(op, case, arrays)
        for e, f, r in zip(exact, engine.run(graph, arrays), run(graph, arrays), strict=True):
            if r.dtype == np.float32 and e.dtype == np.float64 and e.size:
                ours.append(errors(f, e).reshape(-1))
                plain.append(errors(r, e).reshape(-1))
    return np.concatenate(ours), np.concatenate(plain)


def rms(x: np.ndarray) -> float:
    """The root of the mean square."""
    return float(np.sqrt(np.mean(np.square(x)))) if x.size else 0.0


@pytest.mark.parametrize("op", COMPUTING, ids=lambda op: op.name)
def test_error_is_that_of_plain_float32(op: Op, engine: Engine) -> None:
    if engine.name != "compiled" or not engine.takes(op):
        return
    ours, plain = compared(op, engine)
    if not ours.size:
        return
    largest = float(np.abs(ours).max())
    if rms(plain) < ROUNDED_ONCE:
        assert rms(ours) <= FEW_RMS and largest <= FEW_LARGEST, op.name
    else:
        assert rms(ours) <= RMS * rms(plain), op.name
        assert largest <= LARGEST * float(np.abs(plain).max()), op.name
