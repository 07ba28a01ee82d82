"""Common mistakes: each message names the op, the shapes or dtypes, and the rule broken."""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn

F = nn.functional


def ones(*shape: int, dtype: Any = rb.float32) -> Any:
    """A tensor of this shape."""
    return rb.ones(shape, dtype=dtype)


def ints(*shape: int) -> Any:
    """Zeros, int64."""
    return rb.zeros(shape, dtype=rb.int64)


def parameter(*shape: int) -> Any:
    """A leaf that requires gradients."""
    return nn.Parameter(ones(*shape))


def write(x: Any, key: Any, value: Any) -> None:
    """x[key] = value"""
    x[key] = value


class Small(nn.Module):
    """One layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)

    def forward(self, x: Any) -> Any:
        """The layer's result."""
        return self.fc(x)


class NeverCalled(nn.Module):
    """Its __init__ forgets super().__init__()."""

    def __init__(self) -> None:
        self.fc = nn.Linear(1, 1)


def backward_twice() -> None:
    """The graph is freed by the first one."""
    w = parameter(2)
    loss = (w * w).sum()
    loss.backward()
    loss.backward()


def load_other_state() -> None:
    """The state of an optimizer with more parameters."""
    more = rb.optim.Adam([parameter(3), parameter(3)])
    rb.optim.Adam([parameter(3)]).load_state_dict(more.state_dict())


def trainer_of(parameters: Any) -> rb.Trainer:
    """A Trainer of a small model, with an optimizer over its own or other parameters."""
    model = nn.Linear(2, 1)
    return rb.Trainer(model, "mse", rb.optim.SGD(parameters or model.parameters(), lr=0.1))


@rb.jit
def squared(x: Any) -> Any:
    """Only for square matrices."""
    return x @ x


class Mistake(NamedTuple):
    """What is done, the error's class, and what its message must say."""

    name: str
    make: Callable[[], object]
    error: type[Exception]
    says: tuple[str, ...]


def shape(name: str, make: Callable[[], object], *says: str) -> Mistake:
    """A ShapeError."""
    return Mistake(name, make, rb.ShapeError, says)


def dtype(name: str, make: Callable[[], object], *says: str) -> Mistake:
    """A DTypeError."""
    return Mistake(name, make, rb.DTypeError, says)


def other(name: str, error: type[Exception], make: Callable[[], object], *says: str) -> Mistake:
    """Any other error."""
    return Mistake(name, make, error, says)


