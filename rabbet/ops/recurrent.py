"""Recurrent layers over whole sequences: the part that goes from step to step.

x (steps, batch, gates * H) holds what every step gets from its input, biases included; a scan adds
what comes from the step before. Weights and the order of gates are PyTorch's. Each cell is written
once, for scalars (the kernel), arrays (the reference) and Values (gradients of gradients).
LSTM: Hochreiter and Schmidhuber (1997), with forget gates; GRU: Cho et al. (2014), in the form that
multiplies after the product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.base.spec import Spec
from rabbet.expr import expr, scalars
from rabbet.graph.op import Flags, Op, op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value, lookup
from rabbet.ops.arithmetic import maximum
from rabbet.ops.axis_moves import swapaxes
from rabbet.ops.checks import agree, fixed, need_float, need_same_dtype, wide
from rabbet.ops.compare import where
from rabbet.ops.contract import matmul
from rabbet.ops.float_functions import exp, log, sigmoid
from rabbet.ops.index_maps import expand, later, permute, reshape, slice_
from rabbet.ops.joining import concat, stack
from rabbet.ops.reductions import sum_
from rabbet.ops.trigonometry import tanh

Step = tuple[list[Any], dict[int, list[Any]]]  # carried on, and parts of each output
Read = Callable[..., Any]  # read(operand, part): its element of this step, batch element and unit


class Scalars:
    """The functions of a cell on scalar expressions."""

    sigmoid = staticmethod(scalars.sigmoid)
    tanh = staticmethod(scalars.tanh)
    exp, log = staticmethod(scalars.exp), staticmethod(scalars.log)
    maximum = staticmethod(scalars.maximum)

    @staticmethod
    def above(x: Any, bound: float, y: Any, other: float) -> Any:
        """y where x > bound, else the other."""
        return expr.select(expr.const(bound, x.dtype) < x, y, expr.const(other, x.dtype))

    @staticmethod
    def positive(x: Any, y: Any) -> Any:
        return Scalars.above(x, 0.0, y, 0.0)


@dataclass(frozen=True)
class Recurrence:
    """One step, from what is carried to what is carried on.

    The first `sources` of `starts` (operand names, None: zero) are multiplied with the weight for
    `targets` products; `backward`: with its transpose, last step first. `ends`: what of the carried
    is an output in the end, by output. For each (n, d, outside) of `shifts` the step is given,
    behind what is carried, number n at the unit d before, `outside` where there is none.
    """

    step: Callable[..., Step]  # (math, products, carried, read, attrs)
    targets: int
    sources: int
    starts: tuple[str | None, ...]
    backward: bool = False
    ends: tuple[tuple[int, int], ...] = ()
    shifts: tuple[tuple[int, int, float], ...] = ()

    math = Scalars  # the functions of `step` in a kernel

    def is_reversed(self, attrs: dict[str, Any]) -> bool:
        """Does time run backwards?"""
        return bool(attrs.get("reverse")) is not self.backward


# ---- cells ---------------------------------------------------------------------------------------


def _lstm(m: Any, p: list[Any], carried: list[Any], read: Read, attrs: Any) -> Step:
    h, c = carried
    i, f, g, o = (read("x", n) + p[n] for n in range(4))
    i, f, g, o = m.sigmoid(i), m.sigmoid(f), m.tanh(g), m.sigmoid(o)
    new_c = f * c + i * g
    new_h = o * m.tanh(new_c)
    return [new_h, new_c], {0: [new_h], 1: [new_c], 2: [i, f, g, o], 3: [h], 4: [c]}


def _lstm_back(m: Any, p: list[Any], carried: list[Any], read: Read, attrs: Any) -> Step:
    i, f, g, o = (read("gates", n) for n in range(4))
    slope = m.tanh(read("c", 0))
    dh = read("gy", 0) + p[0]
    dc = carried[4] + dh * o * (1.0 - slope * slope)
    if read("gc", 0) is not None:
        dc = dc + read("gc", 0)
    di = dc * g * (i * (1.0 - i))
    df = dc * read("before", 0) * (f * (1.0 - f))
    dg = dc * i * (1.0 - g * g)
    do = dh * slope * (o * (1.0 - o))
    found = [di, df, dg, do]
    return [*found, dc * f], {0: found}


def _gru(m: Any, p: list[Any], carried: list[Any], read: Read, attrs: Any) -> Step:
    (h,) = carried
    r, z = (m.sigmoid(read("x", n) + p[n]) for n in range(2))
    hidden = p[2] + read("bias", 0)
    n = m.tanh(read("x", 2) + r * hidden)
    new = (1.0 - z) * n + z * h
    return [new], {0: [new], 1: [r, z, n, hidden], 2: [h]}


def _gru_back(m: Any, p: list[Any], carried: list[Any], read: Read, attrs: Any) -> Step:
    r, z, n, hidden = (read("gates", k) for k in range(4))
    dh = read("gy", 0) + p[0] + carried[3]
    dz = dh * (read("before", 0) - n) * (z * (1.0 - z))
    dn = dh * (1.0 - z) * (1.0 - n * n)
    dr = dn * hidden * (r * (1.0 - r))
    return [dr, dz, dn * r, dh * z], {0: [dr, dz, dn], 1: [dr, dz, dn * r]}


def _rnn(m: Any, p: list[Any], carried: list[Any], read: Read, attrs: Any) -> Step:
    new = read("x", 0) + p[0]
    new = m.positive(new, new) if attrs["relu"] else m.tanh(new)
    return [new], {0: [new], 1: [carried[0]]}


def _rnn_back(m: Any, p: list[Any], carried: list[Any], read: Read, attrs: Any) -> Step:
    y, dh = read("y", 0), read("gy", 0) + p[0]
    found = m.positive(y, dh) if attrs["relu"] else dh * (1.0 - y * y)
    return [found], {0: [found]}


# ---- step by step: bodies and references ---------------------------------------------------------


class _Values:
    sigmoid, tanh = sigmoid, tanh

    exp, log, maximum = exp, log, maximum

    @staticmethod
    def above(x: Any, bound: float, y: Any, other: float) -> Any:
        return where(x > bound, y, other)

    @staticmethod
    def positive(x: Any, y: Any) -> Any:
        return where(x > 0.0, y, 0.0)

    @staticmethod
    def later(x: Any, by: int, outside: float) -> Any:
        """Units moved up by `by`, `outside` before them."""
        return later(x, -1, by, outside)

    @staticmethod
    def part(x: Any, step: int | None, number: int, units: Any) -> Any:
        """Units of one part of x (at one step, if it has steps)."""
        lead = x.shape[1:-1] if step is not None else x.shape[:-1]
        start, stop = [0] * len(lead), list(lead)
        first, last = ([], []) if step is None else ([step], [step + 1])
        start, stop = [*first, *start, number * units], [*last, *stop, (number + 1) * units]
        found = slice_(x, tuple(start), tuple(stop), (1,) * x.ndim)
        return reshape(found, (*lead, units))

    @staticmethod
    def zeros(like: Any) -> Any:
        return lookup("zeros_like")(like)

    concat, stack = staticmethod(concat), staticmethod(stack)

    @staticmethod
    def product(x: Any, weight: Any, transpose: bool) -> Any:
        return matmul(x, swapaxes(weight, 0, 1) if transpose else weight)


class _Arrays:
    tanh, zeros = staticmethod(np.tanh), staticmethod(np.zeros_like)
    stack, concat = staticmethod(np.stack), staticmethod(np.concatenate)

    @staticmethod
    def sigmoid(x: Any) -> Any:
        return 0.5 + 0.5 * np.tanh(0.5 * x)

    exp, maximum = staticmethod(np.exp), staticmethod(np.maximum)

    @staticmethod
    def log(x: Any) -> Any:
        with np.errstate(divide="ignore"):
            return np.log(x)

    @staticmethod
    def above(x: Any, bound: float, y: Any, other: float) -> Any:
        return np.where(x > bound, y, other)

    @staticmethod
    def positive(x: Any, y: Any) -> Any:
        return np.where(x > 0, y, 0.0)

    @staticmethod
    def later(x: Any, by: int, outside: float) -> Any:
        found = np.full_like(x, outside)
        found[..., by:] = x[..., :-by]
        return found

    @staticmethod
    def part(x: Any, step: int | None, number: int, units: int) -> Any:
        here = x if step is None else x[step]
        return here[..., number * units : (number + 1) * units]

    @staticmethod
    def product(x: Any, weight: Any, transpose: bool) -> Any:
        return x @ (weight.T if transpose else weight)


def _unrolled(rule: Recurrence, m: Any, operands: dict[str, Any], attrs: Any) -> tuple[Any, ...]:
    """All outputs, one step after the other: what a scan means."""
    weight = operands.get("weight")
    long = operands["gy" if rule.backward else "x"]
    units = long.shape[-1] if weight is None else weight.shape[1]
    steps = fixed(long.shape[0]) if m is _Values else long.shape[0]
    one = m.part(long, 0, 0, units)
    carried = [m.zeros(one) if s is None else operands[s] for s in rule.starts]
    outputs: list[dict[int, Any]] = [{} for _ in range(steps)]
    for step in reversed(range(steps)) if rule.is_reversed(attrs) else range(steps):

        def read(name: str, part: int, step: int = step) -> Any:
            x = operands[name]
            return (
                None if x is None else m.part(x, step if len(x.shape) == 3 else None, part, units)
            )

        p = []
        if weight is not None:
            source = m.concat(carried[: rule.sources], axis=-1)
            product = m.product(source, weight, not rule.backward)
            p = [m.part(product, None, n, units) for n in range(rule.targets)]
        carried = [*carried, *(m.later(carried[n], d, o) for n, d, o in rule.shifts)]
        carried, found = rule.step(m, p, carried, read, attrs)
        outputs[step] = {n: m.concat(parts, axis=-1) for n, parts in found.items()}
    result = {n: m.stack([o[n] for o in outputs], axis=0) for n in outputs[0]}
    result |= {n: carried[k] for n, k in rule.ends}
    return tuple(result[n] for n in sorted(result))


def unrolled(rule: Recurrence, operands: dict[str, Any], **attrs: Any) -> tuple[Value, ...]:
    """All outputs of a scan, by ops on Values."""
    return _unrolled(rule, _Values, operands, attrs)


def reference_of(rule: Recurrence, names: Sequence[str], own: Sequence[str] = ()) -> Any:
    def reference(*arguments: Any) -> Any:
        count = len(names)
        given = {n: None if a is None else wide(a) for n, a in zip(names, arguments, strict=False)}
        attrs = dict(zip((*own, "reverse"), arguments[count:], strict=False))
        return _unrolled(rule, _Arrays, given, attrs)

    return reference


# ---- many examples at once -----------------------------------------------------------------------


def batched_scan(op: Op, shared: Sequence[str] = ()) -> None:
    """Give a scan the batching rule of all scans: examples of vmap become more of one batch.

    Operands named in `shared` (weights) have no axis of their own for that: where examples differ
    in them, the rule is that of the body, step by step.
    """

    def rule(size: int, flags: Flags, *inputs: Any, **attrs: Any) -> Any:
        given, rest = [], iter(flags)
        for parameter, x in zip(op.operands, inputs, strict=True):
            flag = x is not None and next(rest)
            if parameter.name in shared:
                if flag:
                    return NotImplemented
                given.append(x)
            else:
                given.append(None if x is None else _together(x, flag, size))
        found = op(*given, **attrs)
        outputs = list(found) if isinstance(found, tuple) else [found]
        hidden = range(len(outputs), len(outputs) + op.residuals)
        return [_apart(y, size) for y in (*outputs, *(outputs[0].sibling(i) for i in hidden))]

    op.batching(rule)


def _together(x: Any, flag: bool, size: int) -> Any:
    """(examples, steps, batch, n) -> (steps, examples * batch, n); states have no steps."""
    x = x if flag else expand(x, (size, *x.shape))
    x = permute(x, (1, 0, 2, 3)) if x.ndim == 4 else x
    return reshape(x, (*x.shape[:-3], size * x.shape[-2], x.shape[-1]))


def _apart(y: Any, size: int) -> Any:
    many, units = y.shape[-2:]
    wide = reshape(y, (*y.shape[:-2], size, many // size, units))
    return permute(wide, (1, 0, 2, 3)) if wide.ndim == 4 else wide


# ---- shapes --------------------------------------------------------------------------------------


def _check(name: str, gates: int, x: Any, weight: Any, **states: Any) -> None:
    need_float(name, "x", x.dtype)
    need_same_dtype(name, x=x, weight=weight, **states)
    units = weight.shape[-1]
    fit = x.ndim == 3 and weight.ndim == 2 and agree(weight.shape[0], units * gates)
    fit = fit and agree(x.shape[-1], units * gates) and x.shape[0] != 0
    for state, s in states.items():
        if fit:
            wanted = (units,) if state == "bias" else (x.shape[1], units)
            fit = len(wanted) == s.ndim and all(map(agree, s.shape, wanted))
    if not fit:
        given = ", ".join(show(v.shape) for v in (x, weight, *states.values()))
        raise ShapeError(
            f"{name}: {given} do not fit: x (steps, batch, {gates} H), at least one step, weight "
            f"({gates} H, H), states (batch, H)"
        )


def _check_back(name: str, gates: int, weight: Any, first: Any, *steps: tuple[Any, int]) -> None:
    """`first` and each of `steps` (with its number of parts) run along the same steps."""
    given = [(first, 1), *steps]
    need_float(name, "gy", first.dtype)
    need_same_dtype(name, weight=weight, **{f"operand {i}": s for i, (s, _) in enumerate(given)})
    fit = weight.ndim == 2 and agree(weight.shape[0], weight.shape[-1] * gates)
    for s, parts in given:
        fit = fit and s.ndim == 3 and s.shape[0] != 0
        if fit:
            wanted = (*first.shape[:2], weight.shape[1] * parts)
            fit = all(map(agree, s.shape, wanted))
    if not fit:
        shown = ", ".join(show(s.shape) for s in (weight, *(s for s, _ in given)))
        raise ShapeError(
            f"{name}: {shown} do not fit: weight ({gates} H, H), then (steps, batch, parts of H)"
        )


def _shapes(x: Spec, units: Any, *parts: int) -> tuple[Spec, ...]:
    return tuple(x.with_shape((*x.shape[:-1], units * n)) for n in parts)


def _samples(gates: int, *operands: tuple[int, ...], **attrs: Any) -> list[Sample]:
    """Operands by their parts: (n,) a sequence of n parts, (n, 1) a weight, () a state, (0,) a
    vector, None: left out.
    """
    found = []
    for steps, batch, units, reverse in ((3, 2, 4, False), (2, 3, 1, True), (1, 1, 3, False)):
        shapes = {
            (): (batch, units),
            (0,): (units,),
            (gates, 1): (gates * units, units),
        }
        draws = tuple(Draw(shapes.get(o) or (steps, batch, o[0] * units), -1, 1) for o in operands)
        found.append(Sample(draws, {**attrs, "reverse": reverse}))
    return found


def _weight_gradient(dx: Any, before: Any) -> Any:
    """Of a weight (gates * H, H): sum over steps and batch of dx * before."""
    flat = (reshape(a, (a.shape[0] * a.shape[1], a.shape[2])) for a in (dx, before))
    left, right = flat
    return matmul(swapaxes(left, 0, 1), right)


def _first(x: Any, reverse: bool) -> Any:
    """The element of the step that is computed first, (batch, ...)."""
    at = x.shape[0] - 1 if reverse else 0
    start, stop = (at, *(0,) * (x.ndim - 1)), (at + 1, *x.shape[1:])
    return reshape(slice_(x, start, stop, (1,) * x.ndim), x.shape[1:])


# ---- LSTM ----------------------------------------------------------------------------------------

LSTM = Recurrence(_lstm, 4, 1, ("h0", "c0"))
LSTM_BACK = Recurrence(_lstm_back, 1, 4, (None,) * 5, True, ((1, 4),))


def _lstm_spec(x: Spec, weight: Spec, h0: Spec, c0: Spec, reverse: bool) -> tuple[Spec, ...]:
    _check("lstm_scan", 4, x, weight, h0=h0, c0=c0)
    return _shapes(x, weight.shape[1], 1, 1, 4, 1, 1)


@op(
    "recurrent",
    lower=LSTM,
    public=False,
    outputs=2,
    residuals=3,
    infer=_lstm_spec,
    reference=reference_of(LSTM, ("x", "weight", "h0", "c0")),
    samples=lambda: _samples(4, (4,), (4, 1), (), ()),
    onnx="LSTM",
    autocast="narrow",
)
def lstm_scan(x: Value, weight: Value, h0: Value, c0: Value, reverse: bool) -> tuple[Value, ...]:
    """h and c of every step of an LSTM, (steps, batch, H) each; hidden: gates i, f, g, o, and h and
    c of the steps before.
    """
    return unrolled(LSTM, {"x": x, "weight": weight, "h0": h0, "c0": c0}, reverse=reverse)


@lstm_scan.gradient
def _lstm_gradient(
    g: Any, y: Any, x: Any, weight: Any, h0: Any, c0: Any, reverse: bool
) -> tuple[Any, ...]:
    gy, gc = g
    _, c, gates, before, c_before = y
    if gy is None:
        gy = lookup("zeros_like")(gc)
    dx, dc0 = lstm_scan_gradient(gy, gc, gates, c, c_before, weight, reverse)
    dh0 = matmul(_first(dx, reverse), weight)
    return dx, _weight_gradient(dx, before), dh0, dc0


def _lstm_gradient_spec(
    gy: Spec, gc: Spec | None, gates: Spec, c: Spec, before: Spec, weight: Spec, reverse: bool
) -> tuple[Spec, ...]:
    steps = [(gates, 4), (c, 1), (before, 1), *([] if gc is None else [(gc, 1)])]
    _check_back("lstm_scan_gradient", 4, weight, gy, *steps)
    return gates, gy.with_shape(gy.shape[1:])


@op(
    "recurrent",
    lower=LSTM_BACK,
    public=False,
    outputs=2,
    infer=_lstm_gradient_spec,
    reference=reference_of(LSTM_BACK, ("gy", "gc", "gates", "c", "before", "weight")),
    samples=lambda: _samples(4, (1,), (1,), (4,), (1,), (1,), (4, 1)),
)
def lstm_scan_gradient(
    gy: Value,
    gc: Value | None,
    gates: Value,
    c: Value,
    before: Value,
    weight: Value,
    reverse: bool,
) -> tuple[Value, ...]:
    """Gradients of x and c0 of an `lstm_scan`, given those of its h and c."""
    given = {"gy": gy, "gc": gc, "gates": gates, "c": c, "before": before, "weight": weight}
    return unrolled(LSTM_BACK, given, reverse=reverse)


# ---- GRU -----------------------------------------------------------------------------------------

GRU = Recurrence(_gru, 3, 1, ("h0",))
GRU_BACK = Recurrence(_gru_back, 1, 3, (None,) * 4, True, ((2, 3),))


def _gru_spec(x: Spec, weight: Spec, bias: Spec, h0: Spec, reverse: bool) -> tuple[Spec, ...]:
    _check("gru_scan", 3, x, weight, bias=bias, h0=h0)
    return _shapes(x, weight.shape[1], 1, 4, 1)


@op(
    "recurrent",
    lower=GRU,
    public=False,
    residuals=2,
    infer=_gru_spec,
    reference=reference_of(GRU, ("x", "weight", "bias", "h0")),
    samples=lambda: _samples(3, (3,), (3, 1), (0,), ()),
    onnx="GRU",
    autocast="narrow",
)
def gru_scan(x: Value, weight: Value, bias: Value, h0: Value, reverse: bool) -> tuple[Value, ...]:
    """h of every step of a GRU, (steps, batch, H); `bias` (H,) is that of the new gate's hidden
    part. Hidden: gates r, z, n and that part, and h of the steps before.
    """
    given = {"x": x, "weight": weight, "bias": bias, "h0": h0}
    return unrolled(GRU, given, reverse=reverse)


@gru_scan.gradient
def _gru_gradient(
    g: Any, y: Any, x: Any, weight: Any, bias: Any, h0: Any, reverse: bool
) -> tuple[Any, ...]:
    _, gates, before = y
    dx, dp, direct = gru_scan_gradient(g, gates, before, weight, reverse)
    units = weight.shape[1]
    hidden = slice_(dp, (0, 0, 2 * units), dp.shape, (1, 1, 1))
    dh0 = matmul(_first(dp, reverse), weight) + direct
    return dx, _weight_gradient(dp, before), sum_(hidden, (0, 1)), dh0


def _gru_gradient_spec(
    gy: Spec, gates: Spec, before: Spec, weight: Spec, reverse: bool
) -> tuple[Spec, ...]:
    _check_back("gru_scan_gradient", 3, weight, gy, (gates, 4), (before, 1))
    dx = gy.with_shape((*gy.shape[:-1], weight.shape[0]))
    return dx, dx, gy.with_shape(gy.shape[1:])


@op(
    "recurrent",
    lower=GRU_BACK,
    public=False,
    outputs=3,
    infer=_gru_gradient_spec,
    reference=reference_of(GRU_BACK, ("gy", "gates", "before", "weight")),
    samples=lambda: _samples(3, (1,), (4,), (1,), (3, 1)),
)
def gru_scan_gradient(
    gy: Value, gates: Value, before: Value, weight: Value, reverse: bool
) -> tuple[Value, ...]:
    """Gradients of x, of the products with the weight, and of h0 beside them, of a `gru_scan`."""
    given = {"gy": gy, "gates": gates, "before": before, "weight": weight}
    return unrolled(GRU_BACK, given, reverse=reverse)


# ---- plain ---------------------------------------------------------------------------------------

RNN = Recurrence(_rnn, 1, 1, ("h0",))
RNN_BACK = Recurrence(_rnn_back, 1, 1, (None,), True)


def _rnn_gradient_spec(gy: Spec, y: Spec, weight: Spec, relu: bool, reverse: bool) -> Spec:
    _check_back("rnn_scan_gradient", 1, weight, gy, (y, 1))
    return gy


def _rnn_spec(x: Spec, weight: Spec, h0: Spec, relu: bool, reverse: bool) -> tuple[Spec, ...]:
    _check("rnn_scan", 1, x, weight, h0=h0)
    return x, x


@op(
    "recurrent",
    lower=RNN,
    public=False,
    residuals=1,
    infer=_rnn_spec,
    reference=reference_of(RNN, ("x", "weight", "h0"), ("relu",)),
    samples=lambda: _samples(1, (1,), (1, 1), (), relu=False),
    onnx="RNN",
    autocast="narrow",
)
def rnn_scan(x: Value, weight: Value, h0: Value, relu: bool, reverse: bool) -> tuple[Value, ...]:
    """tanh or relu of x + h @ weight^T, step by step, (steps, batch, H); hidden: h before."""
    return unrolled(RNN, {"x": x, "weight": weight, "h0": h0}, relu=relu, reverse=reverse)


@rnn_scan.gradient
def _rnn_gradient(
    g: Any, y: Any, x: Any, weight: Any, h0: Any, relu: bool, reverse: bool
) -> tuple[Any, ...]:
    found, before = y
    dx = rnn_scan_gradient(g, found, weight, relu, reverse)
    return dx, _weight_gradient(dx, before), matmul(_first(dx, reverse), weight)


@op(
    "recurrent",
    lower=RNN_BACK,
    public=False,
    infer=_rnn_gradient_spec,
    reference=reference_of(RNN_BACK, ("gy", "y", "weight"), ("relu",)),
    samples=lambda: [
        *_samples(1, (1,), (1,), (1, 1), relu=False),
    ],
)
def rnn_scan_gradient(
    gy: Value, y: Value, weight: Value, relu: bool, reverse: bool
) -> tuple[Value, ...]:
    """The gradient of x of an `rnn_scan`."""
    given = {"gy": gy, "y": y, "weight": weight}
    return unrolled(RNN_BACK, given, relu=relu, reverse=reverse)


for _op in (
    lstm_scan,
    lstm_scan_gradient,
    gru_scan,
    gru_scan_gradient,
    rnn_scan,
    rnn_scan_gradient,
):
    batched_scan(_op, shared=("weight", "bias"))
