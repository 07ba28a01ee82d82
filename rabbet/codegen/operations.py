"""Primitive rows of the scalar table as LLVM instructions, on scalars and on vectors.

Takes the row's name, the values of its arguments and their dtype; gives the value. Meaning is
that of the table (`rabbet.expr.scalars`), on every target: no libcall, no undefined behaviour, no
contraction.
"""

from __future__ import annotations

from collections.abc import Callable

from rabbet.base.dtypes import DType, bool_, float32, float64
from rabbet.base.errors import CompileError, InternalError
from rabbet.base.target import Target
from rabbet.codegen import halves
from rabbet.codegen.ir import (
    Function,
    Value,
    element_of,
    lanes_of,
    literal,
    may_be_nan,
    type_suffix,
    vector_of,
)

_SPELLING = {
    **{"float32": "float", "float64": "double", "bool": "i1"},
    **{"float16": "i16", "bfloat16": "i16"},  # as their bits: see halves.py
}
_UNSIGNED = {"slt": "ult", "sle": "ule"}
_INTEGER_OPCODES = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "and": "and",
    "or": "or",
    "xor": "xor",
}
_BOOL_OPCODES = {
    "add": "or",
    "mul": "and",
    "max": "or",
    "min": "and",
    "and": "and",
    "or": "or",
    "xor": "xor",
}
_FLOAT_OPCODES = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_COMPARISONS = {
    "eq": ("eq", "oeq"),
    "ne": ("ne", "une"),
    "lt": ("slt", "olt"),
    "le": ("sle", "ole"),
}


def register_type(dtype: DType, lanes: int = 1) -> str:
    """The LLVM type of a value of `dtype` in registers (a bool is an i1)."""
    return vector_of(_SPELLING.get(dtype.name) or _integer_or_refuse(dtype), lanes)


def memory_type(dtype: DType, lanes: int = 1) -> str:
    """The LLVM type of a value of `dtype` in memory (a bool is an i8)."""
    return vector_of("i8", lanes) if dtype is bool_ else register_type(dtype, lanes)


def _integer_or_refuse(dtype: DType) -> str:
    if not dtype.is_integer:
        raise CompileError(f"kernels do not compute with {dtype.name}")
    return f"i{dtype.bits}"


def has_rounding(target: Target) -> bool:
    """Does the machine round to whole numbers by itself? (Elsewhere LLVM would call libm.)"""
    return not target.triple.startswith("x86") or "+sse4.1" in target.features


def has_masks(target: Target) -> bool:
    """Does the machine load and store any element width under a mask."""
    return "+avx512bw" in target.features


def constant(number: float, dtype: DType, lanes: int = 1) -> Value:
    """A literal of a dtype in registers; halves are spelled by their bits."""
    return literal(bits_of_half(number, dtype), register_type(dtype, lanes))


def bits_of_half(number: float, dtype: DType) -> float:
    """The 16 bits of a half as an integer; numbers of other dtypes as they are."""
    return int(dtype.numpy.type(number).view("uint16")) if dtype.is_half else number


def to_memory(fn: Function, value: Value) -> Value:
    """i1 becomes i8; everything else stays."""
    return fn.convert("zext", value, "i8") if element_of(value.type) == "i1" else value


def from_memory(fn: Function, value: Value, dtype: DType) -> Value:
    """The i8 of a bool becomes an i1; everything else stays."""
    return fn.icmp("ne", value, 0) if dtype is bool_ else value


def row(fn: Function, op: str, dtype: DType, args: list[Value], given: DType) -> Value:
    """The row `op` with result `dtype` on `args`, the last of which has the dtype `given`."""
    if op in _COMPARISONS:
        return _compare(fn, op, args, given)
    if op == "select":
        return fn.select(args[0], args[1], args[2])
    if op == "cast":
        return _cast(fn, args[0], given, dtype)
    if op == "bitcast":
        return fn.convert("bitcast", args[0], register_type(dtype))
    table = _FLOAT_ROWS if given.is_float else _BOOL_ROWS if given is bool_ else _INTEGER_ROWS
    if op not in table:
        raise InternalError(f"no instruction for scalar {op} of {given.name}")
    return table[op](fn, op, args, given)


Emit = Callable[[Function, str, list[Value], DType], Value]


def _compare(fn: Function, op: str, args: list[Value], dtype: DType) -> Value:
    integer, floating = _COMPARISONS[op]
    if dtype.is_float:
        return fn.fcmp(floating, args[0], args[1])
    if dtype.kind != "i":
        integer = _UNSIGNED.get(integer, integer)
    return fn.icmp(integer, args[0], args[1])


# ---------------------------------------------------------------------- floats


def _float_binary(fn: Function, op: str, args: list[Value], dtype: DType) -> Value:
    return fn.binary(_FLOAT_OPCODES[op], args[0], args[1])


