"""What a step of a random program can be: one function per family of ops.

A function adds steps to a Maker and may be refused with a RabbetError. EVERY names each as often
as it shall weigh.
"""

from __future__ import annotations

from collections.abc import Callable

from rabbet.base.dtypes import dtype_of
from tests.equivalence.generator import Maker
from tests.equivalence.programs import Ref, Step

NUMBERS = (2, 0.5, -1.5, 3, 1.0, 0.0, -0.0, True, 1e-3)
SMOOTH = (
    *("negative", "abs", "square", "exp", "tanh", "sigmoid", "relu", "erf", "sin", "cos", "sign"),
    *("floor", "ceil", "round", "trunc", "gelu", "silu", "softplus", "leaky_relu", "elu", "expm1"),
    *(
        "hardswish",
        "mish",
        "positive",
        "detach",
        "atan",
        "asinh",
        "hardtanh",
        "logsigmoid",
        "isnan",
    ),
)
POSITIVE = ("log", "sqrt", "rsqrt", "reciprocal", "log1p", "log2")
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "hypot", "atan2")
COMPARE = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
REDUCE = ("sum", "max", "min", "mean", "prod", "logsumexp", "argmax", "argmin", "var")


def unary(m: Maker) -> Ref:
    """A smooth function of anything floating."""
    return m.call(m.pick(SMOOTH), m.any("f"))


def unary_positive(m: Maker) -> Ref:
    """A function that wants positive numbers: of a square plus one."""
    x = m.call("square", m.any("f"))
    return m.call(m.pick(POSITIVE), m.call("add", x, 1))


def binary(m: Maker) -> Ref:
    """Two operands that broadcast."""
    x = m.any("f")
    y = m.mate(x)
    return m.call(m.pick(BINARY), *((x, y) if m.chance(0.5) else (y, x)))


def with_number(m: Maker) -> Ref:
    """A tensor and a Python number, either way around."""
    x, number = m.any("fffi"), m.pick(NUMBERS)
    op = m.pick(("add", "subtract", "multiply", "maximum", "divide"))
    return m.call(op, *((x, number) if m.chance(0.6) else (number, x)))


def integers(m: Maker) -> Ref:
    """Integer arithmetic; divisors are odd, so never 0."""
    x = m.any("iu")
    op = m.pick(
        (
            "add",
            "multiply",
            "subtract",
            "maximum",
            "bitwise_and",
            "bitwise_xor",
            "floor_divide",
            "remainder",
        )
    )
    y = m.mate(x)
    if op in ("floor_divide", "remainder"):
        y = m.call("add", m.call("multiply", y, 2), 1)
    return m.call(op, x, y)


def compare(m: Maker) -> Ref:
    """A comparison, used at once or kept."""
    x = m.any("fi")
    return m.call(m.pick(COMPARE), x, m.mate(x) if m.chance(0.6) else m.pick((0, 0.5, 1)))


def logical(m: Maker) -> Ref:
    """Bools."""
    x = m.any("b")
    if m.chance(0.3):
        return m.call("logical_not", x)
    return m.call(m.pick(("logical_and", "logical_or", "logical_xor")), x, m.mate(x))


def choose(m: Maker) -> Ref:
    """where."""
    x = m.any("f")
    condition = m.mate(x, kinds="b")
    return m.call("where", condition, x, m.mate(x) if m.chance(0.6) else m.pick((0, 1.5)))


def cast(m: Maker) -> Ref:
    """Another dtype."""
    dtype = m.pick(("float32", "float64", "int32", "int64", "bool", "float32"))
    return m.call("cast", m.any("fib"), dtype=dtype_of(dtype))


def move(m: Maker) -> Ref:
    """Permutations, flips, rolls, diagonals and their kin."""
    x = m.any("fffib")
    n = m.value(x).ndim
    keys = [m.source.random() for _ in range(6)][:n]
    order = tuple(sorted(range(n), key=lambda a: keys[a]))
    how = m.below(9)
    if how < 3:
        return m.call("permute", x, axes=order)
    if how == 3:
        return m.call("flip", x, axis=m.axes(x))
    if how == 4:
        return m.call("roll", x, shift=m.below(4) - 1, axis=m.axis(x))
    if how == 5:
        return m.call("unsqueeze", x, axis=m.below(n + 1))
    if how == 6:
        return m.call(m.pick(("tril", "triu")), x, k=m.below(3) - 1)
    if how == 7:
        return m.call("repeat", x, repeats=2, axis=m.axis(x))
    return m.call("diagonal", x, offset=m.below(3) - 1)


