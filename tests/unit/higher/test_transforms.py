"""vjp, jvp, vmap, Jacobians, Hessians, custom derivatives: by themselves, nested, and under jit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn
from rabbet.base.errors import GradientError, RabbetError, ShapeError
from rabbet.engine import programs


def draw(*shape: int, seed: int = 0) -> rb.Tensor:
    return rb.asarray(np.random.default_rng(seed).normal(size=shape))


A = draw(4, 3, seed=1)


def energy(x: rb.Tensor) -> rb.Tensor:
    return (rb.tanh(A @ x) ** 2).sum()


def layer(x: rb.Tensor) -> rb.Tensor:
    return rb.tanh(A @ x)


def jacobian(x: np.ndarray) -> np.ndarray:
    a = A.numpy()
    return (1 - np.tanh(a @ x) ** 2)[:, None] * a


def same(a: Any, b: Any) -> None:
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-12, atol=1e-12)


# ---- vjp, jvp ------------------------------------------------------------------------------------


def test_vjp_and_jvp_are_the_jacobian_and_its_transpose() -> None:
    x, v, u = draw(3), draw(3, seed=2), draw(4, seed=3)
    y, pull = rb.vjp(layer, x)
    same(y, layer(x))
    same(pull(u)[0], u.numpy() @ jacobian(x.numpy()))
    same(pull(2 * u)[0], 2 * u.numpy() @ jacobian(x.numpy()))  # as often as one likes
    value, moved = rb.jvp(layer, (x,), (v,))
    same(value, y)
    same(moved, jacobian(x.numpy()) @ v.numpy())
    assert not value.requires_grad and not moved.requires_grad


def test_trees_and_aux() -> None:
    params = {"w": draw(3, 2), "b": (draw(2),)}

    def model(p: Any) -> Any:
        y = rb.ones(3, dtype="float64") @ p["w"] + p["b"][0]
        return {"y": y, "s": y.sum()}, y.shape

    result, pull, aux = rb.vjp(model, params, has_aux=True)
    assert aux == (2,)
    (g,) = pull({"y": rb.zeros(2, dtype="float64"), "s": rb.ones((), dtype="float64")})
    same(g["w"], np.ones((3, 2)))
    same(g["b"][0], np.ones(2))
    value, moved, aux = rb.jvp(model, (params,), (params,), has_aux=True)
    same(moved["s"], result["s"])  # linear
    with pytest.raises(GradientError, match="another form"):
        pull([result["y"], result["s"]])
    with pytest.raises(GradientError, match=r"float64\(2,\) is needed"):
        pull({"y": rb.zeros(3, dtype="float64"), "s": result["s"]})


def test_what_does_not_depend_has_zero_derivative() -> None:
    x = draw(3)
    value, moved = rb.jvp(lambda x: (rb.ones(2), x * 2), (x,), (x,))
    assert moved[0].tolist() == [0.0, 0.0]
    same(moved[1], 2 * x.numpy())
    assert rb.vjp(lambda x: rb.floor(x), x)[1](x)[0].tolist() == [0.0] * 3


def test_jvp_of_python_control_flow() -> None:
    def halvings(x: rb.Tensor) -> rb.Tensor:
        while x > 1:
            x = x / 2
        return x * x

    value, moved = rb.jvp(halvings, (rb.tensor(6.0),), (rb.tensor(1.0),))
    assert (value.item(), moved.item()) == (0.5625, 2 * 0.75 / 8)


# ---- Jacobians, Hessians -------------------------------------------------------------------------


def test_jacobians_and_hessians() -> None:
    x, v = draw(3), draw(3, seed=2)
    same(rb.jacrev(layer)(x), jacobian(x.numpy()))
    same(rb.jacfwd(layer)(x), jacobian(x.numpy()))
    h = rb.hessian(energy)(x).numpy()
    same(h, h.T)
    same(h, rb.jacrev(rb.jacrev(energy))(x))
    same(rb.hvp(energy, (x,), (v,)), h @ v.numpy())
    same(rb.grad(lambda x: rb.hvp(energy, (x,), (v,)) @ v)(x).shape, (3,))


def test_jacobians_of_several_arguments() -> None:
    x, y = draw(3), draw(2, seed=4)

    def outer(x: rb.Tensor, y: rb.Tensor) -> rb.Tensor:
        return x[:, None] * y[None, :]

    for transform in (rb.jacrev, rb.jacfwd):
        dx, dy = transform(outer, argnums=(0, 1))(x, y)
        assert dx.shape == (3, 2, 3) and dy.shape == (3, 2, 2)
        same(dx[:, 0, :], np.eye(3) * y.numpy()[0])
        same(transform(outer, argnums=1)(x, y), dy)


# ---- vmap ----------------------------------------------------------------------------------------


def test_vmap_axes() -> None:
    x, w = draw(3, 5), draw(3, 4, seed=1)
    same(rb.vmap(lambda a, w: a @ w, in_axes=(1, None))(x, w), x.numpy().T @ w.numpy())
    same(rb.vmap(lambda a: a * 2, in_axes=1, out_axes=-1)(x), 2 * x.numpy())
    trees = {"x": x, "s": (draw(5, seed=9), 3)}
    found = rb.vmap(lambda t: t["x"] * t["s"][0] * t["s"][1], in_axes=({"x": 1, "s": 0},))(trees)
    same(found, (x.numpy() * trees["s"][0].numpy() * 3).T)
    assert rb.vmap(lambda a: (a, w), in_axes=1, out_axes=(0, None))(x)[1] is not None
    assert rb.vmap(lambda a: w, in_axes=1)(x).shape == (5, 3, 4)  # a result that is the same


def test_vmap_nested_and_over_and_under_grad() -> None:
    x, y = draw(5, 3), draw(4, 3, seed=1)
    same(rb.vmap(lambda a: rb.vmap(lambda b: a @ b)(y))(x), x.numpy() @ y.numpy().T)
    per_sample = rb.vmap(rb.grad(energy))(x)
    same(per_sample, np.stack([rb.grad(energy)(x[i]).numpy() for i in range(5)]))
    w = draw(3, 2, seed=2)
    whole = rb.grad(lambda w: rb.vmap(lambda a: rb.tanh(a @ w).sum())(x).sum())(w)
    same(whole, rb.grad(lambda w: rb.tanh(x @ w).sum())(w))
    same(rb.vmap(rb.hessian(energy))(x)[2], rb.hessian(energy)(x[2]))
    second = rb.grad(
        lambda w: (rb.vmap(rb.grad(lambda w, a: (a @ w).sum() ** 2), (None, 0))(w, x)).sum()
    )
    assert second(w).shape == w.shape


def test_vmap_draws() -> None:
    x = rb.zeros((4, 3))
    rb.manual_seed(0)
    each = rb.vmap(lambda a: a + rb.rand(3))(x).numpy()
    assert len({row.tobytes() for row in each}) == 4
    one = rb.vmap(lambda a: a + rb.rand(3), randomness="same")(x).numpy()
    assert len({row.tobytes() for row in one}) == 1
    rb.manual_seed(0)
    again = rb.vmap(lambda a: a + rb.rand(3))(x).numpy()
    assert again.tobytes() == each.tobytes()
    more = rb.rand(3).numpy()
    assert not (again == more).all(axis=1).any()  # the stream has moved on past all of them
    dropped = rb.vmap(lambda a: nn.functional.dropout(a + 1, 0.5))(rb.zeros((64, 8))).numpy()
    assert 0.3 < (dropped == 0).mean() < 0.7 and len({r.tobytes() for r in dropped}) > 40


def test_vmap_of_a_model_with_a_checked_index() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    images = rb.randn(3, 1, 2, 8, 8)
    with rb.no_grad():
        found = rb.vmap(model)(images)
        np.testing.assert_allclose(found[1].numpy(), model(images[1]).numpy(), rtol=1e-5, atol=1e-6)
    table, places = draw(2, 4), rb.asarray([[0, 3], [1, 4]])
    with pytest.raises(rb.IndexRangeError):
        rb.vmap(lambda t, p: t[p])(table, places).numpy()  # 4 is outside, not the next example's


def test_vmap_says_what_is_wrong() -> None:
    with pytest.raises(RabbetError, match=r"use rb\.where instead of `if`"):
        rb.vmap(lambda a: a if a.sum() > 0 else -a)(draw(3, 2))
    with pytest.raises(ShapeError, match="different numbers of examples"):
        rb.vmap(lambda a, b: a + b)(draw(3, 2), draw(4, 2))
    with pytest.raises(ValueError, match="in_axes has 1 items for 2"):
        rb.vmap(lambda a, b: a + b, in_axes=(0,))(draw(3), draw(3))
    with pytest.raises(ValueError, match="no argument counts examples"):
        rb.vmap(lambda a: a, in_axes=None)(draw(3))
    with pytest.raises(ShapeError, match="inner sizes"):
        rb.vmap(lambda a: a @ A)(draw(5, 3))
    kept: list[rb.Tensor] = []
    rb.vmap(lambda a: kept.append(a) or a)(draw(3))
    with pytest.raises(RabbetError, match="has no value"):
        kept[0].numpy()


# ---- with jit ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: rb.vmap(rb.grad(energy)),
        lambda: rb.vmap(rb.jit(layer)),
        lambda: rb.vmap(rb.hessian(energy)),
        lambda: lambda x: rb.jvp(rb.vmap(layer), (x,), (x,))[1],
        lambda: rb.vmap(lambda a: rb.vjp(layer, a)[1](layer(a))[0]),
    ],
)
def test_under_jit(make: Any) -> None:
    x = draw(5, 3)
    wanted = make()(x).numpy()
    jitted = rb.jit(make())
    for _ in range(4):
        assert jitted(x).numpy().tobytes() == wanted.tobytes()
    assert jitted.stats["replayed"] == 3, jitted.why


# ---- derivatives of one's own --------------------------------------------------------------------


@rb.custom_vjp
def clipped(x: rb.Tensor) -> rb.Tensor:
    return x * 1.0


clipped.defvjp(
    lambda x: (x * 1.0, (x, "kept")), lambda kept, g: (rb.clip(g, -1.0, 1.0) + 0 * kept[0],)
)


@rb.custom_jvp
def softplus(x: rb.Tensor, y: rb.Tensor) -> rb.Tensor:
    return rb.log(1 + rb.exp(x)) * y


@softplus.defjvp
def _softplus_rule(primals: Any, tangents: Any) -> Any:
    (x, y), (tx, ty) = primals, tangents
    return softplus(x, y), tx * rb.sigmoid(x) * y + ty * rb.log(1 + rb.exp(x))


def test_custom_vjp() -> None:
    x = draw(3)
    for f in (
        rb.grad(lambda x: (5 * clipped(x)).sum()),
        rb.jit(rb.grad(lambda x: (5 * clipped(x)).sum())),
    ):
        for _ in range(3):
            assert f(x).tolist() == [1.0] * 3
    same(rb.vmap(rb.grad(lambda x: (5 * clipped(x)).sum()))(draw(2, 3)), np.ones((2, 3)))
    same(clipped(x), x)
    leaf = rb.tensor([1.0, 2.0], requires_grad=True)
    y = clipped(leaf)
    y.numpy()  # a read in mid-forward keeps what the backward pass needs
    (9 * y).sum().backward()
    assert leaf.grad.tolist() == [1.0, 1.0]


def test_custom_jvp_in_both_modes() -> None:
    x, y = draw(3), draw(3, seed=1)
    plain = lambda x, y: rb.log(1 + rb.exp(x)) * y  # noqa: E731
    for argnums in (0, 1):
        same(
            rb.grad(lambda *p: softplus(*p).sum(), argnums)(x, y),
            rb.grad(lambda *p: plain(*p).sum(), argnums)(x, y),
        )
    same(rb.jvp(softplus, (x, y), (y, x))[1], rb.jvp(plain, (x, y), (y, x))[1])
    same(rb.hessian(lambda x: softplus(x, y).sum())(x), rb.hessian(lambda x: plain(x, y).sum())(x))


def test_custom_rules_are_checked() -> None:
    @rb.custom_vjp
    def f(x: rb.Tensor) -> rb.Tensor:
        return x + 0

    with pytest.raises(GradientError, match=r"defvjp\(forward, backward\) is missing"):
        rb.grad(f)(rb.tensor(1.0))
    f.defvjp(lambda x: (x + 0, None), lambda _, g: g)
    with pytest.raises(GradientError, match="one for each of 1 arguments"):
        rb.grad(f)(rb.tensor(1.0))
    f.defvjp(lambda x: (x + 0, None), lambda _, g: (rb.zeros(3),))
    with pytest.raises(GradientError, match=r"has shape \(3,\)"):
        rb.grad(f)(rb.tensor(1.0))


# ---- functional_call -----------------------------------------------------------------------------


def test_functional_call() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    x = rb.randn(5, 3)
    params = {name: p.detach() for name, p in model.named_parameters()}
    loss = lambda p: (rb.functional_call(model, p, x) ** 2).mean()  # noqa: E731
    value, grads = rb.value_and_grad(loss)(params)
    (model(x) ** 2).mean().backward()
    assert value.item() == (model(x) ** 2).mean().item()
    for name, p in model.named_parameters():
        np.testing.assert_allclose(grads[name].numpy(), p.grad.numpy(), rtol=1e-5, atol=1e-7)
    zero = {"0.weight": rb.zeros((4, 3)), "0.bias": rb.zeros(4), "2.bias": rb.ones(1)}
    assert rb.functional_call(model, zero, (x,)).tolist() == [[1.0]] * 5
    assert model[2].bias is dict(model.named_parameters())["2.bias"]
    with pytest.raises(KeyError, match="has no '1.weight'"):
        rb.functional_call(model, {"1.weight": x}, x)
    with pytest.raises(KeyError, match="also needs"):
        rb.functional_call(model, zero, x, strict=True)
    samples = rb.vmap(rb.grad(loss_of_one), in_axes=(None, 0, None))(params, x, Holder(model))
    assert samples["0.weight"].shape == (5, 4, 3)


class Holder:
    """Keeps a model away from the trees of transforms."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model


