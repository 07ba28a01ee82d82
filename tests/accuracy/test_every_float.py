"""A share of all float32 inputs through every unary math function: another share each day."""

from __future__ import annotations

import datetime
import os
import random

import numpy as np
import pytest

from tools import math_accuracy as accuracy
from tools import math_functions as functions

SHARE = 64  # one block of inputs in so many
DAY = int(os.environ.get("RABBET_ACCURACY_DAY", datetime.date.today().toordinal()))


@pytest.mark.parametrize("name", functions.FUNCTIONS)
def test_where_it_is_hard(name: str) -> None:
    """Zeros, subnormals, infinities, NaN, one: some inputs of each kind."""
    blocks = sorted(accuracy.hard_blocks(name))
    patterns = np.concatenate([accuracy.inputs(b)[:: accuracy.BLOCK // 8] for b in blocks])
    edges = [accuracy.inputs(b)[k] for b in blocks for k in (0, 1, -1)]
    found = accuracy.worst_of(name, np.concatenate([patterns, edges]).astype(np.float32))
    assert found.ulp <= functions.FUNCTIONS[name].bound, found


@pytest.mark.slow
def test_every_unary_function_is_tried() -> None:
    """Whoever declares a new one adds it to tools/math_functions.py."""
    found = {functions.ALIASES.get(name, name) for name in functions.public()}
    assert found <= set(functions.FUNCTIONS), found - set(functions.FUNCTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("name", functions.FUNCTIONS)
def test_a_share_of_all_inputs(name: str) -> None:
    """The hard blocks whole, and blocks drawn by the date (RABBET_ACCURACY_DAY sets another)."""
    drawn = random.Random(DAY).sample(range(accuracy.BLOCKS), accuracy.BLOCKS // SHARE)
    found = accuracy.worst(name, sorted({*drawn, *accuracy.hard_blocks(name)}))
    assert found.ulp <= functions.FUNCTIONS[name].bound, (DAY, found)


def test_an_error_is_seen() -> None:
    """One unit in the last place, a wrong sign of zero, a missing NaN, an early infinity."""
    x = np.array([1.0, 0.0, np.nan, 3e38], np.float32)
    wide = x.astype(np.float64)
    for at, value, least in ((0, 1.0000001, 0.9), (1, -0.0, 9.0), (2, 1.0, 9.0), (3, np.inf, 9.0)):
        got = x.copy()
        got[at] = value
        error = accuracy.ulps(got, wide, x)
        assert error[at] >= least and error[[n for n in range(2) if n != at]].max() == 0
