"""Every name of the standard is here and can be called as the standard says."""

from __future__ import annotations

import inspect
from inspect import Parameter

import pytest

import rabbet as rb
from tests.array_api import standard

KEYWORD = (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
PLACE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def signatures(table: str) -> list:
    """(name, signature) of each line."""
    found = []
    for line in table.split("\n"):
        if line:
            name, rest = line[: line.index("(")], line[line.index("(") :]
            names: dict = {}
            exec(f"def f{rest}: pass", {}, names)
            found.append(pytest.param(name, inspect.signature(names["f"]), id=name))
    return found


def fits(ours: inspect.Signature, wanted: inspect.Signature) -> None:
    """Every call that the standard allows is possible, with the same meaning of each argument."""
    given = list(ours.parameters.values())
    for number, p in enumerate(wanted.parameters.values()):
        if p.kind is Parameter.KEYWORD_ONLY:
            assert ours.parameters[p.name].kind in KEYWORD, p.name
            assert ours.parameters[p.name].default == p.default, p.name
        elif p.kind is Parameter.POSITIONAL_ONLY:
            assert given[number].kind in PLACE, p.name
        else:
            assert (given[number].name, given[number].kind) == (p.name, p.kind)
        if p.default is not Parameter.empty and p.kind in PLACE:
            assert given[number].default == p.default, p.name
    extra = [p for p in given if p.default is Parameter.empty and p.kind in PLACE]
    assert len(extra) <= len(wanted.parameters)


@pytest.mark.parametrize(("name", "wanted"), signatures(standard.FUNCTIONS))
def test_functions(name: str, wanted: inspect.Signature) -> None:
    fits(inspect.signature(getattr(rb, name)), wanted)


@pytest.mark.parametrize(("name", "wanted"), signatures(standard.LINALG))
def test_linear_algebra(name: str, wanted: inspect.Signature) -> None:
    fits(inspect.signature(getattr(rb.linalg, name)), wanted)


@pytest.mark.parametrize(("name", "wanted"), signatures(standard.FFT))
def test_fourier_transforms(name: str, wanted: inspect.Signature) -> None:
    fits(inspect.signature(getattr(rb.fft, name)), wanted)


@pytest.mark.parametrize(("name", "wanted"), signatures(standard.METHODS))
def test_methods(name: str, wanted: inspect.Signature) -> None:
    fits(inspect.signature(getattr(rb.Tensor, name)), wanted)


def test_constants_dtypes_attributes() -> None:
    for name in (*standard.CONSTANTS, *standard.DTYPES):
        assert hasattr(rb, name)
    assert rb.newaxis is None and rb.nan != rb.nan and rb.inf > 1e308
    assert abs(rb.pi - 3.141592653589793) == 0 and abs(rb.e - 2.718281828459045) == 0
    x = rb.zeros((2, 3))
    assert all(hasattr(x, name) for name in standard.ATTRIBUTES)
    assert (x.ndim, x.shape, x.size, x.T.shape, x.mT.shape) == (2, (2, 3), 6, (3, 2), (3, 2))


@pytest.mark.parametrize("name", standard.OPERATORS)
def test_operators_have_three_forms(name: str) -> None:
    kind = rb.float32 if name in ("truediv", "matmul") else rb.int32
    a, b = (rb.asarray([[3, 1], [2, 5]], dtype=kind) for _ in range(2))
    plain, reflected, in_place = (getattr(rb.Tensor, f"__{p}{name}__") for p in ("", "r", "i"))
    wanted = plain(a, b).tolist()
    assert reflected(b, a).tolist() == wanted
    c = rb.asarray(a, copy=True)
    assert in_place(c, b) is c
    assert c.tolist() == wanted and a.tolist() == [[3, 1], [2, 5]]


def test_namespace_info() -> None:
    info = rb.__array_namespace_info__()
    assert info.capabilities() == {
        "boolean indexing": True,
        "data-dependent shapes": True,
        "max dimensions": 64,
    }
    assert info.default_device() in info.devices()
    assert info.default_dtypes() == {
        "real floating": rb.float32,
        "complex floating": rb.complex64,
        "integral": rb.int64,
        "indexing": rb.int64,
    }
    assert set(info.dtypes()) == set(standard.DTYPES)
    assert set(info.dtypes(kind="unsigned integer")) == {"uint8", "uint16", "uint32", "uint64"}
    assert set(info.dtypes(kind=("bool", "complex floating"))) == {
        "bool",
        "complex64",
        "complex128",
    }
    assert all(getattr(rb, name) is dtype for name, dtype in info.dtypes(device="cpu").items())


def test_namespace_of_a_tensor() -> None:
    assert rb.zeros(1).__array_namespace__() is rb
    assert rb.zeros(1).__array_namespace__(api_version="2024.12") is rb
    with pytest.raises(ValueError, match=r"2019.12"):
        rb.zeros(1).__array_namespace__(api_version="2019.12")