OPS = [
    shape(
        "matmul", lambda: ones(4, 5) @ ones(3, 4), "matmul: (4, 5) @ (3, 4)", "inner sizes 5 and 3"
    ),
    shape(
        "batched matmul",
        lambda: ones(2, 4, 5) @ ones(3, 5, 4),
        *("matmul: (2, 4, 5) @ (3, 5, 4)", "leading sizes 2 and 3"),
    ),
    shape("matmul of a number", lambda: ones(2, 2) @ 3, "matmul: (2, 2) @ ()", "use *"),
    shape(
        "linear",
        lambda: nn.Linear(784, 10)(ones(32, 28, 28)),
        *("linear: input (32, 28, 28) @ weight.T (784, 10)", "28 and 784", "reshape((32, 784))"),
    ),
    dtype(
        "linear of float64",
        lambda: nn.Linear(4, 2)(np.zeros((3, 4))),
        *("linear: input is float64 and weight is float32", "input.astype(rb.float32)"),
    ),
    shape("bias", lambda: F.linear(ones(2, 3), ones(4, 3), ones(5)), "weight (4, 3) and bias (5,)"),
    shape(
        "channels",
        lambda: nn.Conv2d(3, 8, 3)(ones(2, 1, 8, 8)),
        *("conv2d: input (2, 1, 8, 8) has 1 channels", "weight (8, 3, 3, 3) wants 3"),
    ),
    shape("image", lambda: nn.Conv2d(3, 8, 3)(ones(8, 8)), "conv2d: input (8, 8)", "(N, C, H, W)"),
    shape(
        "small image", lambda: nn.Conv2d(1, 1, 5)(ones(1, 1, 3, 3)), "conv2d", "(5, 5)", "(3, 3)"
    ),
    shape("groups", lambda: nn.Conv2d(3, 8, 3, groups=2), "Conv2d: groups=2", "3 and 8"),
    shape(
        "max_pool2d", lambda: F.max_pool2d(ones(1, 1, 2, 2), 3), "max_pool2d", "(3, 3)", "(2, 2)"
    ),
    shape("reshape", lambda: ones(4, 5).reshape((3, 7)), "reshape: (4, 5) to (3, 7)", "20", "21"),
    shape("reshape -1", lambda: ones(4, 5).reshape((-1, 3)), "reshape: (4, 5)", "divided by 3"),
    shape("two -1", lambda: ones(4, 5).reshape((-1, -1)), "reshape: (-1, -1)", "one -1"),
    shape(
        "cat", lambda: rb.cat([ones(2, 3), ones(2, 4)]), "concat: (2, 3), (2, 4)", "only in axis 0"
    ),
    shape("cat of nothing", lambda: rb.cat([]), "concat: the list is empty"),
    shape("stack of nothing", lambda: rb.stack([]), "stack: the list is empty"),
    shape("stack", lambda: rb.stack([ones(2), ones(3)]), "stack: (2,), (3,)", "equal"),
    shape(
        "where",
        lambda: rb.where(ones(2) > 0, ones(2), ones(3)),
        *("where: shapes (2,) and (2,) and (3,) do not broadcast", "axis -1"),
    ),
    shape("add", lambda: ones(2, 3) + ones(4), "add: shapes (2, 3) and (4,)", "3 and 4", "axis -1"),
    other("add text", TypeError, lambda: ones(2) + "a", "'Tensor' and 'str'"),
    dtype("and of floats", lambda: ones(2) & ones(2), "bitwise_and: float32", "signed integers"),
    dtype(
        "int64 and uint64",
        lambda: ints(3) + ones(3, dtype=rb.uint64),
        *("add: no integer dtype holds both int64 and uint64", "cast one"),
    ),
    shape(
        "permute", lambda: ones(2, 3).permute((0, 2)), "permute: (2, 3) needs 2 axes, not (0, 2)"
    ),
    shape("expand", lambda: rb.expand(ones(2, 3), (4, 3)), "expand: (2, 3)", "(4, 3)"),
    shape("axis", lambda: ones(2, 3).sum(axis=2), "sum: axis 2 does not exist", "2 axes"),
    other(
        "keyword", TypeError, lambda: ones(2).sum(axes=1), "sum() has no parameter 'axes'", "axis"
    ),
    shape("max of nothing", lambda: rb.max(ones(0)), "max: (0,) has no elements along axes (0,)"),
    shape("squeeze", lambda: rb.squeeze(ones(2, 3), axis=0), "squeeze: (2, 3)", "size 1"),
    shape("repeat", lambda: rb.repeat(ones(3), -1, axis=0), "repeat: repeats=-1 of (3,)"),
    shape("tile", lambda: rb.tile(ones(3), (-1,)), "tile: repetitions (-1,)"),
    shape(
        "einsum",
        lambda: rb.einsum("ij,jk->ik", ones(2, 3), ones(4, 5)),
        *('einsum: "ij,jk->ik": (2, 3) and (4, 5)', "3 and 4"),
    ),
    other("argument", TypeError, lambda: rb.matmul(ones(3)), "matmul() misses the argument 'x2'"),
    shape(
        "class numbers",
        lambda: F.cross_entropy(ones(4, 10), ints(5)),
        *("cross_entropy: input (4, 10) wants target (4,)", "got (5,)"),
    ),
    dtype(
        "float classes",
        lambda: F.cross_entropy(ones(4, 10), ones(4)),
        *("cross_entropy: target is float32", "astype(rb.int64)"),
    ),
    shape("probabilities", lambda: F.cross_entropy(ones(4, 10), ones(4, 9)), "(4, 9)", "(4, 10)"),
    other(
        "class out of range",
        rb.IndexRangeError,
        lambda: F.cross_entropy(ones(4, 10), rb.tensor([1, 2, 3, 10])).item(),
        *("cross_entropy: index 10 (element 3) is out of range: it must be from 0 to 9",),
    ),
    other(
        "negative class",
        rb.IndexRangeError,
        lambda: F.cross_entropy(ones(4, 10), rb.tensor([1, -5, 3, 2])).item(),
        *("cross_entropy: index -5 (element 1) is out of range: it must be from 0 to 9",),
    ),
    shape(
        "mse_loss",
        lambda: F.mse_loss(ones(4, 1), ones(4)),
        *("mse_loss: input (4, 1) and target (4,)", "input.squeeze(-1)"),
    ),
    dtype("embedding", lambda: nn.Embedding(10, 3)(ones(4)), "embedding: indices are float32"),
    shape("layer_norm", lambda: nn.LayerNorm(5)(ones(2, 4)), "layer_norm: input (2, 4)", "(5,)"),
    shape(
        "batch_norm",
        lambda: nn.BatchNorm2d(3)(ones(2, 4, 8, 8)),
        *("batch_norm: weight has shape (3,)", "(4,)", "input (2, 4, 8, 8)"),
    ),
    shape(
        "batch of one",
        lambda: nn.BatchNorm1d(3)(ones(1, 3)),
        "batch_norm: input (1, 3)",
        "one value",
    ),
    shape(
        "attention",
        lambda: F.scaled_dot_product_attention(ones(1, 3, 4), ones(1, 5, 4), ones(1, 6, 4)),
        *("key (1, 5, 4), value (1, 6, 4)", "key has 5 positions, value 6"),
    ),
    shape(
        "take_along", lambda: rb.take_along_axis(ones(3, 4), ints(2, 4), axis=1), "(3, 4)", "(2, 4)"
    ),
]
INDEXING = [
    other(
        "position", rb.IndexRangeError, lambda: ones(3)[5], "index: 5 is outside axis 0 of size 3"
    ),
    shape("too many", lambda: ones(3)[1, 2], "index: (3,) has 1 axes, the key has 2 indices"),
    shape("fraction", lambda: ones(3)[1.5], "index: 1.5 is not an index", "slices"),
    dtype("float indices", lambda: ones(3)[ones(2)], "index: indices are float32"),
    other(
        "index in data",
        rb.IndexRangeError,
        lambda: ones(3)[rb.tensor([7])].numpy(),
        *("take: index 7 (element 0) is out of range: it must be from -3 to 2",),
    ),
    other(
        "index from the end",
        rb.IndexRangeError,
        lambda: ones(3)[rb.tensor([2, -7])].numpy(),
        *("index -7 (element 1) is out of range: it must be from -3 to 2",),
    ),
    other(
        "two indices in data",
        rb.IndexRangeError,
        lambda: ones(3, 4)[rb.tensor([0, 2]), rb.tensor([1, 9])].numpy(),
        *("index 9 (element 1) is out of range: it must be from -4 to 3",),
    ),
    other(
        "written index",
        rb.IndexRangeError,
        lambda: rb.index_add(ones(3), 0, rb.tensor([3]), ones(1)).numpy(),
        *("index 3 (element 0) is out of range: it must be from -3 to 2",),
    ),
    shape("mask", lambda: ones(3)[rb.tensor([True, False])], "index: a mask of shape (2,)", "(3,)"),
    shape(
        "write",
        lambda: write(ones(3, 4), 0, ones(5)),
        *("index: a value of shape (5,)", "x[key] of shape (4,)"),
    ),
    shape(
        "write at indices",
        lambda: write(ones(3, 4), rb.tensor([0, 1]), ones(3, 4)),
        *("index: a value of shape (3, 4)", "x[key] of shape (2, 4)"),
    ),
]
REST = [
    shape("truth", lambda: bool(ones(3)), "bool: the truth of 3 elements", ".any()"),
    shape("item", lambda: ones(3).item(), "item: needs one element, the shape is (3,)"),
    dtype("dtype", lambda: rb.tensor([1], dtype="float3"), "'float3' is not a dtype", "float32"),
    other("device", rb.DeviceError, lambda: rb.tensor([1.0], device="cuda"), "'cuda'", "'cpu'"),
    dtype("objects", lambda: rb.tensor([object()]), "asarray: cannot make a tensor"),
    shape("ragged", lambda: rb.tensor([[1, 2], [3]]), "asarray: nested lists must be rectangular"),
    shape("negative size", lambda: rb.zeros((-1, 2)), "(-1, 2) has a negative size"),
    other("integer leaf", rb.GradientError, lambda: rb.tensor([1], requires_grad=True), "int64"),
    other("backward", rb.GradientError, lambda: parameter(3).exp().backward(), "backward", "(3,)"),
    other(
        "no graph", rb.GradientError, lambda: ones().backward(), "backward", "requires_grad=True"
    ),
    other("twice", rb.GradientError, backward_twice, "sum", "retain_graph=True"),
    other("missing key", rb.RabbetError, lambda: Small().load_state_dict({}), "Small", "fc.weight"),
    other(
        "shape in state",
        rb.RabbetError,
        lambda: Small().load_state_dict({"fc.weight": ones(4, 4), "fc.bias": ones(4)}),
        *("fc.weight: the state has shape (4, 4), the module (4, 3)",),
    ),
    other("no super", AttributeError, NeverCalled, "super().__init__()", "'fc'"),
    other("no layer", TypeError, lambda: nn.Sequential(nn.Linear(2, 3), 5), "Module", "int"),
    other("no parameters", ValueError, lambda: rb.optim.SGD([], lr=0.1), "SGD: got no parameters"),
    other("list of layers", TypeError, lambda: nn.Sequential([nn.ReLU()]), "Sequential(*modules)"),
    other("the class Tensor", TypeError, lambda: rb.Tensor([1]), "Tensor()", "asarray(data)"),
    other("no array", TypeError, lambda: rb.from_numpy([1]), "takes a NumPy array", "rb.asarray"),
    other("device", rb.DeviceError, lambda: rb.device("cuda"), "'cuda'", "only 'cpu'"),
    other("dtype's name", AttributeError, lambda: rb.float, "use rb.float32"),
    other(
        "optimizer by name",
        TypeError,
        lambda: rb.Trainer(nn.ReLU(), optimizer="adam"),
        *("rb.optim.Adam(model.parameters())", "not 'adam'"),
    ),
    other(
        "loss by a wrong name",
        ValueError,
        lambda: rb.Trainer(nn.ReLU(), loss="cross_entrpy"),
        "did you mean 'cross_entropy'?",
    ),
    other(
        "optimizer of another model",
        rb.RabbetError,
        lambda: trainer_of(nn.Linear(2, 1).parameters()).fit(ones(2, 2), ones(2, 1)),
        *("no parameter of this model", "model.parameters()"),
    ),
    other(
        "lists of numbers",
        TypeError,
        lambda: trainer_of(None).fit([[1.0, 2.0]], [[1.0]]),
        "numpy.asarray(x)",
    ),
    other(
        "no callback",
        TypeError,
        lambda: trainer_of(None).fit(ones(2, 2), ones(2, 1), callbacks=[print]),
        "rb.train.Callback",
    ),
    other(
        "a wrong metric",
        ValueError,
        lambda: rb.Trainer(nn.ReLU(), metrics="acuracy"),
        *("'acuracy'", "did you mean 'accuracy'?"),
    ),
    other(
        "schedule of a model",
        TypeError,
        lambda: rb.optim.lr_scheduler.StepLR(nn.Linear(2, 1), 3),  # type: ignore[arg-type]
        *("StepLR", "not of Linear"),
    ),
    other(
        "Keras's loss",
        ValueError,
        lambda: rb.Trainer(nn.ReLU(), loss="sparse_categorical_crossentropy"),
        "use 'cross_entropy'",
    ),
    other(
        "rate", ValueError, lambda: rb.optim.SGD([parameter(3)], lr=-1), "SGD: lr=-1", "0 or more"
    ),
    other(
        "betas", ValueError, lambda: rb.optim.Adam([parameter(3)], betas=(2, 0.9)), "betas=(2, 0.9)"
    ),
    other("optimizer state", rb.RabbetError, load_other_state, "Adam", "[2] parameters", "[1]"),
    other(
        "word of the loader",
        TypeError,
        lambda: rb.data.DataLoader([1], batchsize=2),
        *("DataLoader() has no parameter 'batchsize'", "did you mean 'batch_size'?"),
    ),
    other("batch size", ValueError, lambda: rb.data.DataLoader([1], batch_size=0), "batch_size=0"),
    shape(
        "samples",
        lambda: next(iter(rb.data.DataLoader([np.zeros(2), np.zeros(3)], batch_size=2))),
        *("DataLoader", "(2,)", "(3,)"),
    ),
    shape("dataset", lambda: rb.data.ArrayDataset(np.zeros((3, 2)), np.zeros(4)), "(3, 2)", "(4,)"),
    shape("jit", lambda: squared(ones(2, 3)), "matmul: (2, 3) @ (2, 3)", "in squared"),
    other("save", rb.RabbetError, lambda: rb.save(Small(), "x"), "Small", "state_dict()"),
    shape("a shape of words", lambda: rb.randn("a"), "('a',)", "not an integer"),
    shape("a shape of one half", lambda: rb.zeros(0.5), "0.5", "not made of integers"),
    shape("eye", lambda: rb.eye(-1), "(-1, -1)", "negative"),
    other("randint", ValueError, lambda: rb.randint(5, 2, (3,)), "randint", "[5, 2)"),
    other("dropout", ValueError, lambda: nn.Dropout(1.5), "Dropout: p=1.5"),
]
EVERY = [*OPS, *INDEXING, *REST]


