"""checkpoint: the same bits with less memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn


def blocks(count: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        *(
            nn.Sequential(
                nn.Linear(width, 4 * width),
                nn.GELU(),
                nn.Dropout(0.2),
                nn.Linear(4 * width, width),
                nn.LayerNorm(width),
            )
            for _ in range(count)
        )
    )


def train(checkpointed: bool, jitted: bool, read: bool = False) -> tuple[list[Any], int]:
    """Losses and parameters after some steps, and the bytes of intermediates of the last one."""
    rb.manual_seed(3)
    model = blocks(8, 32)
    x = rb.asarray(np.random.default_rng(0).standard_normal((512, 32)).astype(np.float32))
    optimizer = rb.optim.SGD(model.parameters(), lr=0.05)

    def step(x: rb.Tensor) -> rb.Tensor:
        h = x
        for block in model:
            h = rb.checkpoint(block, h) if checkpointed else block(h)
        loss = (h * h).mean()
        if read:
            float(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    run = rb.jit(step) if jitted else step
    losses = [float(run(x)) for _ in range(3)]
    arena = rb.explain().arena_bytes
    return [losses, *(p.numpy().tobytes() for p in model.parameters())], arena


@pytest.mark.parametrize("jitted", [False, True])
def test_same_bits_in_a_third_of_the_memory(jitted: bool) -> None:
    plain, much = train(False, jitted)
    saving, little = train(True, jitted)
    assert plain == saving
    assert little < much / 3, (little, much)


def test_a_loss_read_before_backward_ends_the_segment() -> None:
    assert train(False, False, read=True)[0] == train(True, False, read=True)[0]


def test_parameters_changed_between_forward_and_backward() -> None:
    """Tensors are values: the gradient is that of the forward pass that was run."""
    w = rb.tensor([3.0], requires_grad=True)
    y = rb.checkpoint(lambda x: rb.sin(x * w), rb.tensor([2.0])).sum()
    with rb.no_grad():
        w.copy_(rb.tensor([50.0]))
    y.backward()
    assert np.allclose(w.grad.numpy(), 2 * np.cos(6.0))


def test_buffers_are_updated_once() -> None:
    norm = nn.BatchNorm1d(4)
    x = rb.randn((8, 4)).detach()
    x.requires_grad_()
    rb.checkpoint(norm, x).sum().backward()
    assert int(norm.num_batches_tracked) == 1


def test_trees_keywords_and_results_without_gradients() -> None:
    def f(pair: dict[str, rb.Tensor], scale: float = 1.0) -> dict[str, Any]:
        return {"y": rb.exp(pair["a"]) * scale, "n": 3, "i": rb.arange(2), "b": pair["b"]}

    a, b = (rb.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    out = rb.checkpoint(f, {"a": a, "b": b}, scale=2.0)
    assert out["n"] == 3 and out["b"] is b and out["i"].tolist() == [0, 1]
    out["y"].sum().backward()
    assert np.allclose(a.grad.numpy(), 2 * np.exp(a.detach().numpy()))


def f(x: rb.Tensor) -> rb.Tensor:
    return rb.sin(x * x) * x


@pytest.mark.parametrize(
    "of",
    [
        lambda f: rb.grad(lambda x: f(x).sum()),
        lambda f: rb.grad(lambda x: rb.grad(lambda x: f(x).sum())(x).sum()),
        lambda f: rb.hessian(lambda x: f(x).sum()),
        lambda f: lambda x: rb.jvp(f, (x,), (x + 1,))[1],
        lambda f: rb.vmap(rb.grad(lambda x: f(x).sum())),
        lambda f: rb.grad(lambda x: rb.vmap(f)(x).sum()),
        lambda f: rb.jit(rb.grad(lambda x: f(x).sum())),
    ],
    ids=["grad", "second", "hessian", "jvp", "vmap-grad", "grad-vmap", "jit"],
)
def test_under_transforms(of: Any) -> None:
    x = rb.asarray(np.linspace(-1, 2, 6)).reshape(2, 3).astype("float64")
    nested = lambda x: rb.checkpoint(lambda x: rb.checkpoint(f, x) + 0.0, x)  # noqa: E731
    wanted, found = (of(g)(x).numpy() for g in (f, nested))
    assert np.allclose(wanted, found, rtol=1e-12)


def test_a_derivative_of_ones_own_inside() -> None:
    @rb.custom_vjp
    def doubled(x: rb.Tensor) -> rb.Tensor:
        return x * 2

    doubled.defvjp(lambda x: (x * 2, x), lambda x, g: (g * 7,))
    f = lambda x: (rb.checkpoint(lambda x: rb.sin(doubled(x)), x) * 1.0).sum()  # noqa: E731
    x = rb.tensor([0.5, 1.0], requires_grad=True)
    y = f(x)
    float(y)
    y.backward()
    assert np.allclose(x.grad.numpy(), 7 * np.cos([1.0, 2.0]))


def test_values_read_inside_end_segments_and_change_nothing() -> None:
    def f(x: rb.Tensor) -> rb.Tensor:
        mask = x > 0
        y = rb.exp(x) * mask
        assert float(y.sum()) > 0
        return rb.sin(y) * mask

    x = rb.tensor([1.0, -2.0, 0.5], requires_grad=True)
    rb.checkpoint(f, x).sum().backward()
    e = np.exp(x.detach().numpy())
    assert np.allclose(x.grad.numpy(), np.cos(e) * e * (x.detach().numpy() > 0))
