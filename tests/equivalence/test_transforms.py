"""Laws of function transforms on random programs: a quick search; tests/fuzz has the long one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rabbet as rb
from tests.equivalence import transformed, ways
from tests.equivalence.programs import Leaf, Program, Ref, Step


@pytest.mark.parametrize("law", transformed.LAWS)
def test_a_law_holds(law: str) -> None:
    """For one program each time; make check-all tries many."""
    seed = list(transformed.LAWS).index(law)
    transformed.check(transformed.generated(seed, length=2), (law,))


@pytest.mark.parametrize("law", transformed.WITH_BRANCHES)
def test_a_law_holds_with_branches(law: str) -> None:
    """On values, in Python: all transforms but vmap see through them."""
    seed = 20 + transformed.WITH_BRANCHES.index(law)
    transformed.check(transformed.generated(seed, branching=True, length=3), (law,))


def test_a_broken_law_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    some = Program(
        (Step("leaf"), Step("call", "exp", (Ref(0),))), (Leaf((3,), "float64"),), (1,), (1,)
    )
    transformed.check(some)
    for name in ("grad", "vmap", "jvp"):
        law = transformed.LAWS[name]

        def wrong(*args: object, law: transformed.Law = law) -> list[np.ndarray]:
            return [np.asarray(x * 1.001) for x in law.transformed(*args)]

        broken = transformed.Law(law.plain, wrong, law.many, law.bits, law.derivative)
        monkeypatch.setitem(transformed.LAWS, name, broken)
        with pytest.raises(ways.Difference, match=name):
            transformed.check(some, (name,))


def test_gradients_under_vmap_are_the_ops_own() -> None:
    """At a kink, and where a body computes infinity minus infinity."""
    zeros = rb.zeros((3, 2))

    def slopes(function: Any) -> list[list[float]]:
        return rb.grad(lambda x: rb.vmap(function)(x).sum())(zeros).tolist()

    assert slopes(rb.elu) == [[1.0, 1.0]] * 3
    assert (
        slopes(lambda x: rb.leaky_relu(x, 0.5))
        == rb.grad(lambda x: rb.leaky_relu(x, 0.5).sum())(zeros).tolist()
    )
    large = rb.asarray([[float("inf"), 1.0]])
    plain = rb.grad(lambda x: rb.logsumexp(x, axis=1).sum())(large)
    mapped = rb.grad(lambda x: rb.vmap(lambda r: rb.logsumexp(r, axis=0))(x).sum())(large)
    np.testing.assert_array_equal(mapped.numpy(), plain.numpy())
    x = rb.asarray([[1.0, 2.0], [3.0, 5.0]])
    for function in (rb.softmax, rb.log_softmax):
        for axis in (0, -1):
            found = rb.vmap(lambda r, f=function, a=axis: f(r, axis=a))(x)
            np.testing.assert_array_equal(found.numpy(), function(x, axis=1).numpy())
