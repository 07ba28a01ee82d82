"""Complex numbers as pairs of real ones: taking apart, putting together, and what follows.

A complex tensor is only held, moved and taken apart; whatever computes is said in terms of its two
parts (`complex_rules.py`), before anything is compiled (`transform/complex.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base import shapes
from rabbet.base.dtypes import DType, complex64, complex128, float32, float64
from rabbet.base.errors import DTypeError
from rabbet.base.spec import Spec
from rabbet.graph.op import op
from rabbet.graph.sample import FLOATS, Draw, Sample
from rabbet.graph.value import Value, lookup
from rabbet.ops.create import zeros_like
from rabbet.ops.rules import binary_samples, broadcast, unary_samples

COMPLEX = ("complex64", "complex128")
_WIDER = {float32: complex64, float64: complex128}
_PARTS = {complex64: float32, complex128: float64}


def part_of(dtype: DType) -> DType:
    """The dtype of the parts of a complex number; other dtypes are their own."""
    return _PARTS.get(dtype, dtype)


def whole_of(dtype: DType) -> DType:
    """The complex dtype whose parts have this dtype."""
    return _WIDER.get(dtype, dtype)


def is_complex(x: Any) -> bool:
    """True for a Value or Tensor of complex numbers."""
    return bool(x.dtype.kind == "c")


def _part_spec(name: str) -> Any:
    rule = broadcast(name)

    def infer(x: Spec) -> Spec:
        return rule(x=x).with_dtype(part_of(x.dtype))

    return infer


def _complex_spec(real: Spec, imag: Spec) -> Spec:
    if real.dtype not in _WIDER or real.dtype is not imag.dtype:
        raise DTypeError(
            f"complex: parts of {real.dtype.name} and {imag.dtype.name}; both must be float32, or "
            "both float64"
        )
    shape = shapes.broadcast("complex", real.shape, imag.shape)
    return Spec(shape, whole_of(real.dtype), real.device)


@op(
    "complex",
    method=None,
    wirtinger=True,
    infer=_part_spec("real"),
    reference=lambda x: np.array(x.real),
    samples=unary_samples(dtypes=(*FLOATS, *COMPLEX)),
)
def real(x: Value) -> Value:
    """The real part; real numbers are their own.

    >>> rb.real(rb.asarray([1 + 2j]))
    tensor([1.])
    """


@op(
    "complex",
    method=None,
    wirtinger=True,
    infer=_part_spec("imag"),
    reference=lambda x: np.array(x.imag),
    samples=unary_samples(dtypes=(*FLOATS, *COMPLEX)),
)
def imag(x: Value) -> Value:
    """The imaginary part; 0 for real numbers.

    >>> rb.imag(rb.asarray([1 + 2j]))
    tensor([2.])
    """


@op(
    "complex",
    name="complex",
    method=None,
    wirtinger=True,
    promote="float",
    infer=_complex_spec,
    reference=lambda real, imag: _joined(real, imag),
    samples=binary_samples(grad=False),  # a complex result: tests/ops/test_complex.py
)
def complex_(real: Value, imag: Value) -> Value:
    """real + 1j * imag: complex64 of float32, complex128 of float64.

    >>> rb.complex(rb.asarray([1.0]), rb.asarray([2.0])).tolist()
    [(1+2j)]
    """


def _joined(real: np.ndarray, imag: np.ndarray) -> np.ndarray:
    found = np.zeros(np.broadcast_shapes(real.shape, imag.shape), np.result_type(real, 1j))
    found.real, found.imag = real, imag
    return found


@real.gradient
def _real_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (complex_(g, zeros_like(g)) if is_complex(x) else g,)


@imag.gradient
def _imag_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (complex_(zeros_like(g), g) if is_complex(x) else zeros_like(g),)


@complex_.gradient
def _complex_gradient(g: Any, y: Any, re: Any, im: Any) -> tuple[Any, Any]:
    return real(g), imag(g)


def _conj_samples() -> list[Sample]:
    return unary_samples(dtypes=(*FLOATS, *COMPLEX))()


@op(
    "composite",
    wirtinger=True,
    infer=broadcast("conj"),
    reference=lambda x: np.conj(x) if x.dtype.kind == "c" else x.copy(),
    samples=_conj_samples,
)
def conj(x: Value) -> Value:
    """The complex conjugate; real numbers are their own.

    >>> rb.conj(rb.asarray([1 + 2j])).tolist()
    [(1-2j)]
    """
    if not is_complex(x):
        return x
    return complex_(real(x), lookup("negative")(imag(x)))


@conj.gradient
def _conj_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (conj(g),)


def conjugate(x: Any) -> Any:
    """`conj` where there is something to do."""
    return conj(x) if is_complex(x) else x


@op(
    "composite",
    wirtinger=True,
    promote="float",
    reference=np.angle,
    samples=lambda: [
        Sample((Draw((3, 4), avoid=(0.0,)),), dtypes=(*FLOATS, *COMPLEX)),
        Sample((Draw((0,)),), dtypes=COMPLEX),
    ],
)
def angle(x: Value) -> Value:
    """The angle of complex numbers in radians; of real ones 0 or pi.

    >>> rb.angle(rb.asarray([1j]))
    tensor([1.5707964])
    """
    found = lookup("atan2")(imag(x), real(x))
    return lookup("where")(lookup("isnan")(real(x)), real(x), found)