def _float_intrinsic(fn: Function, op: str, args: list[Value], dtype: DType) -> Value:
    name = {"abs": "fabs", "sqrt": "sqrt"}[op]
    return fn.intrinsic(f"{name}.{type_suffix(args[0].type)}", args[0].type, *args)


def _float_extreme(fn: Function, op: str, args: list[Value], dtype: DType) -> Value:
    """The smaller or larger number, -0 below +0; NaN where either is.

    LLVM's own way around maxps takes six instructions, three of them on masks: 1.3 times the time
    of a whole chain of ten ops. Here one instruction orders, which prefers a number to NaN, and two
    put NaNs back; none does where an operand is a number that is known.
    """
    a, b = args
    lanes = lanes_of(a.type)
    if "+avx512dq" not in fn.module.target.features or lanes * dtype.bits != 512:
        name = {"min": "minimum", "max": "maximum"}[op]
        return fn.intrinsic(f"{name}.{type_suffix(a.type)}", a.type, a, b)
    suffix = "ps.512" if dtype.bits == 32 else "pd.512"
    every, current = Value("-1", f"i{lanes}"), Value("4", "i32")
    order = Value({"min": "4", "max": "5"}[op], "i32")  # with the sign of the one that is taken
    best = fn.intrinsic(f"x86.avx512.mask.range.{suffix}", a.type, a, b, order, a, every, current)
    kinds = literal(0x11, f"<{lanes} x i{dtype.bits}>")  # quiet and signalling NaN: as it is
    none = Value("0", "i32")
    name = f"x86.avx512.mask.fixupimm.{suffix}"
    for x in args:
        if may_be_nan(x):
            best = fn.intrinsic(name, a.type, best, x, kinds, none, every, current)
    return best


def _float_negate(fn: Function, op: str, args: list[Value], dtype: DType) -> Value:
    return fn.do(args[0].type, f"fneg {args[0].type} {args[0].text}")


def _fma(fn: Function, op: str, args: list[Value], dtype: DType) -> Value:
    kind = args[0].type
    if fn.module.target.has_fma:
        return fn.intrinsic(f"fma.{type_suffix(kind)}", kind, *args)
    return fn.binary("fadd", fn.binary("fmul", args[0], args[1]), args[2])


def _residue(fn: Function, op: str, args: list[Value], dtype: DType) -> Value:
    """a * b - near, near the product; without an fma by halves of the factors (Dekker)."""
    a, b, near = args
    if fn.module.target.has_fma:
        negative = _float_negate(fn, "neg", [near], dtype)
        return _fma(fn, "fma", [a, b, negative], dtype)
    (a_high, a_low), (b_high, b_low) = (_halved(fn, x, dtype) for x in (a, b))
    rest = fn.binary("fsub", fn.binary("fmul", a_high, b_high), near)
    for x, y in ((a_high, b_low), (a_low, b_high), (a_low, b_low)):
        rest = fn.binary("fadd", rest, fn.binary("fmul", x, y))
    return rest


def _halved(fn: Function, x: Value, dtype: DType) -> tuple[Value, Value]:
    """x as the upper half of its significand, rounded, and the rest: their products are exact."""
    low = 12 if dtype.bits == 32 else 27
    bits = fn.convert("bitcast", x, f"i{dtype.bits}")
    rounded = fn.add(bits, literal(1 << (low - 1), bits.type))
    kept = fn.binary("and", rounded, literal(-(1 << low), bits.type))
    high = fn.convert("bitcast", kept, element_of(x.type))
    return high, fn.binary("fsub", x, high)


def _rounding(fn: Function, op: str, args: list[Value], dtype: DType) -> Value:
    """floor, ceil, trunc, round half to even; without instructions, by adding 2^23 or 2^52."""
    x = args[0]
    if has_rounding(fn.module.target):
        name = {"round": "roundeven"}.get(op, op)
        return fn.intrinsic(f"{name}.{type_suffix(x.type)}", x.type, x)
    magic = literal(2.0**23 if dtype.bits == 32 else 2.0**52, x.type)
    suffix = type_suffix(x.type)
    size = fn.intrinsic(f"fabs.{suffix}", x.type, x)
    nearest = fn.binary("fsub", fn.binary("fadd", size, magic), magic)
    if op == "trunc":
        whole = _step(fn, "fsub", nearest, fn.fcmp("ogt", nearest, size))
    else:
        whole = fn.intrinsic(f"copysign.{suffix}", x.type, nearest, x)
        if op == "floor":
            whole = _step(fn, "fsub", whole, fn.fcmp("ogt", whole, x))
        elif op == "ceil":
            whole = _step(fn, "fadd", whole, fn.fcmp("olt", whole, x))
    signed = fn.intrinsic(f"copysign.{suffix}", x.type, whole, x)
    return fn.select(fn.fcmp("olt", size, magic), signed, x)  # large numbers are whole; NaN stays