@pytest.mark.parametrize("mistake", EVERY, ids=lambda m: m.name.replace(" ", "-"))
def test_message(mistake: Mistake) -> None:
    """The right kind of error, and every fact that helps."""
    with pytest.raises(mistake.error) as caught:
        mistake.make()
    said = str(caught.value)
    missing = [part for part in mistake.says if part not in said]
    assert not missing, f"{said!r} does not say {missing}"


# Left out: Python's own errors.
OURS = [m for m in EVERY if issubclass(m.error, rb.RabbetError)]


@pytest.mark.parametrize("mistake", OURS, ids=lambda m: m.name.replace(" ", "-"))
def test_line(mistake: Mistake) -> None:
    """A mistake names the user's line: here, never a file of Rabbet."""
    with pytest.raises(mistake.error) as caught:
        mistake.make()
    said = str(caught.value)
    assert len(re.findall(r"\n  at ", said)) == 1, said
    assert re.search(r"\n  at \S*test_messages\.py:\d+ in (\w+|<lambda>): \S", said), said


def test_a_long_line_is_shortened() -> None:
    names: dict[str, Any] = {"ones": ones}
    line = f"ones(2) + ones(3)  # {'long ' * 50}\n"
    linecache.cache["long.py"] = (len(line), None, [line], "long.py")
    try:
        with pytest.raises(rb.ShapeError) as caught:
            exec(compile(line, "long.py", "exec"), names)
        where = str(caught.value).split("\n")[1]
    finally:
        del linecache.cache["long.py"]
    assert where.startswith("  at long.py:1: ones(2)") and where.endswith(" ...")
    assert len(where) < 130


