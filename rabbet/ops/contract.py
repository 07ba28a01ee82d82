"""Products summed over shared axes: the contract primitive, matmul, einsum and their kin.

`contract` names the axes of operands and result by integer labels, as einsum does with letters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from rabbet.base import dtypes, sizes
from rabbet.base.dtypes import int64
from rabbet.base.errors import DTypeError, ShapeError
from rabbet.base.shapes import Shape, axis_of, show
from rabbet.base.sizes import Dim
from rabbet.base.spec import Spec
from rabbet.graph.op import op
from rabbet.graph.sample import COMPLEX, FLOATS, NUMERIC, Draw, Sample
from rabbet.graph.value import Value, lookup
from rabbet.ops.arithmetic import add, cast, multiply
from rabbet.ops.compare import equal, where
from rabbet.ops.create import iota
from rabbet.ops.index_maps import expand, permute, reshape
from rabbet.ops.reductions import reduce_sum

Labels: TypeAlias = tuple[int, ...]

# ---- the primitive -------------------------------------------------------------------------------


def _contract_spec(a: Spec, b: Spec, a_axes: Labels, b_axes: Labels, out_axes: Labels) -> Spec:
    if a.dtype.kind == "b":
        raise DTypeError("contract: bool is not supported; cast it to an integer or a float")
    found: dict[int, Dim] = {}
    for spec, labels in ((a, a_axes), (b, b_axes)):
        if len(labels) != spec.ndim or len(set(labels)) != len(labels):
            raise ShapeError(f"contract: labels {show(labels)} do not name axes {show(spec.shape)}")
        for label, dim in zip(labels, spec.shape, strict=True):
            known = found.setdefault(label, dim)
            if not sizes.same(known, dim) and known != dim:
                raise ShapeError(
                    f"contract: {show(a.shape)} and {show(b.shape)}: sizes {known} and {dim} differ"
                )
    alone = set(a_axes) ^ set(b_axes)
    if len(set(out_axes)) != len(out_axes) or not alone <= set(out_axes) <= found.keys():
        raise ShapeError(
            f"contract: {show(a_axes)}, {show(b_axes)} -> {show(out_axes)}: an axis of one operand "
            "alone must be in the result, and every axis of the result in an operand"
        )
    shape = tuple(found[label] for label in out_axes)
    return Spec(shape, dtypes.float32 if a.dtype.is_half else a.dtype, a.device)


def _contract_reference(
    a: np.ndarray, b: np.ndarray, a_axes: Labels, b_axes: Labels, out_axes: Labels
) -> np.ndarray:
    places = {label: place for place, label in enumerate(sorted({*a_axes, *b_axes}))}
    kind = _exact(a)
    found = np.einsum(
        *(a.astype(kind), [places[label] for label in a_axes]),
        *(b.astype(kind), [places[label] for label in b_axes]),
        [places[label] for label in out_axes],
    )
    return np.asarray(found)


def _exact(x: np.ndarray) -> Any:
    """The NumPy dtype that references compute with."""
    return np.float64 if dtypes.dtype_of(x.dtype).is_float else x.dtype


def _contract_samples() -> list[Sample]:
    def sample(a: Any, b: Any, la: Labels, lb: Labels, lo: Labels, d: Any = FLOATS) -> Sample:
        return Sample((Draw(a), Draw(b)), {"a_axes": la, "b_axes": lb, "out_axes": lo}, d)

    whole = ("int32", "int64", *FLOATS)
    return [
        sample((3, 4), (4, 5), (0, 1), (1, 2), (0, 2), whole),
        sample((4, 3), (5, 4), (1, 0), (2, 1), (2, 0)),
        sample((2, 3, 4), (2, 4, 5), (9, 0, 1), (9, 1, 2), (9, 0, 2)),
        sample((2, 3), (4,), (0, 1), (2,), (0, 2, 1)),
        sample((2, 3, 4), (4, 3), (0, 1, 2), (2, 1), (0,)),
        sample((5,), (5,), (0,), (0,), ()),
        sample((2, 0), (0, 3), (0, 1), (1, 2), (0, 2)),
        sample((0, 2), (2, 3), (0, 1), (1, 2), (0, 2)),
    ]


@op(
    "contract",
    public=False,
    promote="common",
    infer=_contract_spec,
    holds_halves=True,
    reference=_contract_reference,
    samples=_contract_samples,
    onnx="Einsum",
)
def contract(a: Value, b: Value, a_axes: Labels, b_axes: Labels, out_axes: Labels) -> Value:
    """Sum of a * b over the labels that are in both and not in the result.

    Labels in both and in the result are batch axes; labels of one operand alone must be in it too.
    float16 and bfloat16 give their float32 sums.
    """


@contract.gradient
def _contract_gradient(
    g: Any, y: Any, a: Any, b: Any, a_axes: Labels, b_axes: Labels, out_axes: Labels
) -> tuple[Any, Any]:
    g = cast(g, a.dtype)  # exact where the sums were rounded to the dtype of the operands
    return (
        cast(contract(g, b, out_axes, b_axes, a_axes), a.dtype),
        cast(contract(a, g, a_axes, out_axes, b_axes), b.dtype),
    )


# ---- a product of two operands with any labels ---------------------------------------------------


def product(name: str, a: Any, b: Any, a_axes: Labels, b_axes: Labels, out_axes: Labels) -> Any:
    """`contract` where size 1 may stretch and labels of one operand alone may be summed.

    Halves give float32, which the caller rounds (they must have no labels to sum alone). Raises
    ShapeError where sizes differ, DTypeError for bools. Small integers are int32 inside.
    """
    if a.dtype.kind == "b" and b.dtype.kind == "b":
        raise DTypeError(f"{name}: bool is not supported; cast it to an integer or a float")
    a, b = cast(a, _common(name, a, b)), cast(b, _common(name, a, b))
    a, a_axes = _summed_alone(a, a_axes, {*b_axes, *out_axes})
    b, b_axes = _summed_alone(b, b_axes, {*a_axes, *out_axes})
    (a, a_axes), (b, b_axes) = _without_ones(a, a_axes, b, b_axes)
    a, a_axes = _summed_alone(a, a_axes, {*b_axes, *out_axes})
    b, b_axes = _summed_alone(b, b_axes, {*a_axes, *out_axes})
    out = tuple(label for label in out_axes if label in (*a_axes, *b_axes))
    wanted = dtypes.float32 if a.dtype.is_half else a.dtype
    if wanted.is_integer and wanted.bits < 32:  # exact: both wrap around the same way
        a, b = cast(a, dtypes.int32), cast(b, dtypes.int32)
    return cast(contract(a, b, a_axes, b_axes, out), wanted)


def _common(name: str, a: Any, b: Any) -> Any:
    try:
        return dtypes.promote(a.dtype, b.dtype)
    except DTypeError as error:
        raise DTypeError(f"{name}: {error}") from None


def _summed_alone(x: Any, axes: Labels, wanted: set[int]) -> tuple[Any, Labels]:
    """Sum the axes whose label nobody else has."""
    gone = tuple(i for i, label in enumerate(axes) if label not in wanted)
    if not gone:
        return x, axes
    return reduce_sum(x, gone, False), tuple(label for label in axes if label in wanted)


def _without_ones(a: Any, a_axes: Labels, b: Any, b_axes: Labels) -> Any:
    """Drop axes of size 1 that meet a larger axis of the other operand."""
    b_dims = dict(zip(b_axes, b.shape, strict=True))
    drop_a, drop_b = set(), set()
    for label, dim in zip(a_axes, a.shape, strict=True):
        other = b_dims.get(label, dim)
        if sizes.same(dim, other):
            continue
        if dim == 1:
            drop_a.add(label)
        elif other == 1:
            drop_b.add(label)
    return _dropped(a, a_axes, drop_a), _dropped(b, b_axes, drop_b)


def _dropped(x: Any, axes: Labels, gone: set[int]) -> tuple[Any, Labels]:
    if not gone:
        return x, axes
    left = [(d, label) for d, label in zip(x.shape, axes, strict=True) if label not in gone]
    return reshape(x, tuple(d for d, _ in left)), tuple(label for _, label in left)


# ---- matmul and its kin --------------------------------------------------------------------------


def _matmul_samples() -> list[Sample]:
    pairs = (
        *(((3, 4), (4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,))),
        *(((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((3, 4), (2, 4, 5))),
        *(((2, 1, 3, 4), (6, 4, 5)), ((1, 3, 4), (2, 4, 1)), ((2, 3, 4), (4,))),
        *(((3, 0), (0, 2)), ((0, 3), (3, 2)), ((1, 1), (1, 1))),
    )
    return [Sample((Draw(a), Draw(b)), dtypes=("int8", "int64", *FLOATS)) for a, b in pairs]


def _matmul_reference(x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    kind = _exact(x1)
    return np.matmul(x1.astype(kind), x2.astype(kind))


@op(
    "composite",
    promote="common",
    holds_halves=True,
    reference=_matmul_reference,
    samples=_matmul_samples,
    onnx="MatMul",
    autocast="narrow",
)
def matmul(x1: Value, x2: Value) -> Value:
    """Matrix product: (..., m, k) @ (..., k, n) -> (..., m, n); leading axes broadcast.

    One axis alone is a vector: (k,) @ (k, n) -> (n,) and (m, k) @ (k,) -> (m,).
    Raises ShapeError for 0-d operands and where the inner sizes differ.

    >>> rb.asarray([[1.0, 2.0], [3.0, 4.0]]) @ rb.asarray([1.0, 1.0])
    tensor([3., 7.])
    """
    if x1.ndim == 0 or x2.ndim == 0:
        raise ShapeError(f"matmul: {show(x1.shape)} @ {show(x2.shape)}: 0-d operands; use *")
    inner_1, inner_2 = x1.shape[-1], x2.shape[-2 if x2.ndim > 1 else -1]
    if not sizes.same(inner_1, inner_2) and inner_1 != inner_2:
        raise ShapeError(
            f"matmul: {show(x1.shape)} @ {show(x2.shape)}: "
            f"inner sizes {inner_1} and {inner_2} differ"
        )
    rank = max(x1.ndim, x2.ndim, 2) - 2
    m, k, n = rank, rank + 1, rank + 2
    a_axes = (*_trailing(rank, x1.ndim - 2), m, k) if x1.ndim > 1 else (k,)
    b_axes = (*_trailing(rank, x2.ndim - 2), k, n) if x2.ndim > 1 else (k,)
    _check_batch(x1.shape[:-2], x2.shape[:-2], x1.shape, x2.shape)
    out = (*range(rank), *((m,) if x1.ndim > 1 else ()), *((n,) if x2.ndim > 1 else ()))
    return cast(product("matmul", x1, x2, a_axes, b_axes, out), x1.dtype)


def _trailing(rank: int, count: int) -> Labels:
    return tuple(range(rank - count, rank))


def _check_batch(a: Shape, b: Shape, x1: Shape, x2: Shape) -> None:
    for d, e in zip(reversed(a), reversed(b), strict=False):
        if not sizes.same(d, e) and d != 1 and e != 1 and d != e:
            raise ShapeError(
                f"matmul: {show(x1)} @ {show(x2)}: leading sizes {d} and {e} do not broadcast"
            )


def _linear_reference(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    kind = _exact(x)
    found = np.matmul(x.astype(kind), weight.astype(kind).T)
    return found if bias is None else found + bias.astype(kind)


def _linear_samples() -> list[Sample]:
    return [
        Sample((Draw((3, 4)), Draw((5, 4)), Draw((5,)))),
        Sample((Draw((2, 3, 4)), Draw((5, 4)), None)),
        Sample((Draw((4,)), Draw((5, 4)), Draw((5,)))),
        Sample((Draw((0, 4)), Draw((5, 4)), Draw((5,)))),
        Sample((Draw((1, 1)), Draw((1, 1)), None)),
    ]


@op(
    "composite",
    method=None,
    holds_halves=True,
    reference=_linear_reference,
    samples=_linear_samples,
    onnx="Gemm",
    autocast="narrow",
)
def linear(x: Value, weight: Value, bias: Value | None = None) -> Value:
    """x @ weight.T + bias: (..., k), (n, k), (n,) -> (..., n).

    Raises ShapeError where sizes differ, DTypeError where dtypes do (cast one of them).

    >>> rb.linear(rb.ones((2, 3)), rb.ones((4, 3)), rb.zeros(4)).shape
    (2, 4)
    """
    _check_linear(x, weight, bias)
    rank = x.ndim - 1
    k, n = rank, rank + 1
    found = product("linear", x, weight, (*range(rank), k), (n, k), (*range(rank), n))
    return cast(found if bias is None else add(found, cast(bias, found.dtype)), x.dtype)


@linear.gradient
def _linear_gradient(g: Any, y: Any, x: Any, weight: Any, bias: Any) -> tuple[Any, Any, Any]:
    """What the body's would be, found in a quarter of the time: nearly every net's first step asks.

    Halves are exact where they come from float32 sums, so only the bias's sum is taken of those.
    """
    lead = tuple(range(x.ndim - 1))
    rows, k, n = lead, x.ndim - 1, x.ndim
    to_x = cast(contract(g, weight, (*rows, n), (n, k), (*rows, k)), x.dtype)
    to_weight = cast(contract(x, g, (*rows, k), (*rows, n), (n, k)), weight.dtype)
    if bias is None:
        return to_x, to_weight, None
    to_bias = cast(g, dtypes.float32) if g.dtype.is_half else g
    if lead:
        to_bias = reshape(reduce_sum(to_bias, lead, True), bias.shape)
    return to_x, to_weight, cast(to_bias, bias.dtype)


def _check_linear(x: Any, weight: Any, bias: Any) -> None:
    if weight.ndim != 2 or x.ndim < 1 or (bias is not None and bias.ndim != 1):
        raise ShapeError(
            f"linear: input {show(x.shape)}, weight {show(weight.shape)}"
            + (f", bias {show(bias.shape)}" if bias is not None else "")
            + ": they must have the shapes (..., k), (n, k) and (n,)"
        )
    for name, other in (("weight", weight), ("bias", bias)):
        if other is not None and other.dtype is not x.dtype:
            raise DTypeError(
                f"linear: input is {x.dtype.name} and {name} is {other.dtype.name}; "
                f"cast one of them, e.g. input.astype(rb.{other.dtype.name})"
            )
    outputs, inner = weight.shape
    if not sizes.same(x.shape[-1], inner) and x.shape[-1] != inner:
        raise ShapeError(
            f"linear: input {show(x.shape)} @ weight.T {show((inner, outputs))}: "
            f"inner sizes {x.shape[-1]} and {inner} differ" + _flatten_hint(x.shape, inner)
        )
    if bias is not None and not sizes.same(bias.shape[0], outputs) and bias.shape[0] != outputs:
        raise ShapeError(
            f"linear: weight {show(weight.shape)} and bias {show(bias.shape)}: "
            f"output sizes {outputs} and {bias.shape[0]} differ"
        )


_COUNTS = {2: "two", 3: "three", 4: "four"}


def _flatten_hint(shape: Shape, inner: Dim) -> str:
    """A line of advice where flattening the last axes gives the size that was needed."""
    if not all(isinstance(d, int) for d in (*shape, inner)):
        return ""
    for count in range(2, len(shape) + 1):
        if sizes.product(shape[-count:]) == inner:
            flat = show((*shape[:-count], inner))
            words = _COUNTS.get(count, str(count))
            return f"\n  hint: flatten the last {words} axes first, e.g. x.reshape({flat})"
    return ""


@op(
    "composite",
    promote="common",
    reference=lambda x1, x2, axis: np.sum(x1.conj() * x2, axis, x1.dtype),
    samples=lambda: [
        Sample((Draw((3, 4)), Draw((3, 4))), {"axis": -1}, ("int32", *FLOATS)),
        Sample((Draw((3, 4, 2)), Draw((4, 1))), {"axis": -2}),
        Sample((Draw((4,)), Draw((4,))), {"axis": -1}, (*FLOATS, *COMPLEX)),
        Sample((Draw((0,)), Draw((0,))), {"axis": -1}),
    ],
    autocast="narrow",
)
def vecdot(x1: Value, x2: Value, axis: int = -1) -> Value:
    """Dot products along `axis` (negative) of operands that broadcast elsewhere.

    Of complex numbers those of `x1` are conjugated first.

    >>> rb.vecdot(rb.asarray([1.0, 2.0]), rb.asarray([3.0, 4.0]))
    tensor(11.)
    """
    if not -min(x1.ndim, x2.ndim) <= axis < 0:
        raise ShapeError(f"vecdot: axis {axis} must be negative and exist in both operands")
    if x1.shape[axis] != x2.shape[axis]:
        raise ShapeError(
            f"vecdot: {show(x1.shape)} and {show(x2.shape)}: sizes {x1.shape[axis]} and "
            f"{x2.shape[axis]} of axis {axis} differ"
        )
    found = multiply(lookup("conj")(x1) if x1.dtype.kind == "c" else x1, x2)
    return reduce_sum(found, (axis_of("vecdot", axis, found.ndim),), False)


@op(
    "composite",
    promote="common",
    reference=np.outer,
    samples=lambda: [
        Sample((Draw((3,)), Draw((4,))), dtypes=NUMERIC),
        Sample((Draw((0,)), Draw((2,)))),
    ],
)
def outer(x1: Value, x2: Value) -> Value:
    """Every product of two vectors: (m,), (n,) -> (m, n).

    >>> rb.outer(rb.asarray([1.0, 2.0]), rb.asarray([3.0, 4.0]))
    tensor([[3., 4.],
            [6., 8.]])
    """
    if x1.ndim != 1 or x2.ndim != 1:
        raise ShapeError(f"outer: {show(x1.shape)} and {show(x2.shape)} must have one axis each")
    return multiply(reshape(x1, (x1.shape[0], 1)), x2)


def _tensordot_samples() -> list[Sample]:
    return [
        Sample((Draw((2, 3, 4)), Draw((3, 4, 5))), {"axes": 2}, ("int32", *FLOATS)),
        Sample((Draw((2, 3)), Draw((4,))), {"axes": 0}),
        Sample((Draw((2, 3, 4)), Draw((4, 3))), {"axes": ((1, -1), (1, 0))}),
    ]


def _tensordot_reference(x1: np.ndarray, x2: np.ndarray, axes: Any) -> np.ndarray:
    kind = _exact(x1)
    return np.tensordot(x1.astype(kind), x2.astype(kind), axes)


@op(
    "composite",
    promote="common",
    holds_halves=True,
    reference=_tensordot_reference,
    samples=_tensordot_samples,
    autocast="narrow",
)
def tensordot(x1: Value, x2: Value, axes: int | tuple[tuple[int, ...], ...] = 2) -> Value:
    """Sum of products over `axes`: a number of last and first axes, or two tuples of axes.

    >>> rb.tensordot(rb.ones((2, 3, 4)), rb.ones((3, 4, 5))).shape
    (2, 5)
    """
    if isinstance(axes, int):
        if axes > min(x1.ndim, x2.ndim):
            raise ShapeError(f"tensordot: operands have fewer than {axes} axes")
        axes = (tuple(range(x1.ndim - axes, x1.ndim)), tuple(range(axes)))
    first = [axis_of("tensordot", a, x1.ndim) for a in axes[0]]
    second = [axis_of("tensordot", a, x2.ndim) for a in axes[1]]
    if len(first) != len(second) or any(
        x1.shape[a] != x2.shape[b] for a, b in zip(first, second, strict=True)
    ):
        raise ShapeError(
            f"tensordot: {show(x1.shape)} and {show(x2.shape)} do not match along {axes}"
        )
    b_axes = [x1.ndim + i for i in range(x2.ndim)]
    for a, b in zip(first, second, strict=True):
        b_axes[b] = a
    out = [a for a in range(x1.ndim) if a not in first] + [b for b in b_axes if b >= x1.ndim]
    found = product("tensordot", x1, x2, tuple(range(x1.ndim)), tuple(b_axes), tuple(out))
    return cast(found, x1.dtype)


# ---- einsum --------------------------------------------------------------------------------------


def _einsum_samples() -> list[Sample]:
    def sample(equation: str, *shapes: Any, dtypes: Any = FLOATS) -> Sample:
        return Sample((tuple(Draw(s) for s in shapes),), {"equation": equation}, dtypes)

    return [
        sample("ij,jk->ik", (2, 3), (3, 4), dtypes=("int32", *FLOATS)),
        sample("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)),
        sample("ij,jk", (2, 3), (3, 4)),
        sample("ij->ji", (2, 3)),
        sample("ij->", (2, 3)),
        sample("ii->i", (3, 3)),
        sample("ii", (3, 3)),
        sample("i,i->", (3,), (3,)),
        sample("ij,j,k->ki", (2, 3), (3,), (4,)),
        sample("...i,ij->...j", (2, 5, 3), (3, 4)),
        sample("ijk,il->l", (2, 3, 4), (2, 5)),
    ]


def _einsum_reference(operands: Sequence[np.ndarray], equation: str) -> np.ndarray:
    kind = np.float64 if operands[0].dtype.kind == "f" else operands[0].dtype
    return np.array(np.einsum(equation, *(o.astype(kind) for o in operands)))


@op(
    "composite",
    promote="common",
    method=None,
    reference=_einsum_reference,
    samples=_einsum_samples,
    onnx="Einsum",
    autocast="narrow",
)
def einsum(operands: Sequence[Value], equation: str) -> Value:
    """Einstein's summation, from left to right: `einsum([a, b], "ij,jk->ik")`.

    Letters name axes; those missing right of `->` are summed; `...` stands for leading axes that
    broadcast; a letter twice in one operand takes its diagonal.
    """
    inputs, out = _parse(equation, [o.ndim for o in operands])
    found, axes = _diagonal_free(operands[0], inputs[0])
    for i in range(1, len(operands)):
        other, other_axes = _diagonal_free(operands[i], inputs[i])
        _check_sizes(equation, found, axes, other, other_axes)
        later = {label for labels in (*inputs[i + 1 :], out) for label in labels}
        kept = tuple(label for label in dict.fromkeys((*axes, *other_axes)) if label in later)
        found, axes = product("einsum", found, other, axes, other_axes, kept), kept
    found, axes = _summed_alone(found, axes, set(out))
    return permute(cast(found, operands[0].dtype), tuple(axes.index(label) for label in out))


def _parse(equation: str, ranks: list[int]) -> tuple[list[Labels], Labels]:
    """Labels of every operand and of the result; axes of `...` get negative labels."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise ShapeError(f'einsum: "{equation}" has {len(terms)} operands, {len(ranks)} were given')
    inputs = [_labels(equation, t, r) for t, r in zip(terms, ranks, strict=True)]
    most = max((sum(label < 0 for label in labels) for labels in inputs), default=0)
    if not arrow:
        letters = [c for t in terms for c in t if c != "."]
        right = "..." * (most > 0) + "".join(sorted(c for c in letters if letters.count(c) == 1))
    extra = right.count("...") * (most - 3) + len(right)
    out = _labels(equation, right, extra)
    known = {label for labels in inputs for label in labels}
    if len(set(out)) != len(out) or not set(out) <= known:
        raise ShapeError(f'einsum: "{equation}": the result names an axis twice or an unknown one')
    return inputs, out