def _step(fn: Function, opcode: str, value: Value, condition: Value) -> Value:
    """value +- 1 where the condition holds."""
    one = fn.select(condition, literal(1.0, value.type), literal(0.0, value.type))
    return fn.binary(opcode, value, one)


def _scale(fn: Function, op: str, args: list[Value], dtype: DType) -> Value:
    """p * 2**n, rounded once: one instruction, or two factors of normal exponents."""
    p, n = args
    lanes = lanes_of(p.type)
    if "+avx512f" in fn.module.target.features and lanes * dtype.bits == 512:
        name = f"x86.avx512.mask.scalef.{'ps' if dtype.bits == 32 else 'pd'}.512"
        every, current = Value("-1", f"i{lanes}"), Value("4", "i32")
        return fn.intrinsic(name, p.type, p, n, p, every, current)
    fraction, bias = (23, 127) if dtype.bits == 32 else (52, 1023)
    integer = f"i{dtype.bits}"
    shifted = fn.binary("fadd", n, literal(1.5 * 2.0**fraction + 2 * bias, p.type))
    encoded = fn.convert("bitcast", shifted, integer)
    kind = encoded.type
    half = fn.binary("lshr", encoded, literal(1, kind))
    for part in (half, fn.sub(encoded, half)):
        bits = fn.binary("shl", part, literal(fraction, kind))
        factor = fn.convert("bitcast", bits, element_of(p.type))
        p = fn.binary("fmul", p, factor)
    return p


_FLOAT_ROWS: dict[str, Emit] = {
    **dict.fromkeys(("add", "sub", "mul", "div"), _float_binary),
    **dict.fromkeys(("abs", "sqrt"), _float_intrinsic),
    **dict.fromkeys(("min", "max"), _float_extreme),
    **dict.fromkeys(("floor", "ceil", "trunc", "round"), _rounding),
    "neg": _float_negate,
    "fma": _fma,
    "residue": _residue,
    "scale": _scale,
}


# ---------------------------------------------------------------------- integers and bools


def _integer_binary(fn: Function, op: str, args: list[Value], dtype: DType) -> Value:
    match op:
        case "add":
            return fn.add(args[0], args[1])
        case "sub":
            return fn.sub(args[0], args[1])
        case "mul":
            return fn.mul(args[0], args[1])
    return fn.binary(_INTEGER_OPCODES[op], args[0], args[1])


def _integer_fma(fn: Function, op: str, args: list[Value], dtype: DType) -> Value:
    return fn.add(fn.mul(args[0], args[1]), args[2])


def _integer_extreme(fn: Function, op: str, args: list[Value], dtype: DType) -> Value:
    kind = args[0].type
    sign = "s" if dtype.kind == "i" else "u"
    return fn.intrinsic(f"{sign}{op}.{type_suffix(kind)}", kind, *args)


def _integer_unary(fn: Function, op: str, args: list[Value], dtype: DType) -> Value:
    x = args[0]
    if op == "neg":
        return fn.binary("sub", literal(0, x.type), x)
    if op == "not":
        return fn.binary("xor", x, literal(-1, x.type))
    if op == "abs" and dtype.kind == "i":
        return fn.intrinsic(f"abs.{type_suffix(x.type)}", x.type, x, Value("false", "i1"))
    return x  # floor, ceil, trunc, round, and abs of unsigned


def _shift(fn: Function, op: str, args: list[Value], dtype: DType) -> Value:
    """Counts of the width or more (negative ones too) shift everything out."""
    x, count = args
    width = literal(dtype.bits, x.type)
    fits = fn.icmp("ult", count, width)
    if op == "shr" and dtype.kind == "i":
        return fn.binary("ashr", x, fn.select(fits, count, literal(dtype.bits - 1, x.type)))
    zero = literal(0, x.type)
    shifted = fn.binary("shl" if op == "shl" else "lshr", x, fn.select(fits, count, zero))
    return fn.select(fits, shifted, zero)


