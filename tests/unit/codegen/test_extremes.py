"""maximum and minimum in machine code: NaN stays, -0 is below +0, at every width of vector."""

import numpy as np
import pytest

import rabbet as rb

SPECIAL = [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 3.5, 1e-42, -1e-42]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [121, 64, 16, 8, 7, 1])  # whole vectors, parts of one, scalars
def test_every_pair_of_special_numbers(dtype: type, n: int) -> None:
    special = np.array(SPECIAL, dtype)
    pairs = np.stack([np.repeat(special, len(special)), np.tile(special, len(special))], axis=1)
    for first in range(0, len(pairs), n):
        a, b = np.ascontiguousarray(pairs[first : first + n].T)
        zero = (a == 0) & (b == 0)
        for function, oracle, negative in (
            (rb.maximum, np.maximum, np.signbit(a) & np.signbit(b)),
            (rb.minimum, np.minimum, np.signbit(a) | np.signbit(b)),
        ):
            found = function(rb.asarray(a), rb.asarray(b)).numpy()
            assert np.array_equal(found, oracle(a, b), equal_nan=True)
            assert np.array_equal(np.signbit(found)[zero], negative[zero])


@pytest.mark.parametrize("n", [11, 64])
def test_relu_and_clip_of_special_numbers(n: int) -> None:
    """A bound that is a literal needs no care for NaN; a literal NaN does."""
    x = np.resize(np.array(SPECIAL, np.float32), n)
    found = rb.relu(rb.asarray(x)).numpy()
    assert np.array_equal(found, np.where(x <= 0, np.float32(0), x), equal_nan=True)
    assert not np.signbit(found[x == 0]).any()
    assert np.array_equal(rb.relu6(rb.asarray(x)).numpy(), np.clip(x, 0, 6), equal_nan=True)
    assert np.isnan(rb.maximum(rb.asarray(x), float("nan")).numpy()).all()
