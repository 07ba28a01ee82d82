"""The table of scalar operations.

A row is primitive (code generation emits it) or has an expansion into other rows. `expand_all`
leaves only primitive rows. The functions below the table build expressions: `exp(x)`,
`maximum(x, y)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rabbet.base.dtypes import bool_
from rabbet.base.errors import InternalError
from rabbet.expr import (
    math_activation,
    math_arc,
    math_exp,
    math_log,
    math_mod,
    math_plain,
    math_pow,
    math_special,
    math_trig,
    meaning,
)
from rabbet.expr.expr import Expr, make, rebuild, topological
from rabbet.expr.math_base import floating
from rabbet.expr.meaning import Meaning, wide

Expansion: TypeAlias = Callable[..., Expr | None]


@dataclass(frozen=True)
class Row:
    """One scalar operation.

    `meaning` takes NumPy arrays of the arguments' dtype (cast and bitcast: also the DType).
    `expand` takes the arguments and gives an expression, or None where the row is primitive for
    that dtype. `predicate`: the result is bool. Otherwise the result has the dtype of the
    arguments, except for cast and bitcast, whose Expr holds it.
    """

    name: str
    arity: int
    meaning: Meaning
    expand: Expansion | None = None
    predicate: bool = False


def _rows(*rows: Row) -> dict[str, Row]:
    return {row.name: row for row in rows}


ROWS: dict[str, Row] = _rows(
    # primitive
    Row("add", 2, np.add),
    Row("sub", 2, np.subtract),
    Row("mul", 2, np.multiply),
    Row("div", 2, np.divide),
    Row("neg", 1, np.negative),
    Row("abs", 1, np.abs),
    Row("min", 2, meaning.minimum),
    Row("max", 2, meaning.maximum),
    Row("sqrt", 1, np.sqrt),
    Row("floor", 1, np.floor),
    Row("ceil", 1, np.ceil),
    Row("trunc", 1, np.trunc),
    Row("round", 1, np.rint),
    Row("fma", 3, meaning.fma),
    Row("residue", 3, meaning.residue),
    Row("eq", 2, np.equal, predicate=True),
    Row("ne", 2, np.not_equal, predicate=True),
    Row("lt", 2, np.less, predicate=True),
    Row("le", 2, np.less_equal, predicate=True),
    Row("and", 2, np.bitwise_and),
    Row("or", 2, np.bitwise_or),
    Row("xor", 2, np.bitwise_xor),
    Row("not", 1, np.invert),
    Row("shl", 2, meaning.shift_left),
    Row("shr", 2, meaning.shift_right),
    Row("mulhi", 2, meaning.high_product),
    Row("scale", 2, meaning.scaled),
    Row("select", 3, np.where),
    Row("cast", 1, meaning.cast),
    Row("bitcast", 1, meaning.bitcast),
    Row("floordiv", 2, meaning.floordiv, math_mod.floordiv),
    Row("mod", 2, meaning.modulo, math_mod.modulo),
    # expanded
    Row("exp", 1, wide(np.exp), floating(math_exp.exp)),
    Row("exp2", 1, wide(np.exp2), floating(math_exp.exp2)),
    Row("expm1", 1, wide(np.expm1), floating(math_exp.expm1)),
    Row("log", 1, wide(np.log), floating(math_log.log)),
    Row("log1p", 1, wide(np.log1p), floating(math_log.log1p)),
    Row("log2", 1, wide(np.log2), floating(math_log.log2)),
    Row("log10", 1, wide(np.log10), floating(math_log.log10)),
    Row("pow", 2, meaning.power, math_pow.power),
    Row("sin", 1, wide(np.sin), floating(math_trig.sin)),
    Row("cos", 1, wide(np.cos), floating(math_trig.cos)),
    Row("tan", 1, wide(np.tan), floating(math_trig.tan)),
    Row("asin", 1, wide(np.arcsin), floating(math_arc.asin)),
    Row("acos", 1, wide(np.arccos), floating(math_arc.acos)),
    Row("atan", 1, wide(np.arctan), floating(math_arc.atan)),
    Row("atan2", 2, wide(np.arctan2), floating(math_arc.atan2)),
    Row("sinh", 1, wide(np.sinh), floating(math_exp.sinh)),
    Row("cosh", 1, wide(np.cosh), floating(math_exp.cosh)),
    Row("tanh", 1, wide(np.tanh), floating(math_exp.tanh)),
    Row("asinh", 1, wide(np.arcsinh), floating(math_log.asinh)),
    Row("acosh", 1, wide(np.arccosh), floating(math_log.acosh)),
    Row("atanh", 1, wide(np.arctanh), floating(math_log.atanh)),
    Row("erf", 1, meaning.erf, floating(math_special.erf)),
    Row("erfinv", 1, meaning.erfinv, floating(math_special.erfinv)),
    Row("lgamma", 1, meaning.lgamma, floating(math_special.lgamma)),
    Row("digamma", 1, meaning.digamma, floating(math_special.digamma)),
    Row("sigmoid", 1, wide(meaning.sigmoid), floating(math_exp.sigmoid)),
    Row("silu", 1, wide(meaning.silu), floating(math_activation.silu)),
    Row("gelu", 1, meaning.gelu, floating(math_activation.gelu)),
    Row("gelu_tanh", 1, wide(meaning.gelu_tanh), floating(math_activation.gelu_tanh)),
    Row("mish", 1, wide(meaning.mish), floating(math_activation.mish)),
    Row("logaddexp", 2, wide(np.logaddexp), floating(math_log.logaddexp)),
    Row("hypot", 2, wide(np.hypot), floating(math_pow.hypot)),
    Row("cbrt", 1, wide(np.cbrt), floating(math_pow.cbrt)),
    Row("rsqrt", 1, wide(lambda x: 1.0 / np.sqrt(x)), floating(math_plain.rsqrt)),
    Row("reciprocal", 1, np.reciprocal, floating(math_plain.reciprocal)),
    Row("square", 1, np.square, math_plain.square),
    Row("sign", 1, meaning.sign, math_plain.sign),
    Row("copysign", 2, np.copysign, floating(math_plain.copy_sign)),
    Row("nextafter", 2, np.nextafter, math_plain.nextafter),
    Row("fmod", 2, np.fmod, floating(math_mod.fmod)),
    Row("isnan", 1, np.isnan, math_plain.isnan, predicate=True),
    Row("isinf", 1, np.isinf, math_plain.isinf, predicate=True),
    Row("isfinite", 1, np.isfinite, math_plain.isfinite, predicate=True),
    Row("signbit", 1, np.signbit, math_plain.signbit, predicate=True),
)

_LEAVES = ("const", "var", "size", "load", "acc")
# "add" to "bitcast": the rows without an expansion.
PRIMITIVE = frozenset(list(ROWS)[: list(ROWS).index("exp")])


def expand_all(e: Expr) -> Expr:
    """`e` with every row that has an expansion replaced, until only primitive rows are left.

    Shared parts stay shared. Raises InternalError for a name that is not in the table.
    """
    return expand_roots((e,))[0]


def expand_roots(roots: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """`expand_all` of several expressions that share parts."""
    done: dict[Expr, Expr] = {}
    for root in roots:
        _expand(root, done)
    return tuple(done[r] for r in roots)


def _expand(root: Expr, done: dict[Expr, Expr]) -> None:
    for e in topological([root]):
        if e in done:
            continue
        args = tuple(done[a] for a in e.args)
        rebuilt = e if args == e.args else rebuild(e, args)
        if rebuilt.op in _LEAVES:
            done[e] = rebuilt
            continue
        row = ROWS.get(rebuilt.op)
        if row is None:
            raise InternalError(f"scalar {rebuilt.op}: no such row")
        expansion = row.expand(*rebuilt.args) if row.expand else None
        if expansion is None and row.name not in PRIMITIVE:
            raise InternalError(f"scalar {row.name}: no expansion for {rebuilt.args[0].dtype.name}")
        if expansion is not None:
            # Expansions use other expanded rows at most a few levels deep.
            _expand(expansion, done)
            expansion = done[expansion]
        done[e] = rebuilt if expansion is None else expansion


# --------------------------------------------------------------------------------- constructors


def apply(name: str, *args: Expr) -> Expr:
    """The expression of a row: bool for a predicate, else of the arguments' dtype."""
    row = ROWS.get(name)
    if row is None or row.arity != len(args) or name in ("cast", "bitcast"):
        raise InternalError(f"scalar {name}: no such row of {len(args)} arguments")
    first = args[1] if name == "select" else args[0]
    if any(a.dtype is not first.dtype for a in args[1:]):
        raise InternalError(f"scalar {name}: {', '.join(a.dtype.name for a in args)} differ")
    return make(name, args, bool_ if row.predicate else first.dtype)