def _divide(fn: Function, op: str, args: list[Value], dtype: DType) -> Value:
    """floordiv and mod: x // 0 = x % 0 = 0, and the smallest number // -1 wraps; never a trap."""
    x, y = args
    zero, one = literal(0, x.type), literal(1, x.type)
    by_zero = fn.icmp("eq", y, zero)
    if dtype.kind == "u":
        quotient = fn.binary("udiv" if op == "floordiv" else "urem", x, fn.select(by_zero, one, y))
        return fn.select(by_zero, zero, quotient)
    smallest = fn.icmp("eq", x, literal(-(1 << (dtype.bits - 1)), x.type))
    wraps = fn.binary("and", smallest, fn.icmp("eq", y, literal(-1, x.type)))
    divisor = fn.select(fn.binary("or", by_zero, wraps), one, y)
    quotient = fn.binary("sdiv", x, divisor)
    rest = fn.sub(x, fn.mul(quotient, divisor))
    opposite = fn.icmp("slt", fn.binary("xor", rest, divisor), zero)
    uneven = fn.binary("and", fn.icmp("ne", rest, zero), opposite)
    if op == "floordiv":
        result = fn.select(uneven, fn.sub(quotient, one), quotient)
    else:
        result = fn.select(uneven, fn.add(rest, divisor), rest)
    return fn.select(by_zero, zero, result)


def index_division(fn: Function, op: str, x: Value, y: Value) -> Value:
    """floordiv and mod of 64-bit vectors whose numbers are below 2^52, through float64.

    Exact: a quotient that is not whole is further from the next whole number than float64 rounds.
    Machines divide vectors of integers one lane at a time.
    """
    kind = vector_of("double", lanes_of(x.type))
    zero, one = literal(0, y.type), literal(1, y.type)
    by_zero = fn.icmp("eq", y, zero)
    divisor = fn.select(by_zero, one, y)
    ratio = fn.binary(
        "fdiv", fn.convert("sitofp", x, "double"), fn.convert("sitofp", divisor, "double")
    )
    whole = _rounding(fn, "floor", [Value(ratio.text, kind)], float64)
    quotient = fn.convert("fptosi", whole, "i64")
    result = quotient if op == "floordiv" else fn.sub(x, fn.mul(quotient, divisor))
    return fn.select(by_zero, zero, result)


def _high_product(fn: Function, op: str, args: list[Value], dtype: DType) -> Value:
    wide = f"i{2 * dtype.bits}"
    extend = "sext" if dtype.kind == "i" else "zext"
    x, y = (fn.convert(extend, a, wide) for a in args)
    product = fn.binary("mul", x, y)
    high = fn.binary("lshr", product, literal(dtype.bits, product.type))
    return fn.convert("trunc", high, f"i{dtype.bits}")


_INTEGER_ROWS: dict[str, Emit] = {
    **dict.fromkeys(_INTEGER_OPCODES, _integer_binary),
    **dict.fromkeys(("min", "max"), _integer_extreme),
    **dict.fromkeys(("neg", "not", "abs", "floor", "ceil", "trunc", "round"), _integer_unary),
    **dict.fromkeys(("shl", "shr"), _shift),
    **dict.fromkeys(("floordiv", "mod"), _divide),
    "fma": _integer_fma,
    "mulhi": _high_product,
}


def _bool_binary(fn: Function, op: str, args: list[Value], dtype: DType) -> Value:
    return fn.binary(_BOOL_OPCODES[op], args[0], args[1])


def _bool_not(fn: Function, op: str, args: list[Value], dtype: DType) -> Value:
    return fn.binary("xor", args[0], literal(True, args[0].type))


_BOOL_ROWS: dict[str, Emit] = {**dict.fromkeys(_BOOL_OPCODES, _bool_binary), "not": _bool_not}


# ---------------------------------------------------------------------- conversions


def _cast(fn: Function, x: Value, given: DType, dtype: DType) -> Value:
    """Float to integer truncates and saturates, NaN gives 0; to bool is `!= 0`; integers wrap."""
    element = register_type(dtype)
    if given is dtype:
        return x
    if given.is_half:
        if dtype is bool_:
            return fn.icmp("ne", fn.binary("and", x, literal(0x7FFF, x.type)), 0)
        return _cast(fn, halves.widen(fn, x, given), float32, dtype)
    if dtype.is_half:
        if given is float64:
            x = halves.from_double(fn, x)
        elif given is not float32:
            x = halves.from_integer(fn, x, given)
        return halves.narrow(fn, x, dtype)
    if dtype is bool_:
        zero = literal(0, x.type)
        return fn.fcmp("une", x, zero) if given.is_float else fn.icmp("ne", x, zero)
    if given.is_float:
        if dtype.is_float:
            return fn.convert("fpext" if dtype.bits > given.bits else "fptrunc", x, element)
        name = "fptosi" if dtype.kind == "i" else "fptoui"
        kind = vector_of(element, lanes_of(x.type))
        return fn.intrinsic(f"{name}.sat.{type_suffix(kind)}.{type_suffix(x.type)}", kind, x)
    if dtype.is_float:
        return fn.convert("sitofp" if given.kind == "i" else "uitofp", x, element)
    if given is bool_ or dtype.bits > given.bits:
        return fn.convert("sext" if given.kind == "i" else "zext", x, element)
    return fn.convert("trunc", x, element) if dtype.bits < given.bits else x
