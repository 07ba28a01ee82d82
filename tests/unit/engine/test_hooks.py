"""Hooks of tensors: gradients seen and replaced, for leaves and inner tensors, also under jit."""

import gc
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn
from rabbet.engine import hooks


def leaf(*values: float) -> Any:
    return rb.tensor(list(values), dtype=rb.float32, requires_grad=True)


def test_seen_and_replaced() -> None:
    x = leaf(1, 2)
    y = x * x
    seen: list[Any] = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    y.register_hook(lambda g: g * 3)
    y.register_hook(lambda g: seen.append(g.tolist()))
    (y.sum() + y.sum()).backward()
    assert seen == [[2, 2], [6, 6]]  # once, when the gradient is complete
    assert x.grad.tolist() == [12, 24]


def test_leaf_hooks_see_the_sum_before_it_is_added() -> None:
    x = leaf(1, 2)
    x.register_hook(lambda g: g + 1)
    (x * 2 + x).sum().backward()
    x.sum().backward()
    assert x.grad.tolist() == [6, 6]


def test_they_work_after_the_tensor_is_gone_and_stay_with_an_updated_leaf() -> None:
    x = leaf(1, 2)
    y = x * 2
    y.register_hook(lambda g: g * 10)
    z = y.sum()
    del y
    gc.collect()
    z.backward()
    assert x.grad.tolist() == [20, 20]
    x.grad = None
    x.register_hook(lambda g: -g)
    with rb.no_grad():
        x -= 1
    x.sum().backward()
    assert x.grad.tolist() == [-1, -1]


def test_removal() -> None:
    x = leaf(1)
    handle = x.register_hook(lambda g: g * 2)
    with x.register_hook(lambda g: g * 5):
        x.sum().backward()
    handle.remove()
    handle.remove()
    x.sum().backward()
    assert x.grad.tolist() == [11]
    y = x * 2
    y.register_hook(lambda g: g * 7).remove()
    assert rb.autograd.grad(y.sum(), x)[0].tolist() == [2]


def test_inside_transforms() -> None:
    def f(x: Any) -> Any:
        y = x * x
        y.register_hook(lambda g: g * 3)
        return y.sum()

    assert rb.grad(f)(rb.tensor([1.0, 2.0])).tolist() == [6, 12]
    assert rb.vmap(rb.grad(f))(rb.tensor([[1.0], [2.0]])).tolist() == [[6], [12]]
    assert rb.grad(lambda x: rb.grad(f)(x).sum())(rb.tensor([1.0])).tolist() == [6]


def test_jit_replays_what_hooks_record_and_notices_other_hooks() -> None:
    w = leaf(1, 2)
    calls: list[int] = []

    def hook(g: Any) -> Any:
        calls.append(1)
        return g * 10

    @rb.jit
    def step(x: Any) -> Any:
        w.grad = None
        (w * x).sum().backward()
        return w.grad

    x = rb.tensor([1.0, 3.0])
    assert step(x).tolist() == [1, 3]
    handle = w.register_hook(hook)
    for _ in range(3):
        assert step(x).tolist() == [10, 30]
    assert len(calls) == 1 and step.stats == {"recorded": 2, "replayed": 2}
    handle.remove()
    assert step(x).tolist() == [1, 3]


def test_post_accumulate_runs_an_optimizer_in_backward() -> None:
    model = nn.Linear(3, 2)
    for p in model.parameters():
        optimizer = rb.optim.SGD([p], lr=0.5)

        def update(p: Any, optimizer: Any = optimizer) -> None:
            optimizer.step()
            p.grad = None

        p.register_post_accumulate_grad_hook(update)
    before = model.bias.numpy().copy()
    model(rb.ones((4, 3))).sum().backward()
    assert np.allclose(model.bias.numpy(), before - 0.5 * 4)
    assert model.bias.grad is None


def test_retain_grad() -> None:
    x = leaf(1, 2)
    y = x * 2
    y.retain_grad()
    (y * y).sum().backward()
    assert y.grad.tolist() == [4, 8] and x.grad.tolist() == [8, 16]


def test_wrong_uses() -> None:
    with pytest.raises(rb.GradientError, match="register_hook: this tensor does not require"):
        rb.ones(2).register_hook(print)
    with pytest.raises(rb.GradientError, match="only a leaf"):
        (leaf(1) * 2).register_post_accumulate_grad_hook(print)
    with pytest.raises(TypeError, match="takes a function"):
        leaf(1).register_hook(3)
    x = leaf(1, 2)
    with x.register_hook(lambda g: g.sum()), pytest.raises(rb.GradientError, match="float32"):
        x.sum().backward()
    with x.register_hook(lambda g: 3), pytest.raises(rb.GradientError, match="returned a int"):
        x.sum().backward()


def test_they_die_with_their_tensors() -> None:
    """Backward then takes its fast way again."""
    gc.collect()
    before = hooks.are_there()
    x = leaf(1)
    x.register_hook(lambda g: g)
    y = x * 2
    y.register_hook(lambda g: g)
    assert hooks.are_there()
    del x, y
    rb.flush()
    gc.collect()
    assert hooks.are_there() == before


def test_autograd_functions_of_pytorch() -> None:
    x, y = leaf(3), leaf(4)
    gx, gy = rb.autograd.grad((x * y).sum(), [x, y])
    assert (gx.tolist(), gy.tolist()) == ([4], [3]) and x.grad is None
    assert rb.autograd.grad(x.sum(), [x, y], allow_unused=True)[1] is None
    with pytest.raises(rb.GradientError, match="do not depend on input 1"):
        rb.autograd.grad(x.sum(), [x, y])
    with pytest.raises(rb.GradientError, match="input 0 does not require"):
        rb.autograd.grad(x.sum(), [rb.ones(1)])
    rb.autograd.backward([x * 2, x * 3], [rb.ones(1), rb.ones(1) * 10])
    assert x.grad.tolist() == [32]