def _constructor(name: str) -> Callable[..., Expr]:
    def build(*args: Expr) -> Expr:
        return apply(name, *args)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"The scalar row `{name}`."
    return build


absolute = _constructor("abs")
minimum = _constructor("min")
maximum = _constructor("max")
sqrt = _constructor("sqrt")
floor = _constructor("floor")
ceil = _constructor("ceil")
trunc = _constructor("trunc")
fma = _constructor("fma")
scale = _constructor("scale")
exp = _constructor("exp")
exp2 = _constructor("exp2")
expm1 = _constructor("expm1")
log = _constructor("log")
log1p = _constructor("log1p")
log2 = _constructor("log2")
log10 = _constructor("log10")
power = _constructor("pow")
sin = _constructor("sin")
cos = _constructor("cos")
tan = _constructor("tan")
asin = _constructor("asin")
acos = _constructor("acos")
atan = _constructor("atan")
atan2 = _constructor("atan2")
sinh = _constructor("sinh")
cosh = _constructor("cosh")
tanh = _constructor("tanh")
asinh = _constructor("asinh")
acosh = _constructor("acosh")
atanh = _constructor("atanh")
erf = _constructor("erf")
erfinv = _constructor("erfinv")
lgamma = _constructor("lgamma")
digamma = _constructor("digamma")
sigmoid = _constructor("sigmoid")
logaddexp = _constructor("logaddexp")
hypot = _constructor("hypot")
cbrt = _constructor("cbrt")
rsqrt = _constructor("rsqrt")
reciprocal = _constructor("reciprocal")
square = _constructor("square")
sign = _constructor("sign")
copysign = _constructor("copysign")
nextafter = _constructor("nextafter")
fmod = _constructor("fmod")
floordiv = _constructor("floordiv")
remainder = _constructor("mod")
isnan = _constructor("isnan")
isinf = _constructor("isinf")
isfinite = _constructor("isfinite")
signbit = _constructor("signbit")