def test_line_stands_before_the_hint() -> None:
    """As the page of first contact shows it."""
    with pytest.raises(rb.ShapeError) as caught:
        nn.Linear(784, 10)(ones(32, 28, 28))
    first, where, hint = str(caught.value).split("\n")
    assert first.endswith("inner sizes 28 and 784 differ")
    assert where.startswith("  at ") and hint.startswith("  hint: ")
    assert caught.value.said == f"{first}\n{hint}"


def test_files_and_programs_of_others_have_no_line() -> None:
    """What a missing package or a damaged file says is not about a line."""
    with pytest.raises(rb.FormatError) as caught:
        raise rb.FormatError("x.rbt: damaged")
    assert str(caught.value) == "x.rbt: damaged"


def test_a_failure_hurts_only_what_depends_on_it() -> None:
    """Tensors that merely waited in the same segment keep their values."""
    before = ones(3) * 2
    leaf = parameter(3)
    wrong = ones(3)[rb.tensor([7])]
    spoilt = wrong + 1
    after = before + leaf
    with pytest.raises(rb.IndexRangeError, match="index 7"):
        wrong.numpy()
    assert (before * 1).tolist() == before.tolist() == [2, 2, 2]
    after.sum().backward()
    assert after.tolist() == [3, 3, 3] and leaf.grad.tolist() == [1, 1, 1]
    with pytest.raises(rb.IndexRangeError, match="index 7"):
        spoilt.numpy()


def test_process_goes_on() -> None:
    """After any number of mistakes the next computation is right, and nothing waits on the tape."""
    for mistake in EVERY:
        with pytest.raises(mistake.error):
            mistake.make()
        assert float((ones(3) * 2).sum()) == 6
