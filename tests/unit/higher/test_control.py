"""cond, switch, while_loop and scan where values are at hand: results and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rabbet as rb


def close(a: Any, b: Any) -> None:
    assert np.allclose(np.asarray(a), np.asarray(b), rtol=1e-10), (a, b)


def piecewise(x: Any) -> Any:
    return rb.cond(x.sum() > 0, lambda x: rb.sin(x).sum(), lambda x: (x * x * x).sum(), x)


def chosen(x: Any) -> Any:
    ways = [lambda x: x * 2, lambda x: x * x, rb.exp]
    return rb.switch(x.sum().astype("int64"), ways, x).sum()


def doubled_until(x: Any) -> Any:
    return rb.while_loop(lambda x: (x * x).sum() < 30, lambda x: x * x + x, x).sum()


def scanned(x: Any) -> Any:
    carry, ys = rb.scan(lambda c, v: (c * v + rb.sin(v), c * c), x[0], x)
    return carry + (ys * ys).sum()


def scanned_backward(x: Any) -> Any:
    return rb.scan(lambda c, v: (c * v + 1, {"c": c}), x[0], x, reverse=True)[1]["c"].sum()


FUNCTIONS = [piecewise, chosen, doubled_until, scanned, scanned_backward]
POINTS = [[0.7, 1.1, 0.4], [-0.7, 0.1, -0.4], [1.2, 0.9, 0.8]]


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("point", POINTS, ids=str)
def test_both_modes_agree_with_finite_differences(f: Any, point: list[float]) -> None:
    if f is doubled_until and min(point) < 0:
        pytest.skip("x * x + x stays small there")
    x = rb.asarray(np.array(point))
    step = 1e-6
    slopes = [
        float(f(x + rb.asarray(e)) - f(x - rb.asarray(e))) / (2 * step) for e in np.eye(3) * step
    ]
    backward = rb.grad(f)(x).numpy()
    assert np.allclose(backward, slopes, rtol=1e-6)
    forward = [float(rb.jvp(f, (x,), (rb.asarray(e),))[1]) for e in np.eye(3)]
    close(forward, backward)
    close(rb.hessian(f)(x).numpy(), rb.jacrev(rb.grad(f))(x).numpy())
    close(rb.jit(rb.grad(f))(x).numpy(), backward)
    close(rb.grad(lambda x: rb.checkpoint(f, x))(x).numpy(), backward)


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_each_example_goes_its_own_way(f: Any) -> None:
    points = [p for p in POINTS if f is not doubled_until or min(p) > 0]
    xs = rb.asarray(np.array(points))
    if f is chosen:
        xs = rb.asarray(np.array([*points, [9.0, 9.0, 9.0], [-5.0, -5.0, -5.0]]))
    close(rb.vmap(f)(xs).numpy(), [float(f(x)) for x in xs])
    close(rb.vmap(rb.grad(f))(xs).numpy(), [rb.grad(f)(x).numpy() for x in xs])


def test_one_recording_replays_both_branches() -> None:
    f = rb.jit(piecewise)
    for point in POINTS * 3:
        close(float(f(rb.asarray(np.array(point)))), float(piecewise(rb.asarray(np.array(point)))))
    assert f.stats["recorded"] <= 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rb.cond(rb.ones(2), abs, abs, rb.ones(2)), rb.ShapeError, "2 elements"),
        (lambda: rb.switch(rb.tensor(0.5), [abs], rb.ones(2)), rb.DTypeError, "0-d integer"),
        (lambda: rb.switch(rb.tensor(0), [], rb.ones(2)), rb.RabbetError, "at least one branch"),
        (
            lambda: rb.while_loop(lambda x: x.sum() < 5, lambda x: rb.concat([x, x]), rb.ones(2)),
            rb.ShapeError,
            r"float32\(2,\) is needed, not float32\(4,\)",
        ),
        (lambda: rb.scan(lambda c, x: (c, x), rb.ones(1)), rb.ShapeError, "none given"),
        (lambda: rb.scan(lambda c, x: (c, x), rb.ones(1), rb.ones(())), rb.ShapeError, "axis 0"),
        (
            lambda: rb.scan(lambda c, x: (c, x), rb.ones(1), (rb.ones(2), rb.ones(3))),
            rb.ShapeError,
            "one length: 2, 3",
        ),
        (
            lambda: rb.scan(lambda c, x: (x, x), rb.ones(1), rb.ones((2, 3))),
            rb.ShapeError,
            "is needed",
        ),
    ],
)
def test_refusals(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
