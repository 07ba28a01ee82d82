"""rb.autocast and rb.GradScaler."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn
from rabbet.graph.value import registry

F = nn.functional
HALVES = (rb.bfloat16, rb.float16)


def _net() -> nn.Module:
    rb.manual_seed(3)
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), nn.Flatten(), nn.Linear(64, 5)
    )


def _batch() -> tuple[rb.Tensor, rb.Tensor]:
    rb.manual_seed(4)
    return rb.randn(8, 2, 6, 6), rb.randint(0, 5, (8,))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_narrow_ops_compute_in_it(dtype: Any) -> None:
    x, w = rb.randn(4, 4), rb.randn(4, 4)
    image, taps = rb.randn(1, 2, 5, 5), rb.randn(3, 2, 3, 3)
    with rb.autocast(dtype):
        found = (
            x @ w,
            rb.linear(x, w),
            rb.einsum("ij,jk->ik", x, w),
            rb.tensordot(x, w, 1),
            rb.vecdot(x, w),
            x.mm(w),
            F.conv2d(image, taps),
            F.conv_transpose2d(image, taps.transpose(0, 1)),
            F.scaled_dot_product_attention(x, w, w),
            nn.MultiheadAttention(4, 2)(x, x, x)[0],
            nn.LSTM(4, 4)(x)[0],
            rb.vmap(rb.matmul)(rb.ones((2, 3, 3)), rb.ones((2, 3, 3))),
        )
    assert {f.dtype for f in found} == {dtype}
    half = (x.astype(dtype) @ w.astype(dtype)).numpy()
    assert np.array_equal(found[0].numpy(), half)  # nothing but the casts one would write


def test_wide_ops_compute_in_float32() -> None:
    x = rb.randn(4, 6).astype(rb.bfloat16)
    with rb.autocast():
        found = (
            rb.softmax(x, 1),
            rb.log_softmax(x, 1),
            F.layer_norm(x, (6,)),
            F.cross_entropy(x, rb.asarray([0, 1, 2, 3])),
            F.mse_loss(x, x),
            x.sum(),
            x.mean(0),
            x.var(),
            rb.linalg.norm(x),
        )
        assert {f.dtype for f in found} == {rb.float32}
        assert (x + x).dtype is rb.bfloat16  # and others leave it as it is
        assert rb.relu(x).dtype is rb.bfloat16
    assert np.array_equal(found[0].numpy(), rb.softmax(x.astype(rb.float32), 1).numpy())


def test_other_dtypes_are_left() -> None:
    whole = rb.asarray([[1, 2], [3, 4]])
    with rb.autocast():
        assert (whole @ whole).dtype is rb.int64
        assert whole.sum().dtype is rb.int64
        assert (rb.ones((2, 2), dtype=rb.float64) @ rb.ones((2, 2))).dtype is rb.float64


def test_blocks_nest_and_end() -> None:
    x = rb.ones((2, 2))
    dtypes = []
    with rb.autocast(rb.float16):
        with rb.autocast(rb.bfloat16):
            dtypes.append((x @ x).dtype)
        with rb.autocast(enabled=False):
            assert not rb.is_autocast_enabled()
            dtypes.append((x @ x).dtype)
        dtypes.append((x @ x).dtype)
    with pytest.raises(ZeroDivisionError), rb.autocast():
        raise ZeroDivisionError
    dtypes.append((x @ x).dtype)
    assert dtypes == [rb.bfloat16, rb.float32, rb.float16, rb.float32]


def test_it_is_a_decorator() -> None:
    @rb.autocast(rb.float16)
    def product(x: rb.Tensor) -> rb.Tensor:
        """Doc."""
        assert rb.is_autocast_enabled()
        return x @ x

    assert product(rb.ones((2, 2))).dtype is rb.float16
    assert product.__doc__ == "Doc."


@pytest.mark.parametrize("inside", (False, True))
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_gradients_keep_their_dtype_and_are_those_of_the_casts(dtype: Any, inside: bool) -> None:
    """Also where backward runs inside the block."""
    x = rb.randn(3, 4, requires_grad=True)
    w = rb.randn(5, 4, requires_grad=True)
    with rb.autocast(dtype):
        loss = (rb.linear(x, w) ** 2).sum()
        if inside:
            loss.backward()
    if not inside:
        loss.backward()
    a, b = (t.detach().requires_grad_() for t in (x, w))
    y = rb.linear(a.astype(dtype), b.astype(dtype))
    (y**2).astype(rb.float32).sum().backward()
    for ours, theirs in ((x, a), (w, b)):
        assert ours.grad.dtype is rb.float32
        assert np.array_equal(ours.grad.numpy(), theirs.grad.numpy())


@pytest.mark.parametrize("way", ("grad", "checkpoint", "custom"))
def test_functions_of_functions(way: str) -> None:
    w = rb.randn(4, 4)

    def loss(v: rb.Tensor) -> rb.Tensor:
        with rb.autocast():
            inner = (lambda t: t @ w) if way != "checkpoint" else None
            y = inner(v) if inner else rb.checkpoint(lambda t: t @ w, v)
            assert y.dtype is rb.bfloat16
            return (y * y).sum()

    v = rb.randn(3, 4)
    found = rb.grad(loss)(v)
    y = v.astype(rb.bfloat16) @ w.astype(rb.bfloat16)
    g = (y * 2).numpy().astype(np.float32) @ w.astype(rb.bfloat16).numpy().astype(np.float32).T
    assert found.dtype is rb.float32
    assert np.allclose(found.numpy(), g, rtol=0.02, atol=0.02)


def test_a_training_step_gets_close_and_is_the_same_in_every_way() -> None:
    x, y = _batch()

    def losses(step_of: Any) -> list[float]:
        net = _net()
        optimizer = rb.optim.SGD(net.parameters(), lr=0.1)

        def step(x: rb.Tensor, y: rb.Tensor) -> rb.Tensor:
            with rb.autocast():
                loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()

        step = step_of(step)
        found = [float(step(x, y).item()) for _ in range(6)]
        assert {p.dtype for p in net.parameters()} == {rb.float32}
        return found

    plain = losses(lambda f: f)
    assert plain == losses(rb.jit)
    assert plain[-1] < plain[0]

    def without(f: Any) -> Any:
        return rb.autocast(enabled=False)(f)

    assert losses(lambda f: f) == losses(without)  # the inner block decides


def test_jit_records_for_each_mode() -> None:
    function = rb.jit(lambda a: a @ a)
    x = rb.ones((2, 2))
    assert function(x).dtype is rb.float32
    with rb.autocast():
        assert function(x).dtype is rb.bfloat16
        assert function(x).dtype is rb.bfloat16
    assert function(x).dtype is rb.float32
    assert function.stats == {"recorded": 2, "replayed": 2}


def test_every_rule_is_one_of_two() -> None:
    rules = {op.autocast for op in registry.values()}
    assert rules == {None, "narrow", "wide"}


def test_wrong_dtypes_are_told() -> None:
    with pytest.raises(rb.DTypeError, match="float64 is neither bfloat16 nor float16"):
        rb.autocast(rb.float64)
    with pytest.raises(rb.DTypeError, match=r"'cuda' is a device; write rb.autocast\(rb.bfloat16"):
        rb.autocast("cuda")


# ---- GradScaler ----------------------------------------------------------------------------------


def _scaler(**kwargs: Any) -> tuple[rb.Tensor, Any, Any]:
    w = rb.tensor([1.0, 2.0], requires_grad=True)
    return w, rb.optim.SGD([w], lr=0.5), rb.GradScaler(**kwargs)


def test_scaled_steps_are_those_without() -> None:
    w, optimizer, scaler = _scaler(init_scale=1024.0, growth_interval=2)
    scales = []
    for _ in range(4):
        optimizer.zero_grad()
        scaler.scale((w * w).sum()).backward()
        assert np.array_equal(w.grad.numpy(), 2048 * w.numpy() * scaler.get_scale() / 1024)
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    assert scales == [1024, 2048, 2048, 4096]
    assert w.tolist() == [0, 0]


def test_steps_with_infinite_gradients_are_left_out() -> None:
    w, optimizer, scaler = _scaler(init_scale=8.0)
    scaler.scale((w * float("inf")).sum()).backward()
    assert scaler.step(optimizer) is None
    scaler.update()
    assert w.tolist() == [1, 2]
    assert scaler.get_scale() == 4
    optimizer.zero_grad()
    scaler.scale(w.sum()).backward()
    scaler.unscale_(optimizer)
    assert w.grad.tolist() == [1, 1]
    with pytest.raises(rb.RabbetError, match=r"unscale_\(\) was called"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(rb.RabbetError, match=r"step\(\) was called"):
        scaler.step(optimizer)
    scaler.update()
    assert w.tolist() == [0.5, 1.5]


def test_small_gradients_survive_float16() -> None:
    def gradient(scaler: Any) -> float:
        w = rb.tensor([[1.0]], requires_grad=True)
        optimizer = rb.optim.SGD([w], lr=1.0)
        with rb.autocast(rb.float16):
            y = w @ rb.tensor([[1.0]])
        scaler.scale((y.astype(rb.float32) * 1e-9).sum()).backward()
        scaler.unscale_(optimizer)
        return float(w.grad.item())

    assert gradient(rb.GradScaler(enabled=False)) == 0
    assert gradient(rb.GradScaler()) == pytest.approx(1e-9, rel=1e-3)


def test_several_optimizers_share_a_scale() -> None:
    u, first, scaler = _scaler(init_scale=8.0)
    v = rb.tensor([1.0], requires_grad=True)
    second = rb.optim.SGD([v], lr=1.0)
    for loss in scaler.scale([(u * float("nan")).sum(), v.sum()]):
        loss.backward()
    scaler.step(first)
    scaler.step(second)
    scaler.update()
    assert u.tolist() == [1, 2]
    assert v.tolist() == [0]
    assert scaler.get_scale() == 4


def test_under_jit_both_outcomes_are_recorded() -> None:
    w, optimizer, scaler = _scaler(init_scale=8.0)

    @rb.jit
    def step(factor: rb.Tensor) -> rb.Tensor:
        optimizer.zero_grad()
        loss = (w * factor).sum()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    one, infinite = rb.tensor(1.0), rb.tensor(float("inf"))
    for factor in (one, infinite, one, infinite, one, infinite):
        step(factor)
    assert step.why == ""
    assert step.stats["replayed"] >= 3
    assert w.tolist() == [-0.5, 0.5]
    assert scaler.get_scale() == 1


def test_its_state_goes_on() -> None:
    w, optimizer, scaler = _scaler(init_scale=16.0, growth_interval=5)
    scaler.scale(w.sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    state = scaler.state_dict()
    assert state == {
        "scale": 16.0,
        "growth_factor": 2.0,
        "backoff_factor": 0.5,
        "growth_interval": 5,
        "_growth_tracker": 1,
    }
    other = rb.GradScaler()
    assert other.load_state_dict(state).state_dict() == state
    with pytest.raises(rb.RabbetError, match="no 'scale'"):
        other.load_state_dict({})
    with pytest.raises(rb.RabbetError, match="needs a step"):
        other.update()
    with pytest.raises(ValueError, match="growth_factor"):
        rb.GradScaler(growth_factor=1.0)


def test_parameters_in_float16_are_refused() -> None:
    w = rb.tensor([1.0], dtype=rb.float16, requires_grad=True)
    scaler = rb.GradScaler()
    scaler.scale(w.sum()).backward()
    with pytest.raises(rb.RabbetError, match="keep parameters in float32"):
        scaler.step(rb.optim.SGD([w], lr=1.0))


def test_einsum_of_halves_gives_halves() -> None:
    x = rb.ones((2, 2), dtype=rb.bfloat16)
    assert rb.einsum("ij,jk->ik", x, x).dtype is rb.bfloat16
