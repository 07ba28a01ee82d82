"""autograd.Function: a gradient of one's own, written as a class, as in PyTorch."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import rabbet as rb


class Exp(rb.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: rb.Tensor, factor: float) -> rb.Tensor:
        result = (factor * x).exp()
        ctx.save_for_backward(result)
        ctx.factor = factor
        return result

    @staticmethod
    def backward(ctx: Any, g: rb.Tensor) -> Any:
        (result,) = ctx.saved_tensors
        assert ctx.needs_input_grad == (True, False)
        return ctx.factor * g * result, None


class Both(rb.autograd.Function):
    @staticmethod
    def forward(x: rb.Tensor, y: rb.Tensor) -> tuple[rb.Tensor, rb.Tensor]:
        return x * y, x + y

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: rb.Tensor, h: rb.Tensor) -> Any:
        x, y = ctx.saved_tensors
        return 10 * (g * y + h), g * x + h  # ten times too large: nobody else's rule


def test_gradients_of_the_first_and_second_order() -> None:
    x = rb.tensor([0.5, -1.0], dtype=rb.float64, requires_grad=True)
    y = Exp.apply(x, 2.0)
    (g,) = rb.autograd.grad(y.sum(), x, create_graph=True)
    np.testing.assert_allclose(g.detach().numpy(), 2 * np.exp(2 * x.numpy()))
    g.sum().backward()  # through a result that was saved
    np.testing.assert_allclose(x.grad.numpy(), 4 * np.exp(2 * x.numpy()))
    assert not Exp.apply(x.detach(), 2.0).requires_grad
    slopes = rb.vmap(rb.grad(lambda v: Exp.apply(v, 2.0)))(x.detach())
    np.testing.assert_allclose(slopes.numpy(), 2 * np.exp(2 * x.numpy()))


def test_several_results_and_a_context_set_up_apart() -> None:
    x, y = (rb.tensor(v, requires_grad=True) for v in (3.0, 4.0))
    product, total = Both.apply(x, y)
    (product + 2 * total).backward()
    assert (x.grad.item(), y.grad.item()) == (60.0, 5.0)

    @rb.jit
    def slope(x: rb.Tensor) -> rb.Tensor:
        return rb.grad(lambda x: Both.apply(x, 2 * x)[0])(x)

    assert [slope(rb.tensor(3.0)).item() for _ in range(4)] == [66.0] * 4


def test_what_cannot_be_is_named() -> None:
    class Dirty(rb.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: rb.Tensor) -> rb.Tensor:
            ctx.mark_dirty(x)
            return x

    with pytest.raises(rb.GradientError, match="cannot write"):
        Dirty.apply(rb.ones(1))
    x = rb.ones(2, requires_grad=True)
    with pytest.raises(rb.GradientError, match="only_inputs"):
        rb.autograd.grad(x.sum(), x, only_inputs=False)


def test_a_call_leaves_nothing_behind() -> None:
    contexts: list[Any] = []

    class Noted(rb.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            contexts.append(weakref.ref(ctx))
            return x * 2.0

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return 2.0 * g

    x = rb.ones(2, requires_grad=True)
    for _ in range(8):
        x.grad = None
        Noted.apply(x).sum().backward()
        assert x.grad is not None and x.grad.tolist() == [2.0, 2.0]
    gc.collect()
    alive = [c for c in contexts if c() is not None]  # programs know the ops they were made of
    assert len(alive) < 5


def test_misuse_says_what_is_needed() -> None:
    class Empty(rb.autograd.Function):
        pass

    class Half(rb.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2.0

    class Number(Half):
        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return 2.0

    x = rb.ones(2, requires_grad=True)
    with pytest.raises(rb.GradientError, match="Empty: a static method forward"):
        Empty.apply(x)
    with pytest.raises(rb.GradientError, match="Half: a static method backward"):
        Half.apply(x)
    with pytest.raises(rb.GradientError, match="float; a tensor is needed"):
        Number.apply(x).sum().backward()
    assert Half.apply(rb.ones(1)).tolist() == [2.0]