def loss_of_one(params: Any, x: rb.Tensor, held: Holder) -> rb.Tensor:
    return (rb.functional_call(held.model, params, x) ** 2).sum()


def test_custom_functions_are_found_again() -> None:
    """Steps with a derivative of one's own compile nothing once they are known."""
    leaf = rb.tensor([1.0, 2.0], requires_grad=True)
    counts = []
    for _ in range(5):
        before = programs.statistics["programs_compiled"]
        (3 * clipped(leaf)).sum().backward()
        leaf.grad.numpy()
        leaf.grad = None
        counts.append(programs.statistics["programs_compiled"] - before)
    assert counts[3:] == [0, 0]


def test_gradients_of_custom_jvp_are_values() -> None:
    """Nobody asked to differentiate them; asked, they are differentiable."""
    x = draw(3)
    first = rb.grad(lambda x: softplus(x, rb.ones(3)).sum())
    assert not first(x).requires_grad
    p = draw(3).requires_grad_()
    (g,) = rb.autograd.grad(softplus(p, rb.ones(3)).sum(), [p], create_graph=True)
    assert g.requires_grad
    same(rb.grad(lambda x: first(x).sum())(x), rb.sigmoid(x) * (1 - rb.sigmoid(x)))


def test_rules_are_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same kinds of operands an op has the same batched form and gradient each time."""

    def f(w: Any, x: Any) -> Any:
        return rb.nn.functional.softmax(rb.tanh(2 * x @ w).astype(rb.float64), -1)

    def jacobians(rows: int) -> Any:
        x = rb.asarray(np.linspace(-1, 1, 3 * rows, dtype=np.float32).reshape(rows, 3))
        w = rb.asarray(np.linspace(1, 2, 12, dtype=np.float32).reshape(3, 4))
        one_by_one = rb.stack([rb.jacrev(f)(w, x[i]) for i in range(rows)])
        found = rb.vmap(rb.jacrev(f), in_axes=(None, 0))(w, x).numpy()
        np.testing.assert_allclose(found, one_by_one.numpy(), rtol=1e-6)
        return found

    first = jacobians(5)

    def refuse(*args: Any) -> Any:
        raise AssertionError("asked again")

    monkeypatch.setattr("rabbet.higher.vmap.batch_call", refuse)
    monkeypatch.setattr("rabbet.engine.recipes.call_rule", refuse)
    monkeypatch.setattr("rabbet.engine.backward.call_rule", refuse)
    assert jacobians(5).tobytes() == first.tobytes()
    with pytest.raises(AssertionError, match="asked again"):
        jacobians(6)


def test_autocast_leaves_the_parts_of_an_op_alone_under_vmap() -> None:
    x = rb.asarray(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4))
    with rb.autocast(rb.bfloat16):
        one_by_one = rb.stack([rb.linear(x[i], x) for i in range(3)])
        found = rb.vmap(rb.linear, in_axes=(0, None))(x, x)
    assert found.dtype is one_by_one.dtype is rb.bfloat16
    np.testing.assert_array_equal(found.numpy(), one_by_one.numpy())
