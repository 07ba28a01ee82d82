"""PyTorch's names and methods that are made of others (SEMANTICS 22)."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet.graph.value import registry
from rabbet.tensor import lift

ROOT = Path(__file__).resolve().parents[3]
X = np.arange(1.0, 7.0, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("name", [o.name for o in registry.values() if lift.keeps_form(o)])
def test_in_place_is_the_function_and_the_same_tensor(name: str) -> None:
    op = registry[name]
    if len(op.operands) != 1 or op.method is None:
        return
    x = rb.asarray((X / 10).astype(np.float32 if op.name != "bitwise_invert" else np.int32))
    attributes = {"axis": 1} if any(p.name == "axis" for p in op.parameters) else {}
    wanted = getattr(x, op.method)(**attributes)
    same = x
    if wanted.dtype is not x.dtype:
        with pytest.raises(rb.DTypeError, match="in place"):
            getattr(x, f"{op.method}_")(**attributes)
        return
    assert getattr(x, f"{op.method}_")(**attributes) is same
    assert x.numpy().tobytes() == wanted.numpy().tobytes()


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (lambda x: x.cumsum(dim=1), X.cumsum(1)),
        (lambda x: x.amax(dim=1), X.max(1)),
        (lambda x: rb.arctan2(x, x), np.arctan2(X, X)),
        (lambda x: x.mm(x.t()), X @ X.T),
        (lambda x: rb.bmm(x[None], x.t()[None]), (X @ X.T)[None]),
        (lambda x: x.mv(x[0]), X @ X[0]),
        (lambda x: x[0].dot(x[1]), X[0] @ X[1]),
        (lambda x: x.select(1, -1), X[:, -1]),
        (lambda x: x.select(dim=0, index=1), X[1]),
        (lambda x: x.masked_select(x > 3), X[X > 3]),
        (lambda x: x.masked_select(rb.asarray([True, False, True])), X[:, [0, 2]].reshape(-1)),
        (lambda x: x.repeat_interleave(2, dim=0), X.repeat(2, 0)),
        (lambda x: x[0].expand_as(x), np.broadcast_to(X[0], X.shape)),
        (lambda x: x.view_as(rb.ones(3, 2)), X.reshape(3, 2)),
        (lambda x: x.narrow(dim=1, start=1, length=2), X[:, 1:]),
        (lambda x: x.new_full((2,), 3.0), np.full(2, 3, np.float32)),
        (lambda x: x.half(), X.astype(np.float16)),
        (lambda x: x.byte(), X.astype(np.uint8)),
        (lambda x: rb.triu(x, diagonal=1), np.triu(X, 1)),
        (lambda x: x.flip(dims=(0,)), X[::-1]),
        (lambda x: rb.roll(x, shifts=1, dims=1), np.roll(X, 1, 1)),
        (lambda x: x.permute(dims=(1, 0)), X.T),
        (lambda x: rb.pow(x, exponent=2), X**2),
        (lambda x: rb.lerp(x, x * 3, 0.5), X * 2),
        (lambda x: x.clone().addcmul_(x, x, value=2), X + 2 * X * X),
        (lambda x: x.clone().masked_fill_(x > 3, 0.0), np.where(X > 3, 0, X)),
    ],
)
def test_values(found: Any, wanted: np.ndarray) -> None:
    result = found(rb.asarray(X)).numpy()
    assert result.dtype == wanted.dtype
    np.testing.assert_allclose(result, wanted, rtol=1e-6)


def test_products_say_which_ranks_they_take() -> None:
    for name in ("mm", "bmm", "mv", "dot"):
        with pytest.raises(rb.ShapeError, match=f"{name}.*x @ y"):
            getattr(rb, name)(rb.ones(2, 2, 2), rb.ones(2, 2))


def test_a_mask_must_be_bool() -> None:
    with pytest.raises(rb.DTypeError, match="bool"):
        rb.masked_select(rb.ones(2), rb.ones(2))


def test_tensors_are_drawn_in_place() -> None:
    rb.manual_seed(0)
    x = rb.zeros(1000)
    x.uniform_(2, 3)
    assert 2 <= float(x.min()) < 2.1 and 2.9 < float(x.max()) < 3
    x.normal_(5, 0.1)
    assert abs(float(x.mean()) - 5) < 0.05 and abs(float(x.std()) - 0.1) < 0.02
    assert bool((rb.randint_like(x, 2, 4) >= 2).all())
    w = rb.zeros(3, requires_grad=True)
    with rb.no_grad():
        w.normal_()
    assert w.requires_grad and float(w.abs().sum()) > 0


def test_alpha_is_a_factor_of_what_is_added() -> None:
    x = rb.asarray([1.0, 2.0])
    assert rb.add(x, x, alpha=2).tolist() == [3.0, 6.0]
    assert x.sub(rb.ones(2), alpha=0.5).tolist() == [0.5, 1.5]
    assert rb.add(x, 3, alpha=2).tolist() == [7.0, 8.0]
    x.add_(rb.ones(2), alpha=10)
    assert x.tolist() == [11.0, 12.0]


def test_the_larger_of_two_tensors_is_max_of_both() -> None:
    a, b = rb.asarray([1.0, 5.0]), rb.asarray([3.0, 2.0])
    assert rb.max(a, b).tolist() == [3.0, 5.0] and a.min(b).tolist() == [1.0, 2.0]
    with pytest.raises(TypeError, match="axis must be plain data, not a tensor of shape"):
        rb.sum(a, b)


def test_modules_are_where_pytorch_has_them() -> None:
    """As `from rabbet.nn.utils import ...` in a program that imports nothing before."""
    code = (
        "from rabbet.nn.utils.rnn import pad_sequence\n"
        "from rabbet.nn.utils.parametrizations import weight_norm\n"
        "from rabbet.nn.utils import clip_grad_norm_\n"
        "from rabbet.optim.lr_scheduler import StepLR\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_size_is_a_number_and_when_called_a_shape() -> None:
    x = rb.ones(2, 3)
    assert x.size == 6 and isinstance(x.size, int) and f"{x.size} {x.size!r}" == "6 6"
    assert x.size() == (2, 3) and x.size(0) == 2 and x.size(dim=-1) == 3
    with pytest.raises(rb.ShapeError, match="axis 2"):
        x.size(2)
    for again in (copy.deepcopy(x.size), pickle.loads(pickle.dumps(x.size))):
        assert type(again) is int and again == 6
    assert (x.astype(rb.int8) * x.size).dtype is rb.int8  # beside a tensor: a Python number
    assert (x / x.size).sum().item() == pytest.approx(1.0)
    assert x.reshape(x.size).shape == x.view(1, x.size).shape[1:] == rb.zeros(x.size).shape == (6,)


def test_lists_of_tensors_are_stacked_with_their_gradients() -> None:
    t = rb.tensor([1.0, 2.0], requires_grad=True)
    made = rb.asarray([[t[0], 3], [t[1], t[0]]], dtype=rb.float64)
    assert made.tolist() == [[1.0, 3.0], [2.0, 1.0]] and made.dtype is rb.float64
    made.sum().backward()
    assert t.grad.tolist() == [2.0, 1.0]
    leaf = rb.tensor([t, t * 2], requires_grad=True)  # as in PyTorch: a copy, nothing flows back
    assert leaf.is_leaf and leaf.requires_grad and not rb.tensor([t, t]).requires_grad
    assert rb.vmap(lambda x: rb.asarray([x, 2 * x]))(t.detach()).tolist() == [[1, 2], [2, 4]]
    assert rb.asarray([rb.tensor([1], dtype=rb.int8), [2.5]]).dtype is rb.float32
    with pytest.raises(rb.ShapeError, match="rectangular"):
        rb.asarray([t, t[0]])


def test_linear_algebra_as_methods() -> None:
    x = rb.asarray([[4.0, 1.0], [1.0, 3.0]])
    assert x.det().item() == pytest.approx(11) and rb.det(x).item() == pytest.approx(11)
    np.testing.assert_allclose((x @ x.inverse()).numpy(), np.eye(2), atol=1e-6)
    assert x.trace().item() == 7 and x.diagonal().tolist() == [4, 3]
    assert x.logdet().item() == pytest.approx(np.log(11))
    np.testing.assert_allclose(rb.svd(x).S.numpy(), x.svd().S.numpy())
    assert x.norm().item() == pytest.approx(np.sqrt(27))
    assert x.norm(p=1, dim=1).tolist() == [5, 4] and rb.norm(x, dim=0, keepdim=True).shape == (1, 2)
    assert x.norm(1).item() == 9  # of all elements, as PyTorch's
    deep = rb.arange(8).reshape(2, 2, 2)
    assert deep.diagonal(dim1=0, dim2=1).tolist() == [[0, 6], [1, 7]]
    assert rb.diagonal(deep).tolist() == [[0, 3], [4, 7]]


def test_sizes_and_adjoints() -> None:
    assert rb.ones(4, 2, 3).sum_to_size(2, 1).tolist() == [[12.0], [12.0]]
    assert [p.shape for p in rb.ones(5).split_with_sizes([2, 3])] == [(2,), (3,)]
    z = rb.asarray([[1j, 2.0]])
    assert z.mH.tolist() == z.H.tolist() == z.adjoint().tolist() == [[-1j], [2]]


def test_draws_as_methods() -> None:
    x = rb.zeros(4)
    assert set(x.bernoulli_(0.5).tolist()) <= {0.0, 1.0} and rb.ones(2).bernoulli().tolist() == [
        1,
        1,
    ]
    assert bool((x.exponential_(2.0) >= 0).all())
    assert rb.asarray([0.0, 1.0]).multinomial(3, replacement=True).tolist() == [1, 1, 1]


def test_modes_and_devices_of_pytorch_scripts() -> None:
    assert rb.device("cpu") == "cpu" and rb.ones(2).to(rb.device("cpu")).shape == (2,)
    with pytest.raises(rb.DeviceError):
        rb.device("cuda")
    with rb.set_grad_enabled(False):
        assert not rb.is_grad_enabled()
    rb.set_grad_enabled(False)
    assert not rb.is_grad_enabled()
    rb.set_grad_enabled(True)
    with rb.inference_mode():
        assert not rb.is_grad_enabled()
    assert rb.is_grad_enabled() and rb.ones(2).is_signed() and not rb.ones(2).is_cuda


def test_norms_of_zeros_have_a_gradient() -> None:
    norms = (lambda x: rb.pdist(x).sum(), lambda x: rb.dist(x, x), rb.linalg.vector_norm)
    for norm in norms:
        assert rb.grad(norm)(rb.zeros(2, 2)).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    x, y = rb.asarray([1.0, 2.0]), rb.asarray([1.0, 5.0])
    assert [rb.dist(x, y, p).item() for p in (0, 1, 2, 3, rb.inf)] == pytest.approx([1, 3, 3, 3, 3])
    assert rb.pdist(rb.stack([x, y, x]), 0).tolist() == [1.0, 0.0, 1.0]
    with pytest.raises(rb.NumberRangeError, match="0 or more"):
        rb.dist(x, y, -1)


def test_sum_to_size_only_undoes_a_broadcast() -> None:
    assert rb.ones(4, 3).sum_to_size(1, 3).tolist() == [[4.0, 4.0, 4.0]]
    for wrong in ((3, 4), (1, 4, 3)):
        with pytest.raises(rb.ShapeError, match="sum_to_size"):
            rb.ones(4, 3).sum_to_size(wrong)


def test_dtypes_and_words_of_pytorch() -> None:
    whole, nothing = rb.ones(2, dtype="int64"), rb.full(2, rb.nan)
    assert rb.addmv(whole, rb.ones(2, 2, dtype="int64"), whole).tolist() == [3, 3]
    assert rb.addr(nothing, rb.ones(2), rb.ones(2), beta=0).tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert rb.isreal(whole).tolist() == [True, True]
    assert type(whole.nelement()) is type(whole.numel()) is int
    assert len(rb.tensor_split(whole, np.int64(2))) == 2
    places, x = rb.asarray([0, 2, 0]), rb.zeros(3)
    assert x.scatter_add(dim=0, index=places, src=rb.ones(3)).tolist() == [2.0, 0.0, 1.0]
    assert x.gather(dim=0, index=places).tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(rb.NumberRangeError):
        rb.asarray([rb.tensor(1, dtype="int8"), 300])