def _labels(equation: str, term: str, rank: int) -> Labels:
    before, dots, after = term.partition("...")
    letters = before + after
    spare = rank - len(letters)
    if not all(c.isalpha() for c in letters) or spare < 0 or (spare and not dots):
        raise ShapeError(f'einsum: "{equation}": "{term}" does not name {rank} axes')
    return (*map(ord, before), *range(-spare, 0), *map(ord, after))


def _check_sizes(equation: str, a: Any, a_axes: Labels, b: Any, b_axes: Labels) -> None:
    known = dict(zip(a_axes, a.shape, strict=True))
    for label, dim in zip(b_axes, b.shape, strict=True):
        other = known.get(label, dim)
        if not sizes.same(dim, other) and dim != 1 and other != 1 and dim != other:
            raise ShapeError(
                f'einsum: "{equation}": {show(a.shape)} and {show(b.shape)}: sizes {other} and '
                f"{dim} of one axis differ"
            )


def _diagonal_free(x: Any, axes: Labels) -> tuple[Any, Labels]:
    """Replace axes with equal labels by their diagonal."""
    while len(set(axes)) != len(axes):
        second = next(i for i, label in enumerate(axes) if label in axes[:i])
        first = axes.index(axes[second])
        if x.shape[first] != x.shape[second]:
            raise ShapeError(
                f"einsum: {show(x.shape)}: a diagonal needs equal sizes, not {x.shape[first]} "
                f"and {x.shape[second]}"
            )
        shape = tuple(d if i in (first, second) else 1 for i, d in enumerate(x.shape))
        on = equal(iota.like(x, shape, first, int64), iota.like(x, shape, second, int64))
        x = reduce_sum(where(expand(on, x.shape), x, 0), (second,), False)
        axes = (*axes[:second], *axes[second + 1 :])
    return x, axes
