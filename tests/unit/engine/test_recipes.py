"""Recipes: gradients that follow what a rule recorded once are those of the rule."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import recorder
from rabbet.base import dtypes
from rabbet.base.spec import intern
from rabbet.engine import backward, hooks
from rabbet.graph.value import registry
from rabbet.recorder import Recipe


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Specs of x whenever the rule of tanh is asked."""
    calls: list[Any] = []
    right = registry["tanh"].grad
    assert right is not None

    def rule(g: Any, y: Any, x: Any) -> Any:
        calls.append(x.spec)
        return right(g, y, x)

    recorder.clear_memo()
    monkeypatch.setattr(registry["tanh"], "grad", rule)
    # With a hook anywhere, of a tensor that another test left behind say, no recipe is followed.
    monkeypatch.setattr(hooks, "_hooked", hooks._Hooked())
    yield calls
    recorder.clear_memo()


def _leaf(*shape: int, seed: int = 0, dtype: Any = np.float32) -> rb.Tensor:
    values = np.random.default_rng(seed).uniform(0.5, 2, shape).astype(dtype)
    return rb.tensor(values, requires_grad=True)


def test_a_rule_is_asked_once_for_each_kind_of_node(asked: list[Any]) -> None:
    for _ in range(3):
        _leaf(3).tanh().sum().backward()
    assert len(asked) == 1
    _leaf(4).tanh().sum().backward()
    _leaf(3, dtype=np.float64).tanh().sum().backward()
    assert [(s.shape, s.dtype) for s in asked] == [
        ((3,), dtypes.float32),
        ((4,), dtypes.float32),
        ((3,), dtypes.float64),
    ]


PROGRAMS: dict[str, Any] = {
    "shared": lambda x, w: (x * x + x @ w @ w + w.sum()).sum(),
    "unused": lambda x, w: (rb.where(x > 1, x, w) * w.detach()).sum(),
    "pieces": lambda x, w: sum((p * p).sum() for p in rb.split(rb.concat([x, w], axis=0), 3)),
    "numbers": lambda x, w: (rb.clip(3 / x, 0.5, 2.5) ** 1.5 - 0.1 * rb.maximum(w, 1)).mean(),
    "residuals": lambda x, w: rb.nn.functional.layer_norm(x, (3,)).max(axis=1).sum() + w[0, 1],
    "distance": lambda x, w: rb.cdist(x, w, 3.0).sum(),
    "softmax": lambda x, w: rb.nn.functional.cross_entropy(x @ w, rb.tensor([0, 2, 1])),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("limit", [2000, 3])
def test_recipes_give_the_bits_of_rules(name: str, limit: int) -> None:
    tape, x, w = recorder.current(), _leaf(3, 3), _leaf(3, 3, seed=1)
    before = tape.limit
    tape.limit = limit  # segments end in mid-backward too
    try:
        y = PROGRAMS[name](x, w)
        seed = rb.ones_like(y)
        found = [backward.gradients([y], [seed], [x, w], retain_graph=True) for _ in range(2)]
        ends = backward._pull_in_python([y], [seed], [x, w], True)
    finally:
        tape.limit = before
    by_rules = {node: g for node, _, g in ends}
    for grads in found:
        for leaf, g in zip((x, w), grads, strict=True):
            assert (g is None) == (leaf._node not in by_rules)
            if g is not None:
                assert g.numpy().tobytes() == by_rules[leaf._node].numpy().tobytes()  # type: ignore[attr-defined]


def test_a_recipe_is_followed_in_second_order_and_without_a_leaf_s_need() -> None:
    for _ in range(2):
        x, c = _leaf(4, dtype=np.float64), rb.tensor(np.full(4, 2.0))
        y = (x**3 * c).sum()
        (g,) = backward.gradients([y], [None], [x], create_graph=True)
        (h,) = backward.gradients([g.sum()], [None], [x])  # type: ignore[union-attr]
        np.testing.assert_allclose(h.numpy(), 12 * x.numpy(), rtol=1e-12)  # type: ignore[union-attr]


def test_a_cut_graph_is_refused_and_nothing_is_added() -> None:
    x = _leaf(3)
    y = (x * x).sum()
    y.backward()
    before = x.grad.numpy()  # type: ignore[union-attr]
    with pytest.raises(rb.GradientError, match=r"behind .* was freed by an earlier backward"):
        y.backward()
    assert x.grad.numpy().tobytes() == before.tobytes()  # type: ignore[union-attr]


def test_what_is_no_recipe_is_refused() -> None:
    x = rb.ones(3)
    found = recorder.prepared(registry["negative"], (x,), {}, ())
    op, spec = registry["negative"], (intern((), dtypes.float32),)
    for operands in [(), ((3, 0, 0),), ((9, 0, 0),), ((-1, 0, 0),), (None,), ((4, 1.0, ()),), (7,)]:
        with pytest.raises(TypeError):
            Recipe(((op, found, {}, (), operands),), ())
    with pytest.raises(TypeError):
        Recipe((), ((4, 1.0, spec),))
    with pytest.raises(TypeError):
        Recipe(((op, found, {}, (), ((0, 0, 0),)),), ((3, 0, 1),))
