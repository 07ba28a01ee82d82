"""Families whose operands are views: strided, permuted, stretched, turned round, cut, made late.

`operand` makes a register of a wanted shape out of a leaf of another one, by a few random
movements; each family feeds such operands to an op that reads memory in a manner of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.equivalence.families import FAMILIES as OTHERS
from tests.equivalence.generator import BATCH, Maker, Source, generate
from tests.equivalence.programs import Program, Ref, Step

Shape = tuple[int, ...]
CHANNELS = (1, 2, 3, 4, 6, 8, 16, 17, 33)
WIDTHS = (1, 2, 3, 5, 7, 8, 9, 14, 16, 17, 33)

# ---- operands ------------------------------------------------------------------------------------


def operand(m: Maker, shape: Shape, dtype: str, depth: int = 2) -> Ref:
    """A register of this shape and dtype: a leaf seen through up to `depth` movements."""
    moved = m.chance(0.7) and depth > 0
    how = m.pick(WAYS)
    return how(m, shape, dtype, depth - 1) if moved else m.leaf(shape, dtype)


def _permuted(m: Maker, shape: Shape, dtype: str, depth: int) -> Ref:
    order = sorted(range(len(shape)), key=lambda _: m.source.random())
    base = [0] * len(shape)
    for to, origin in enumerate(order):
        base[origin] = shape[to]
    return m.call("permute", operand(m, tuple(base), dtype, depth), axes=tuple(order))


def _turned(m: Maker, shape: Shape, dtype: str, depth: int) -> Ref:
    """The last two axes swapped, as of a transposed matrix."""
    if len(shape) < 2:
        return _reversed(m, shape, dtype, depth)
    base = operand(m, (*shape[:-2], shape[-1], shape[-2]), dtype, depth)
    return m.call("permute", base, axes=(*range(len(shape) - 2), len(shape) - 1, len(shape) - 2))


def _stepped(m: Maker, shape: Shape, dtype: str, depth: int) -> Ref:
    """Every second or third along some axes, from an offset, forwards or backwards."""
    base: list[int] = []
    key: list[slice] = []
    for n in shape:
        step, offset, back = m.pick((1, 2, 3)), m.below(3), m.chance(0.3)
        if m.chance(0.5) or not n:
            base.append(n)
            key.append(slice(None))
            continue
        reach = (n - 1) * step + 1
        base.append(offset + reach + m.below(2))
        stop = offset - 1 if offset else None
        forward = slice(offset, offset + reach, step)
        key.append(slice(offset + reach - 1, stop, -step) if back else forward)
    return m.add(Step("get", "", (operand(m, tuple(base), dtype, depth), tuple(key))))


def _reversed(m: Maker, shape: Shape, dtype: str, depth: int) -> Ref:
    axes = tuple(a for a in range(len(shape)) if m.chance(0.5))
    base = operand(m, shape, dtype, depth)
    return m.call("flip", base, axis=axes) if axes else base


def _stretched(m: Maker, shape: Shape, dtype: str, depth: int) -> Ref:
    """Some axes of size 1, or none at all, stretched."""
    kept = tuple(1 if m.chance(0.4) else n for n in shape)
    lead = m.below(2) if m.chance(0.3) else 0
    base = operand(m, kept[lead:] if all(n == 1 for n in kept[:lead]) else kept, dtype, depth)
    return m.call("expand", base, shape=shape)


def _picked(m: Maker, shape: Shape, dtype: str, depth: int) -> Ref:
    """One place of an axis more."""
    at, n = m.below(len(shape) + 1), m.pick((1, 2, 3))
    base = operand(m, (*shape[:at], n, *shape[at:]), dtype, depth)
    return m.add(Step("get", "", (base, (*(slice(None),) * at, m.below(n)))))


def _reshaped(m: Maker, shape: Shape, dtype: str, depth: int) -> Ref:
    """Two axes that were one, or one axis that was two, permuted before or not."""
    at, how, factor = m.below(max(len(shape) - 1, 1)), m.chance(0.5), m.pick((2, 3))
    if how and len(shape) > 1:
        base = (*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :])
    elif shape and shape[at] % factor == 0:
        base = (*shape[:at], factor, shape[at] // factor, *shape[at + 1 :])
    else:
        base = (*shape, 1)
    return m.call("reshape", operand(m, base, dtype, depth), shape=shape)


def _padded(m: Maker, shape: Shape, dtype: str, depth: int) -> Ref:
    low, high = (tuple(m.below(2) if n > 2 else 0 for n in shape) for _ in range(2))
    base = tuple(n - a - b for n, a, b in zip(shape, low, high, strict=True))
    gaps = (0,) * len(shape)
    inner = operand(m, base, dtype, depth)
    return m.call("pad", inner, low=low, high=high, interior=gaps, fill=m.pick((0.0, 0.0, 1.5)))


def _rolled(m: Maker, shape: Shape, dtype: str, depth: int) -> Ref:
    base = operand(m, shape, dtype, depth)
    return m.call("roll", base, shift=m.below(3), axis=m.below(len(shape))) if shape else base


def _joined(m: Maker, shape: Shape, dtype: str, depth: int) -> Ref:
    axis = m.below(max(len(shape), 1))
    if not shape or shape[axis] < 2:
        return _reversed(m, shape, dtype, depth)
    first = 1 + m.below(shape[axis] - 1)
    sizes = (first, shape[axis] - first)
    parts = [operand(m, (*shape[:axis], n, *shape[axis + 1 :]), dtype, depth) for n in sizes]
    return m.call("concat", parts, axis=axis)


def _computed(m: Maker, shape: Shape, dtype: str, depth: int) -> Ref:
    """A pointwise function in between, of one or two views."""
    base = operand(m, shape, dtype, depth)
    if m.chance(0.5):
        return m.call(m.pick(("relu", "square", "tanh", "negative")), base)
    return m.call(m.pick(("add", "multiply")), base, operand(m, shape, dtype, depth - 1))


def _written(m: Maker, shape: Shape, dtype: str, depth: int) -> Ref:
    """A part of it overwritten in place."""
    base = m.call("multiply", operand(m, shape, dtype, depth), 2)
    key = tuple(slice(m.below(2), None, m.pick((1, 2))) for _ in shape)
    probe = m.add(Step("get", "", (base, key)))
    value = m.leaf(m.shape_of(probe), dtype) if m.chance(0.5) else m.call("square", probe)
    return m.add(Step("put", "", (base, key, value)))


WAYS: tuple[Callable[[Maker, Shape, str, int], Ref], ...] = (
    *(_permuted, _turned, _stepped, _stepped, _reversed, _stretched, _stretched, _picked),
    *(_reshaped, _padded, _rolled, _joined, _computed, _written),
)


def floating(m: Maker) -> str:
    return str(m.pick(("float32", "float32", "float32", "float64")))


def maybe(m: Maker, shape: Shape, dtype: str) -> Ref | None:
    """An operand that may be left out."""
    return operand(m, shape, dtype, 1) if m.chance(0.5) else None


# ---- windows over images -------------------------------------------------------------------------


def image(m: Maker, rank: int, channels: int, dtype: str) -> Ref:
    widths = tuple(m.pick(WIDTHS) for _ in range(rank))
    batch = m.batch if m.chance(0.3) else m.pick((1, 2, 3))
    return operand(m, (batch, channels, *widths), dtype)


def each(m: Maker, rank: int, choices: tuple[int, ...]) -> Any:
    """One number for all axes of a window, or one for each."""
    if m.chance(0.5):
        return m.pick(choices)
    return tuple(m.pick(choices) for _ in range(rank))


def convolved(m: Maker) -> Ref:
    """conv1d, conv2d, conv3d: grouped, depthwise, dilated, strided."""
    rank, dtype = m.pick((1, 2, 2, 2, 3)), floating(m)
    groups = m.pick((1, 1, 2, 3, 8))
    deep = m.pick((1, 1, 2, 4)) if groups > 1 else m.pick(CHANNELS)
    out = groups * m.pick((1, 2, 3)) if groups > 1 else m.pick(CHANNELS)
    x = image(m, rank, groups * deep, dtype)
    kernel = tuple(m.pick((1, 1, 2, 3, 3, 5, 7)) for _ in range(rank))
    weight = operand(m, (out, deep, *kernel), dtype)
    return m.call(
        f"conv{rank}d",
        *(x, weight, maybe(m, (out,), dtype)),
        stride=each(m, rank, (1, 1, 2, 3)),
        padding=each(m, rank, (0, 1, 2, 3)),
        dilation=each(m, rank, (1, 1, 2, 3)),
        groups=groups,
    )


def convolved_back(m: Maker) -> Ref:
    """conv_transpose1d and its kin."""
    rank, dtype, groups = m.pick((1, 2, 2, 3)), floating(m), m.pick((1, 1, 2))
    channels, out = groups * m.pick((1, 2, 3, 8)), m.pick((1, 2, 5, 8))
    x = image(m, rank, channels, dtype)
    kernel = tuple(m.pick((1, 2, 3, 4)) for _ in range(rank))
    weight = operand(m, (channels, out, *kernel), dtype)
    stride = m.pick((1, 2, 2, 3))
    return m.call(
        f"conv_transpose{rank}d",
        *(x, weight, maybe(m, (groups * out,), dtype)),
        stride=stride,
        padding=m.pick((0, 0, 1)),
        output_padding=m.pick((0, stride - 1)),
        groups=groups,
        dilation=m.pick((1, 1, 2)),
    )


def pooled(m: Maker) -> Ref:
    """Pools of all kinds."""
    rank, dtype = m.pick((1, 2, 2, 3)), floating(m)
    x = image(m, rank, m.pick((1, 2, 3, 17)), dtype)
    kind = m.pick(("max", "avg", "max", "avg", "adaptive_avg", "adaptive_max", "lp"))
    if kind == "adaptive_avg":
        return m.call(f"{kind}_pool{rank}d", x, output_size=each(m, rank, (1, 2, 3, 5)))
    if kind == "adaptive_max":
        op, wanted = f"{kind}_pool{rank}d_with_indices", each(m, rank, (1, 2, 3, 5))
        return m.part(op, 0, x, output_size=wanted)
    size, stride = m.pick((2, 3, 3, 5)), m.pick((1, 2, 3))
    if kind == "lp":
        return m.call(f"lp_pool{rank}d", x, norm_type=2, kernel_size=size, stride=stride)
    return m.call(f"{kind}_pool{rank}d", x, kernel_size=size, stride=stride, padding=m.below(2))


def unfolded(m: Maker) -> Ref:
    """Patches of an image, and their shuffles."""
    dtype, how = floating(m), m.below(3)
    if how == 0:
        x = image(m, 2, m.pick((1, 3)), dtype)
        return m.call("unfold", x, kernel_size=m.pick((2, 3)), stride=m.pick((1, 2)), padding=1)
    if how == 1:
        return m.call("pixel_shuffle", image(m, 2, 4 * m.pick((1, 3)), dtype), upscale_factor=2)
    return m.call("channel_shuffle", image(m, 2, 6, dtype), groups=m.pick((2, 3)))


# ---- rows ----------------------------------------------------------------------------------------


def shape_of_rank(m: Maker, rank: int) -> Shape:
    return tuple(m.batch if m.chance(0.2) else m.pick(WIDTHS) for _ in range(rank))


def normed(m: Maker) -> Ref:
    """Norms over rows, channels and groups."""
    dtype, how = floating(m), m.below(6)
    if how < 2:
        shape = shape_of_rank(m, m.pick((2, 3)))
        weight, bias = maybe(m, shape[-1:], dtype), maybe(m, shape[-1:], dtype)
        x = operand(m, shape, dtype)
        if how == 0:
            return m.call("rms_norm", x, shape[-1:], weight, eps=1e-5)
        return m.add(Step("call", "layer_norm", (x, shape[-1:], weight, bias)))
    channels = m.pick((2, 4, 8))
    x = image(m, m.pick((1, 2)), channels, dtype)
    weight, bias = maybe(m, (channels,), dtype), maybe(m, (channels,), dtype)
    if how == 2:
        return m.part("batch_norm_train", 0, x, weight, bias)
    if how == 3:
        mean = operand(m, (channels,), dtype)
        variance = m.call("add", m.call("square", operand(m, (channels,), dtype)), 1)
        return m.call("batch_norm_infer", x, mean, variance, weight, bias)
    if how == 4:
        return m.call("instance_norm", x, weight, bias)
    return m.call("group_norm", x, m.pick((1, 2)), weight, bias)


def softened(m: Maker) -> Ref:
    """softmax and its kin along any axis."""
    shape = shape_of_rank(m, m.pick((1, 2, 3)))
    x = operand(m, shape, floating(m))
    op = m.pick(("softmax", "log_softmax", "logsumexp", "normalize"))
    return m.call(op, x, axis=m.axis(x))


def reduced(m: Maker) -> Ref:
    """Reductions over any axes."""
    dtype = m.pick(("float32", "float32", "float64", "int32"))
    x = operand(m, shape_of_rank(m, m.pick((1, 2, 3, 4))), dtype)
    op = m.pick(("sum", "max", "mean", "prod", "var", "argmax", "argmin", "median", "logsumexp"))
    if op in ("argmax", "argmin", "median"):
        return m.call(op, x, axis=m.axis(x), keepdims=m.chance(0.3))
    return m.call(op, x, axis=m.axes(x), keepdims=m.chance(0.3))


def scanned(m: Maker) -> Ref:
    """Running sums, products, maxima."""
    x = operand(m, shape_of_rank(m, m.pick((1, 2, 3))), floating(m))
    op = m.pick(("cumulative_sum", "cumulative_prod", "logcumsumexp", "cummax", "cummin"))
    axis = m.axis(x)
    if op in ("cummax", "cummin"):
        return m.part(op, m.below(2), x, axis=axis)
    return m.call(op, x, axis=axis)


def sorted_(m: Maker) -> Ref:
    """sort, argsort, topk, searchsorted."""
    dtype = m.pick(("float32", "float64", "int32", "uint8"))
    shape = shape_of_rank(m, m.pick((1, 2, 3)))
    x, how, descending = operand(m, shape, dtype), m.below(4), m.chance(0.5)
    axis = m.axis(x)
    if how == 0:
        return m.part("topk", m.below(2), x, k=1 + m.below(shape[axis]), axis=axis)
    if how == 1:
        line = m.call("sort", operand(m, (m.pick(WIDTHS),), dtype))
        return m.call("searchsorted", line, x, side=m.pick(("left", "right")))
    return m.call(m.pick(("sort", "argsort")), x, axis=axis, descending=descending)


# ---- products ------------------------------------------------------------------------------------


def multiplied(m: Maker) -> Ref:
    """matmul: batched, broadcast, thin, turned; einsum of the same."""
    dtype, long = floating(m), m.chance(0.2)
    rows, inner, columns = (m.pick(WIDTHS) for _ in range(3))
    inner = m.pick((257, 300)) if long else inner
    lead = tuple(m.pick((1, 2, 3)) for _ in range(m.below(3)))
    other = m.pick((lead, (), tuple(1 for _ in lead)))
    how = m.below(5)
    if how == 0:
        x, y = operand(m, (*lead, inner), dtype), operand(m, (inner,), dtype)
        return m.call("matmul", x, y)
    x = operand(m, (*lead, rows, inner), dtype)
    if how == 1:
        weight = operand(m, (columns, inner), dtype)
        return m.call("linear", x, weight, maybe(m, (columns,), dtype))
    if how == 2 and len(lead) == 1:
        y = operand(m, (lead[0], inner, columns), dtype)
        equation = m.pick(("bij,bjk->bik", "bij,bjk->ikb", "bij,bjk->ik", "bij,bjk->jb"))
        return m.call("einsum", [x, y], equation=equation)
    return m.call("matmul", x, operand(m, (*other, inner, columns), dtype))


def attended(m: Maker) -> Ref:
    """Attention with heads as axes of a longer row, a mask, fewer keys."""
    dtype, heads, head = floating(m), m.pick((1, 2, 4)), m.pick((2, 8, 16, 17))
    batch, longer, shorter = m.pick((1, 2)), m.pick(WIDTHS), m.pick(WIDTHS)
    keys = longer if m.chance(0.5) else shorter

    def parted(length: int) -> Ref:
        x = operand(m, (batch, length, heads * head), dtype)
        x = m.call("reshape", x, shape=(batch, length, heads, head))
        return m.call("permute", x, axes=(0, 2, 1, 3))

    mask = m.pick((None, "bool", dtype))
    given = None if mask is None else operand(m, (longer, keys), mask, 1 if mask == "bool" else 2)
    q, k, v = parted(longer), parted(keys), parted(keys)
    causal = m.chance(0.5) and given is None
    return m.call("scaled_dot_product_attention", q, k, v, given, is_causal=causal)


# ---- indices -------------------------------------------------------------------------------------


def indices(m: Maker, shape: Shape, below: int) -> Ref:
    """Places below a bound, themselves a permuted view now and then."""
    dtype = m.pick(("int64", "int32"))
    if len(shape) == 2 and m.chance(0.4):
        return m.call("permute", m.leaf(shape[::-1], dtype, below), axes=(1, 0))
    return m.leaf(shape, dtype, below)


def gathered(m: Maker) -> Ref:
    """take, take_along_axis, embedding, x[i, j]."""
    dtype, how = floating(m), m.below(4)
    shape = shape_of_rank(m, m.pick((2, 3)))
    x, axis = operand(m, shape, dtype), m.below(len(shape))
    if how == 0:
        other = list(shape)
        other[axis] = m.pick(WIDTHS)
        return m.call("take_along_axis", x, indices(m, tuple(other), shape[axis]), axis=axis)
    places = indices(m, shape_of_rank(m, m.pick((1, 2)))[:2], shape[axis if how == 1 else 0])
    if how == 1:
        return m.call("take", x, places, axis=axis)
    if how == 2:
        second = indices(m, m.shape_of(places), shape[1])
        return m.add(Step("get", "", (x, (places, second))))
    return m.call("embedding", places, operand(m, (shape[0], m.pick(WIDTHS)), dtype))


def scattered(m: Maker) -> Ref:
    """scatter and segments, into and of views."""
    dtype, shape = floating(m), shape_of_rank(m, 2)
    x, axis, how = operand(m, shape, dtype), m.below(2), m.below(4)
    if how == 0:
        ids = indices(m, shape[:1], 4)
        op = m.pick(("segment_sum", "segment_max", "segment_mean", "segment_prod"))
        return m.call(op, x, ids, num_segments=4)
    if how == 1:
        other = tuple(m.pick((1, n)) for n in shape)
        places, updates = indices(m, other, shape[axis]), operand(m, other, dtype)
        way = m.pick(("add", "mean", "max", "min", "mul", "set"))
        return m.call("put_along_axis", x, places, updates, axis=axis, reduce=way)
    places = indices(m, (m.pick(WIDTHS),), shape[axis])
    updates = operand(m, (*shape[:axis], *m.shape_of(places), *shape[axis + 1 :]), dtype)
    return m.call(m.pick(("scatter_add", "scatter_set")), x, places, updates, axis=axis)


def resized(m: Maker) -> Ref:
    """Distances, borders."""
    dtype, how = floating(m), m.below(2)
    if how == 0:
        d = m.pick((1, 2, 5))
        first, second = (operand(m, (m.pick(WIDTHS), d), dtype) for _ in range(2))
        return m.call("cdist", first, second)
    x = image(m, 2, 2, dtype)
    return m.call("roll", m.call("flip", x, axis=(2,)), shift=m.below(3), axis=-1)


VIEWED: tuple[Callable[[Maker], Ref], ...] = (
    *(convolved, convolved, convolved, convolved, convolved_back, pooled, pooled, unfolded),
    *(normed, normed, softened, reduced, reduced, scanned, sorted_, multiplied, multiplied),
    *(multiplied, attended, gathered, scattered, resized),
)

FAMILIES = {f"{f.__name__}{n}": f for n, f in enumerate(VIEWED)}
MOST = 9000  # elements: images of several vectors' width and many channels


def generate_viewed(source: Source, batch: int = BATCH, length: int = 1) -> Program:
    """A program of `length` ops over views, now and then with other steps among them."""
    mixed = source.random() < 0.3
    families = FAMILIES | OTHERS if mixed else FAMILIES
    return generate(source, families, length=length + mixed, batch=batch, empty=False, most=MOST)
