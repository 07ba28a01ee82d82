"""What gradients will read, told from recipes, is what the rules themselves say."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet.base.spec import intern
from rabbet.engine import programs, recipes, residuals
from rabbet.recorder import leaf_node

F = rb.nn.functional


def _leaf(*shape: int, seed: int = 0) -> rb.Tensor:
    values = np.random.default_rng(seed).uniform(0.5, 2, shape).astype(np.float32)
    return rb.tensor(values, requires_grad=True)


PROGRAMS: dict[str, Callable[[Any, Any], Any]] = {
    "shared": lambda x, w: (x * x + x @ w @ w + w.sum()).sum(),
    "detached": lambda x, w: (rb.where(x > 1, x, w) * w.detach()).sum() + rb.floor(x * w).sum(),
    "pieces": lambda x, w: sum((p * p).sum() for p in rb.split(rb.concat([x, w], axis=0), 3)),
    "no way on": lambda x, w: (rb.exp(x) * rb.sign(x * w)).sum() + rb.round(w.exp()).mean(),
    "several outputs": lambda x, w: F.layer_norm(rb.tanh(x), (3,)).max(axis=1).sum() * w[0, 1],
    "indexed": lambda x, w: F.cross_entropy(x @ w, rb.asarray([0, 2, 1])) + x[1:].prod(),
    "deep": lambda x, w: F.softmax(F.gelu(F.silu(x @ w).sigmoid()), 1).var() * x.abs().max(),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_recipes_say_what_rules_say(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def both(segment: Any, live: Any) -> Any:
        nodes = segment.nodes
        roots = [(p, i) for p, i in live if nodes[p].requires_grad and not nodes[p].cut]
        found = residuals.residuals(segment, roots)
        assert found is not None
        assert set(found) == residuals._by_rules(nodes, roots)
        compared.append(len(found))
        return frozenset(found)

    monkeypatch.setattr(programs, "residuals_of", both)
    programs.families.clear()  # else what this structure needs is known
    x, w = _leaf(3, 3), _leaf(3, 3, seed=1)
    middle = x * 2 + w
    middle.sum().item()
    y = PROGRAMS[name](middle, w)
    y.item()
    y.backward()
    assert compared and np.isfinite(x.grad.numpy()).all()


def test_rules_without_recipes_are_asked() -> None:
    @rb.custom_vjp
    def twice(x: Any) -> Any:
        return x * 2

    twice.defvjp(lambda x: (x * 2, x), lambda x, g: (g * x,))
    x = _leaf(3)
    y = (twice(x).exp() * x).sum()
    y.item()
    y.backward()
    wanted = np.exp(2 * x.numpy()) * (1 + x.numpy() * x.numpy())
    assert np.allclose(x.grad.numpy(), wanted, rtol=1e-5)


def test_a_recipe_is_the_same_wherever_its_values_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its steps become part of a program's key on disk."""
    monkeypatch.setattr(recipes, "Recipe", lambda steps, results: tuple(s[0].name for s in steps))
    node = (_leaf(3) / _leaf(3, seed=1))._node
    spec = intern((3,), node.specs[0].dtype)
    kept, found = [], set()
    for n in range(60):
        kept.append([leaf_node(intern((n + 1,), spec.dtype), None) for _ in range(n % 7)])
        found.add(recipes.learn(node, [spec]))
    assert len(found) == 1
