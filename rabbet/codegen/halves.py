"""Conversions of float16 and bfloat16, which lie in registers as the 16 bits they have in memory.

Kernels compute in float32; a half is only ever converted, moved or selected. All conversions round
once, to nearest and ties to even, from any dtype, and are exact about subnormals, infinities and
NaN on machines without instructions for halves too. bfloat16 never uses the machine's own
instructions: those of x86 take subnormals for zeros.
"""

from __future__ import annotations

from rabbet.base.dtypes import DType, float16
from rabbet.base.target import Target
from rabbet.codegen.ir import Function, Value, lanes_of, literal, vector_of


def has_float16(target: Target) -> bool:
    """Does the machine convert between float16 and float32 by itself?"""
    return "+f16c" in target.features


def widen(fn: Function, x: Value, given: DType) -> Value:
    """The float32 of a half: exact."""
    if given is not float16:
        bits = fn.binary("shl", fn.convert("zext", x, "i32"), _like(16, x, "i32"))
        return fn.convert("bitcast", bits, "float")
    if has_float16(fn.module.target):
        return fn.convert("fpext", fn.convert("bitcast", x, "half"), "float")
    bits = fn.convert("zext", x, "i32")
    magnitude = fn.binary("and", bits, literal(0x7FFF, bits.type))
    shifted = fn.binary("shl", magnitude, literal(13, bits.type))
    # Read as float32 the exponent is too small by 112; subnormal halves are subnormal here as well.
    scaled = fn.convert("bitcast", shifted, "float")
    scaled = fn.binary("fmul", scaled, literal(2.0**112, scaled.type))
    finite = fn.convert("bitcast", scaled, "i32")
    endless = fn.binary("or", shifted, literal(0x7F800000, bits.type))
    is_finite = fn.icmp("ult", magnitude, literal(0x7C00, bits.type))
    sign = fn.binary("shl", fn.binary("and", bits, literal(0x8000, bits.type)), _count(16, bits))
    return fn.convert(
        "bitcast", fn.binary("or", fn.select(is_finite, finite, endless), sign), "float"
    )


def narrow(fn: Function, x: Value, dtype: DType) -> Value:
    """The half nearest to a float32."""
    if dtype is not float16:
        return _to_bfloat16(fn, x)
    if has_float16(fn.module.target):
        return fn.convert("bitcast", fn.convert("fptrunc", x, "half"), "i16")
    return _to_float16(fn, x)


def _to_bfloat16(fn: Function, x: Value) -> Value:
    bits = fn.convert("bitcast", x, "i32")
    high = fn.binary("lshr", bits, _count(16, bits))
    odd = fn.binary("and", high, literal(1, bits.type))
    rounded = fn.add(fn.add(bits, literal(0x7FFF, bits.type)), odd)
    rounded = fn.binary("lshr", rounded, _count(16, bits))
    quiet = fn.binary("or", high, literal(0x40, bits.type))
    return fn.convert("trunc", fn.select(fn.fcmp("uno", x, x), quiet, rounded), "i16")


def _to_float16(fn: Function, x: Value) -> Value:
    bits = fn.convert("bitcast", x, "i32")
    kind = bits.type
    sign = fn.binary("and", fn.binary("lshr", bits, _count(16, bits)), literal(0x8000, kind))
    size = fn.binary("and", bits, literal(0x7FFFFFFF, kind))
    # Normal: the exponent less 112, half a unit added so that ties go to even.
    odd = fn.binary("and", fn.binary("lshr", size, _count(13, bits)), literal(1, kind))
    normal = fn.add(fn.add(size, literal(0xC8000FFF - (1 << 32), kind)), odd)
    normal = fn.binary("lshr", normal, _count(13, bits))
    # Subnormal: 0.5 + |x| has its last place where the half has it, so the sum rounds.
    small = fn.convert("bitcast", size, "float")
    small = fn.binary("fadd", small, literal(0.5, small.type))
    small = fn.binary("sub", fn.convert("bitcast", small, "i32"), literal(0x3F000000, kind))
    payload = fn.binary("and", fn.binary("lshr", size, _count(13, bits)), literal(0x3FF, kind))
    nan = fn.binary("or", payload, literal(0x7E00, kind))
    endless = fn.select(fn.icmp("ugt", size, literal(0x7F800000, kind)), nan, literal(0x7C00, kind))
    finite = fn.select(fn.icmp("ult", size, literal(0x38800000, kind)), small, normal)
    found = fn.select(fn.icmp("uge", size, literal(0x47800000, kind)), endless, finite)
    return fn.convert("trunc", fn.binary("or", found, sign), "i16")


def from_double(fn: Function, x: Value) -> Value:
    """float64 as float32 rounded to odd: what is rounded once more is rounded as if only once.

    (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008.)
    """
    near = fn.convert("fptrunc", x, "float")
    back = fn.convert("fpext", near, "double")
    bits = fn.convert("bitcast", near, "i32")
    suffix = "f64" if lanes_of(x.type) == 1 else f"v{lanes_of(x.type)}f64"
    larger = fn.fcmp(
        "ogt",
        fn.intrinsic(f"fabs.{suffix}", x.type, back),
        fn.intrinsic(f"fabs.{suffix}", x.type, x),
    )
    cut = fn.sub(bits, fn.convert("zext", larger, "i32"))
    inexact = fn.convert("zext", fn.fcmp("one", back, x), "i32")
    return fn.convert("bitcast", fn.binary("or", cut, inexact), "float")


def from_integer(fn: Function, x: Value, given: DType) -> Value:
    """An integer or bool as float32 such that one more rounding gives the half nearest to it."""
    opcode = "sitofp" if given.kind == "i" else "uitofp"
    if given.bits <= 16:  # exact (a bool too)
        return fn.convert(opcode, x, "float")
    if given.bits == 64:  # numbers too large for float64: the last bit says that more were there
        few = fn.binary("lshr" if given.kind == "u" else "ashr", x, literal(11, x.type))
        rest = fn.icmp("ne", fn.binary("and", x, literal(2047, x.type)), 0)
        squeezed = fn.binary("or", few, fn.convert("zext", rest, "i64"))
        double = vector_of("double", lanes_of(x.type))
        large = fn.binary("fmul", fn.convert(opcode, squeezed, "double"), literal(2048.0, double))
        offset = fn.add(x, literal(1 << 53 if given.kind == "i" else 0, x.type))
        fits = fn.icmp("ult", offset, literal(1 << (54 if given.kind == "i" else 53), x.type))
        return from_double(fn, fn.select(fits, fn.convert(opcode, x, "double"), large))
    return from_double(fn, fn.convert(opcode, x, "double"))


def _count(count: int, like: Value) -> Value:
    return literal(count, like.type)


def _like(number: int, x: Value, element: str) -> Value:
    return literal(number, vector_of(element, lanes_of(x.type)))
