"""Hooks on what flows back through a module."""

from __future__ import annotations

from typing import Any

import pytest

import rabbet as rb
from rabbet import nn


def test_hooks_see_and_change_gradients() -> None:
    layer = nn.Linear(2, 3)
    seen: list[Any] = []

    def hook(module: nn.Module, grad_input: Any, grad_output: Any) -> Any:
        seen.append((module, grad_input, grad_output))
        return tuple(None if g is None else 2 * g for g in grad_input)

    handle = layer.register_full_backward_hook(hook)
    x = rb.ones(4, 2, requires_grad=True)
    layer(x).sum().backward()
    ((module, (grad_input,), (grad_output,)),) = seen
    assert module is layer and grad_output.tolist() == [[1.0] * 3] * 4
    plain = layer.weight.detach().sum(axis=0)
    assert rb.allclose(grad_input, plain.expand(4, 2)) and rb.allclose(x.grad, 2 * grad_input)
    layer(rb.ones(4, 2)).sum().backward()  # no gradient for the argument: only the results'
    assert seen[1][1] == (None,) and seen[1][2][0].shape == (4, 3)
    handle.remove()
    layer(x).sum().backward()
    assert len(seen) == 2


def test_lazy_layers_keep_their_hooks() -> None:
    layer, seen = nn.LazyLinear(3), []
    layer.register_full_backward_hook(lambda m, i, o: seen.append(o[0].shape))
    layer(rb.ones(1, 2)).sum().backward()
    assert seen == [(1, 3)]


def test_one_call_of_several_modules() -> None:
    models = [nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)) for _ in range(3)]
    params, buffers = rb.func.stack_module_state(models)
    assert params["0.weight"].shape == (3, 3, 4) and params["0.weight"].is_leaf
    assert params["0.weight"].requires_grad and buffers["1.running_mean"].shape == (3, 3)
    template = models[0].eval()

    def call(p: Any, b: Any, x: rb.Tensor) -> rb.Tensor:
        return rb.functional_call(template, (p, b), (x,))

    x = rb.randn(5, 4)
    every = rb.func.vmap(call, in_dims=(0, 0, None))(params, buffers, x)
    for model, y in zip(models, every, strict=True):
        assert rb.allclose(model.eval()(x), y, atol=1e-6)
    gradient, value = rb.func.grad_and_value(lambda p: call(p, {}, x).sum())(
        dict(models[1].named_parameters())
    )
    assert gradient["0.bias"].shape == (3,) and value.shape == ()


def test_softmax_of_another_dtype() -> None:
    x = rb.asarray([1.0, 2.0], dtype=rb.float16)
    for name in ("softmax", "log_softmax"):
        wanted = getattr(nn.functional, name)(x.float(), dim=-1)
        for made in (
            getattr(nn.functional, name)(x, dim=-1, dtype=rb.float32),
            getattr(x, name)(-1, dtype=rb.float32),
            getattr(rb, name)(x, dim=-1, dtype=rb.float32),
        ):
            assert made.dtype is rb.float32 and (made == wanted).all()


def test_only_modules_of_one_form_are_stacked() -> None:
    small, large = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    for models in ([small, large], [nn.Linear(2, 2), nn.Linear(2, 3)]):
        with pytest.raises(rb.RabbetError, match="of one form"):
            rb.func.stack_module_state(models)


def test_a_hook_gives_as_many_gradients_as_it_got() -> None:
    layer = nn.Linear(2, 2)
    layer.register_full_backward_hook(lambda module, inputs, outputs: (*inputs, *inputs))
    with pytest.raises(rb.GradientError, match="Linear: a hook gave 2 gradients for 1"):
        layer(rb.ones(1, 2, requires_grad=True)).sum().backward()