def reshape(m: Maker) -> Ref:
    """Neighbouring axes merged, or an axis split."""
    x = m.any("fffib")
    shape = list(m.shape_of(x))
    at, merge = m.below(max(len(shape) - 1, 1)), m.chance(0.5)
    if len(shape) < 2 or not merge:
        divisor = m.pick((2, 3, 1))
        at = min(at, max(len(shape) - 1, 0))
        if not shape or shape[at] % divisor:
            return m.call("reshape", x, shape=(1, *shape))
        return m.call(
            "reshape", x, shape=(*shape[:at], shape[at] // divisor, divisor, *shape[at + 1 :])
        )
    return m.call("reshape", x, shape=(*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :]))


def expand(m: Maker) -> Ref:
    """New axes in front, axes of size 1 stretched."""
    x = m.any("ffib")
    stretch, lead = m.pick((2, 3, 5)), m.chance(0.5)
    shape = tuple(stretch if n == 1 else n for n in m.shape_of(x))
    return m.call("expand", x, shape=(m.size(), *shape) if lead else shape)


def pad(m: Maker) -> Ref:
    """Padding of any sign of fill, with gaps."""
    x = m.any("fffi")
    n = m.value(x).ndim
    low, high, gaps = (tuple(m.below(3) for _ in range(5))[:n] for _ in range(3))
    gaps = tuple(g // 2 for g in gaps)
    fill = m.pick((0.0, 0.0, 1.0, -2.0))
    return m.call("pad", x, low=low, high=high, interior=gaps, fill=fill)


def key_item(m: Maker, n: int) -> object:
    """One item of an indexing key for an axis of size n."""
    how, a, b = m.below(6), m.source.random(), m.source.random()
    step = m.pick((1, 1, 2, -1, -2, 3))
    if how == 0 and n:
        at = min(int(a * n), n - 1)
        return at - n if b < 0.3 else at
    if how < 3:
        return slice(None)
    first, last = sorted((int(a * (n + 1)), int(b * (n + 1))))
    if step < 0:
        first, last = last, first
        return slice(first if first < n else None, last - 1 if last else None, step)
    return slice(first if first else None, last - n if last < n else None, step)


def key(m: Maker, x: Ref) -> tuple[object, ...]:
    """A basic indexing key, with None and ... now and then."""
    items = [key_item(m, n) for n in m.shape_of(x)]
    if m.chance(0.15):
        items.insert(m.below(len(items) + 1), None)
    if m.chance(0.2):
        items = [Ellipsis, *items[-1:]]
    return tuple(items)


def get(m: Maker) -> Ref:
    """x[key]"""
    x = m.any("fffib")
    return m.add(Step("get", "", (x, key(m, x))))


def index_leaf(m: Maker, n: int, rank: int) -> Ref:
    """Indices into an axis of size n."""
    shape = m.shape(rank)
    return m.leaf(shape if n else (0,) * max(rank, 1), m.pick(("int64", "int32")), max(n, 1))


def get_at(m: Maker) -> Ref:
    """x[..., indices, ...] with tensors of indices."""
    x = m.any("fffib")
    shape = m.shape_of(x)
    items: list[object] = [slice(None)] * len(shape)
    at = m.below(max(len(shape), 1))
    if shape:
        items[at] = index_leaf(m, shape[at], m.pick((1, 1, 2, 0)))
    return m.add(Step("get", "", (x, tuple(items))))


def take(m: Maker) -> Ref:
    """take, embedding, take_along_axis, one_hot."""
    x = m.any("fffi")
    shape, how = m.shape_of(x), m.below(4)
    axis = m.below(max(len(shape), 1))
    if not shape:
        return m.call("negative", x)
    if how == 0:
        return m.call("one_hot", index_leaf(m, 4, 1), num_classes=4)
    if how == 1 and shape[axis]:
        indices = m.leaf(shape, "int64", shape[axis])
        return m.call("take_along_axis", x, indices, axis=axis)
    return m.call("take", x, index_leaf(m, shape[axis], m.pick((1, 2))), axis=axis)


def scatter(m: Maker) -> Ref:
    """scatter_add and scatter_set."""
    x = m.any("fffi")
    shape = m.shape_of(x)
    axis = m.below(max(len(shape), 1))
    if not shape:
        return m.call("negative", x)
    indices = index_leaf(m, shape[axis], m.pick((1, 1, 2)))
    updates = (*shape[:axis], *m.shape_of(indices), *shape[axis + 1 :])
    values = m.leaf(updates, m.value(x).dtype.name)
    if m.chance(0.4):
        values = m.call("multiply", values, 2)
    return m.call(m.pick(("scatter_add", "scatter_set")), x, indices, values, axis=axis)


def writable(m: Maker, kinds: str = "f") -> Ref:
    """A register that may be updated in place: not a leaf."""
    x = m.any(kinds)
    return m.call("multiply", x, 2) if m.steps[x.number].kind == "leaf" or m.chance(0.3) else x


def put(m: Maker) -> Ref:
    """x[key] = value"""
    x = writable(m)
    where = key(m, x)
    probe = m.add(Step("get", "", (x, where)))
    if m.chance(0.4):
        return m.add(Step("put", "", (x, where, m.call("add", probe, 1))))
    shape = tuple(
        1 if s else n for n, s in zip(m.shape_of(probe), [m.chance(0.3)] * 9, strict=False)
    )
    return m.add(Step("put", "", (x, where, m.leaf(shape, m.value(x).dtype.name))))


def put_at(m: Maker) -> Ref:
    """x[indices] = value, places maybe named twice."""
    x = writable(m)
    shape = m.shape_of(x)
    if not shape:
        return x
    indices = index_leaf(m, shape[0], 1)
    value = m.leaf((*m.shape_of(indices), *shape[1:]), m.value(x).dtype.name)
    return m.add(Step("put", "", (x, indices, value)))


def update(m: Maker) -> Ref:
    """x op= y"""
    x = writable(m)
    y = m.leaf(m.shape_of(x), m.value(x).dtype.name) if m.chance(0.5) else m.pick((2, 0.5, 1))
    return m.add(Step("update", m.pick(("add", "subtract", "multiply")), (x, y)))


def branch(m: Maker) -> Ref:
    """An `if` on a value."""
    condition, first = m.any("f"), m.any("f")
    second = m.call("add", first, 1)
    return m.add(Step("branch", "", (condition, first, second)))


def random(m: Maker) -> Ref:
    """Fresh random numbers."""
    drawn = m.add(Step("random", "", (), (("shape", m.shape(m.pick((1, 2)))),)))
    return m.call("less", drawn, 0.5) if m.chance(0.5) else drawn


def reduce(m: Maker) -> Ref:
    """Any reduction over any axes."""
    x, op = m.any("ffffi"), m.pick(REDUCE)
    keepdims = m.chance(0.4)
    if op in ("argmax", "argmin"):
        axis = m.axis(x)
        return m.call(op, x, axis=axis if m.value(x).ndim else None, keepdims=keepdims)
    return m.call(op, x, axis=m.axes(x), keepdims=keepdims)


def truth(m: Maker) -> Ref:
    """any, all."""
    x = m.any("bf")
    return m.call(m.pick(("any", "all")), x, axis=m.axes(x), keepdims=m.chance(0.3))


def cumulative(m: Maker) -> Ref:
    """Running sums, products and log-sum-exps."""
    x = m.any("ffi")
    if not m.value(x).ndim:
        return x
    op = m.pick(("cumulative_sum", "cumulative_sum", "cumulative_prod", "logcumsumexp"))
    return m.call(op, m.call("tanh", x) if op == "cumulative_prod" else x, axis=m.axis(x))


def order(m: Maker) -> Ref:
    """Sorted elements, their positions, places in a sorted vector."""
    x = m.any("fffib")
    how, axis, descending = m.below(4), m.axis(x), m.chance(0.4)
    if not m.value(x).ndim:
        return x
    if how == 0:
        return m.call("argsort", x, axis=axis, descending=descending)
    if how == 1:
        line = m.leaf(m.shape(1), m.value(x).dtype.name)
        return m.call("searchsorted", m.call("sort", line), x, side=m.pick(("left", "right")))
    return m.call("sort", x, axis=axis, descending=descending)


def join(m: Maker) -> Ref:
    """concat and stack."""
    x = m.any("ffi")
    axis = m.axis(x)
    other = m.leaf(m.shape_of(x), m.value(x).dtype.name)
    return m.call(m.pick(("concat", "stack")), [x, other] if m.chance(0.7) else [x, x], axis=axis)


def contract(m: Maker) -> Ref:
    """matmul with batches and broadcasting, linear, outer, einsum."""
    x = m.any("f")
    shape, dtype = m.shape_of(x), m.value(x).dtype.name
    how = m.below(5)
    if not shape:
        return m.call("multiply", x, x)
    if how == 0 and len(shape) >= 2:
        bias = m.leaf((4,), dtype) if m.chance(0.5) else None
        return m.call("linear", x, m.leaf((4, shape[-1]), dtype), bias)
    if how == 1 and len(shape) == 2:
        return m.call("einsum", [x, m.leaf((shape[0], 3), dtype)], equation="ij,ik->kj")
    if how == 2 and len(shape) == 2:
        return m.call("matmul", x, m.call("permute", x, axes=(1, 0)))
    if how == 3:
        return m.call("vecdot", x, m.mate(x))
    lead = shape[:-2] if m.chance(0.5) else ()
    y = m.leaf((*lead, shape[-1], m.pick((1, 3, 8, 33))), dtype)
    result = m.call("matmul", x, y)
    return m.call("relu", result) if m.chance(0.3) else result


def contract_long(m: Maker) -> Ref:
    """A contraction over more than one block of k."""
    dtype, k = m.pick(("float32", "float64")), m.pick((257, 300, 520))
    x = m.leaf((m.pick((1, 2, 3)), k), dtype)
    return m.call("matmul", x, m.leaf((k, m.pick((1, 2, 5))), dtype))


def normalise(m: Maker) -> Ref:
    """softmax and norms."""
    x = m.any("f")
    shape, dtype = m.shape_of(x), m.value(x).dtype.name
    how = m.below(6)
    if not shape:
        return m.call("tanh", x)
    if how < 2:
        return m.call(m.pick(("softmax", "log_softmax")), x, axis=m.axis(x))
    if how == 2:
        weight = m.leaf(shape[-1:], dtype) if m.chance(0.5) else None
        return m.call("rms_norm", x, shape[-1:], weight, eps=1e-5)
    if how == 3 and len(shape) >= 2:
        return m.call("group_norm", x, num_groups=1)
    weights = [m.leaf(shape[-1:], dtype) for _ in range(2)] if m.chance(0.6) else [None, None]
    named = dict(zip(("weight", "bias"), weights, strict=True))
    return m.add(Step("call", "layer_norm", (x, shape[-1:], *named.values())))


def loss(m: Maker) -> Ref:
    """cross_entropy and its kin."""
    x = m.any("f", 2)
    rows, classes = m.shape_of(x)
    how = m.below(3)
    if how == 0 and classes:
        return m.call("cross_entropy", x, m.leaf((rows,), "int64", classes))
    y = m.leaf((rows, classes), m.value(x).dtype.name)
    return m.call(m.pick(("mse_loss", "smooth_l1_loss", "l1_loss")), x, y)


def convolve(m: Maker) -> Ref:
    """conv1d, conv2d with stride, padding, dilation, groups."""
    rank = m.pick((1, 2, 2))
    x = m.any("f", rank + 2)
    channels, dtype = m.shape_of(x)[1], m.value(x).dtype.name
    grouped = m.chance(0.3) and channels % 2 == 0
    kernel = tuple(m.pick((1, 2, 3)) for _ in range(rank))
    weight = m.leaf((4, channels // 2 if grouped else channels, *kernel), dtype)
    bias = m.leaf((4,), dtype) if m.chance(0.5) else None
    attrs = {
        "stride": m.pick((1, 1, 2)),
        "padding": m.pick((0, 1, 1)),
        "dilation": m.pick((1, 1, 2)),
    }
    return m.call(f"conv{rank}d", x, weight, bias, groups=2 if grouped else 1, **attrs)


def pool(m: Maker) -> Ref:
    """max and average pooling."""
    rank = m.pick((1, 2, 2))
    x = m.any("f", rank + 2)
    attrs = {"kernel_size": m.pick((2, 2, 3)), "stride": m.pick((1, 2, 3)), "padding": m.below(2)}
    return m.call(f"{m.pick(('max', 'avg'))}_pool{rank}d", x, **attrs)


def attend(m: Maker) -> Ref:
    """Attention, causal or not."""
    x = m.any("f", 3)
    return m.call("scaled_dot_product_attention", x, x, m.mate(x), is_causal=m.chance(0.5))


EVERY: tuple[Callable[[Maker], Ref], ...] = (
    *(
        unary,
        unary,
        unary_positive,
        binary,
        binary,
        binary,
        with_number,
        integers,
        compare,
        logical,
    ),
    *(choose, cast, move, move, reshape, reshape, expand, pad, get, get, get_at, take, scatter),
    *(put, put_at, update, branch, random, reduce, reduce, reduce, truth, cumulative, order, join),
    *(contract, contract, contract_long, normalise, normalise, loss, convolve, pool, attend),
)
FAMILIES = {f"{f.__name__}{n}": f for n, f in enumerate(EVERY)}
