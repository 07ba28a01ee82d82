"""Random calls of linear algebra and Fourier transforms."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.array_api.arguments import Draw
from tests.array_api.calls import Call, DType, Maker, applied
from tests.array_api.draws import ALL, COMPLEX, FLOATS, NUMERIC, REAL_FLOATS

# ---- linear algebra ------------------------------------------------------------------------------


def _matrix(
    d: Draw, names: tuple[str, ...] = FLOATS, square: bool = False, least: int = 0
) -> np.ndarray:
    stack = d.shape(0, 2, 0, 3)
    m, n = (d.pick(*(s for s in (0, 1, 2, 3, 4) if s >= least)) for _ in range(2))
    n = m if square and d.chance(1 - d.wrong / 3) else n
    x = d.array(names, (*stack, m, n), "plain")
    if square and m == n and x.dtype.kind in "fc":
        x = x + 12 * np.eye(m, dtype=x.dtype)
    return x


def _of_matrix(
    name: str,
    names: tuple[str, ...] = FLOATS,
    square: bool = False,
    least: int = 0,
    **more: Callable[[Draw], Any],
) -> Maker:
    def made(d: Draw) -> Call:
        x = _matrix(d, names, square, least)
        if name in ("cholesky", "eigh", "eigvalsh") and x.shape[-1] == x.shape[-2]:
            if name == "cholesky":
                x = x @ np.conj(np.swapaxes(x, -1, -2))
            else:
                x = x + np.conj(np.swapaxes(x, -1, -2))
        return Call(f"linalg.{name}", (x,), d.maybe(**{k: f(d) for k, f in more.items()}))

    return made


def _matmul(d: Draw) -> Call:
    kinds = d.dtypes(2, NUMERIC)
    lead = d.shapes(2, 2)
    m, n, p = (d.pick(0, 1, 2, 3, 4) for _ in range(3))
    one, other = (*lead[0], m, n), (*lead[1], n + d.chance(d.wrong), p)
    if d.chance(0.2):
        one = (n,)
    if d.chance(0.2):
        other = (n,)
    x, y = (d.numbers(k, s, "whole") for k, s in zip(kinds, (one, other), strict=True))
    how = d.integer(0, 2)
    return Call(
        applied(operator.matmul) if how == 0 else ("matmul", "linalg.matmul")[how - 1], (x, y)
    )


def _vecdot(d: Draw) -> Call:
    kinds = d.dtypes(2, NUMERIC)
    n = d.integer(0, 4)
    shapes = [(*s, n) for s in d.shapes(2, 2)]
    axis = -1 if d.boolean() else -d.integer(1, min(map(len, shapes)))
    if d.chance(d.wrong):
        shapes[0] = (*shapes[0][:-1], n + 1)
    x, y = (d.numbers(k, s, "whole") for k, s in zip(kinds, shapes, strict=True))
    return Call(d.pick("vecdot", "linalg.vecdot"), (x, y), d.maybe(axis=axis))


def _tensordot(d: Draw) -> Call:
    kinds = d.dtypes(2, NUMERIC)
    rank = d.integer(0, 2)
    lead, shared, trail = (
        tuple(d.integer(0, 3) for _ in range(r)) for r in (d.integer(0, 2), rank, d.integer(0, 2))
    )
    x = d.numbers(kinds[0], (*lead, *shared), "whole")
    if d.boolean():
        y = d.numbers(kinds[1], (*shared, *trail), "whole")
        axes: Any = rank
    else:
        order = d.rng.permutation(rank).tolist()
        y = d.numbers(kinds[1], (*trail, *(shared[o] for o in order)), "whole")
        axes = (tuple(len(lead) + o for o in order), tuple(range(len(trail), len(trail) + rank)))
        if d.boolean():
            axes = ([a - x.ndim for a in axes[0]], list(axes[1]))
    return Call(d.pick("tensordot", "linalg.tensordot"), (x, y), {"axes": axes})


def _cross(d: Draw) -> Call:
    kinds = d.dtypes(2, NUMERIC)
    n = 3 if d.chance(1 - d.wrong) else 2
    one, other = ((*s, n) for s in d.shapes(2, 2))
    x, y = (d.numbers(k, s, "whole") for k, s in zip(kinds, (one, other), strict=True))
    return Call("linalg.cross", (x, y), d.maybe(axis=-1))


def _outer(d: Draw) -> Call:
    kinds = d.dtypes(2, NUMERIC)
    x, y = (d.numbers(k, d.shape(1, 1 + d.chance(d.wrong)), "whole") for k in kinds)
    return Call("linalg.outer", (x, y))


def _solve(d: Draw) -> Call:
    x = _matrix(d, square=True)
    if x.dtype.kind not in "fc" or x.shape[-1] != x.shape[-2]:
        return Call("linalg.solve", (x, x))
    kind = d.pick(*(FLOATS if d.boolean() else (x.dtype.name,)))
    n = x.shape[-1]
    shape = d.pick((n,), (n, d.integer(0, 3)), (*x.shape[:-2], n, d.integer(0, 3)), (n + 1,))
    return Call("linalg.solve", (x, d.numbers(kind, shape, "plain")))


def _vector_norm(d: Draw) -> Call:
    x = d.array(FLOATS, d.shape(0, 3), "plain")
    order = d.pick(2, 1, 0, -1, -2, 3, 2.5, 0.5, np.inf, -np.inf)
    axis = d.axes(x.ndim)
    return Call("linalg.vector_norm", (x,), d.maybe(axis=axis, keepdims=d.boolean(), ord=order))


def _pinv(d: Draw) -> Call:
    x = _matrix(d, least=1)
    stack = x.shape[:-2]
    rtol = d.pick(None, 1e-3, d.numbers("float64", stack, "plain") ** 2 / 100)
    return Call("linalg.pinv", (x,), {"rtol": rtol} if d.boolean() else {})


def _rank(d: Draw) -> Call:
    x = _matrix(d, least=1)
    if x.shape[-1] > 1 and d.boolean():
        x = x.copy()
        x[..., 0] = x[..., 1]
    rtol = d.pick(None, 1e-3, np.full(x.shape[:-2], 1e-3))
    return Call("linalg.matrix_rank", (x,), {"rtol": rtol} if d.boolean() else {})


# ---- Fourier transforms --------------------------------------------------------------------------


def _fft(name: str) -> Maker:
    names = REAL_FLOATS if name in ("rfft", "ihfft", "rfftn") else COMPLEX

    def made(d: Draw) -> Call:
        x = d.array(names, d.shape(1, 3, 2, 5), "plain")
        norm = d.pick("backward", "ortho", "forward")
        if not name.endswith("n"):
            n = d.pick(None, d.integer(1, 8), d.integer(0, 8))
            return Call(f"fft.{name}", (x,), d.maybe(n=n, axis=d.axis(x.ndim), norm=norm))
        chosen = [int(a) - x.ndim * d.boolean() for a in d.rng.permutation(x.ndim)]
        chosen = chosen[: d.integer(1, x.ndim)]
        axes = d.pick(None, tuple(chosen))
        sizes = tuple(d.integer(1, 6) for _ in (chosen if axes else x.shape))
        more: dict[str, Any] = {"axes": axes, **d.maybe(norm=norm)}
        if axes is not None and d.boolean():
            more["s"] = sizes
        return Call(f"fft.{name}", (x,), more)

    return made


def _frequencies(name: str) -> Maker:
    def made(d: Draw) -> Call:
        return Call(
            f"fft.{name}",
            (d.integer(1, 9),),
            d.maybe(d=d.integer(1, 9) / 4, dtype=DType(d.pick(*REAL_FLOATS)), device=None),
        )

    return made


def _shifted(name: str) -> Maker:
    def made(d: Draw) -> Call:
        x = d.array(FLOATS, d.shape(1, 3, 1))
        return Call(f"fft.{name}", (x,), d.maybe(axes=d.axes(x.ndim)))

    return made


LINALG: dict[str, Maker] = {
    "matmul": _matmul,
    "vecdot": _vecdot,
    "tensordot": _tensordot,
    "linalg.cross": _cross,
    "linalg.outer": _outer,
    "linalg.solve": _solve,
    "linalg.vector_norm": _vector_norm,
    "linalg.pinv": _pinv,
    "linalg.matrix_rank": _rank,
    "linalg.cholesky": _of_matrix("cholesky", square=True, upper=Draw.boolean),
    "linalg.det": _of_matrix("det", square=True),
    "linalg.diagonal": _of_matrix("diagonal", ALL, offset=lambda d: d.integer(-5, 5)),
    "linalg.eigh": _of_matrix("eigh", square=True),
    "linalg.eigvalsh": _of_matrix("eigvalsh", square=True),
    "linalg.inv": _of_matrix("inv", square=True),
    "linalg.matrix_norm": _of_matrix(
        "matrix_norm",
        least=1,
        keepdims=Draw.boolean,
        ord=lambda d: d.pick(1, -1, 2, -2, np.inf, -np.inf, "fro", "nuc"),
    ),
    "linalg.matrix_power": lambda d: Call(
        "linalg.matrix_power", (_matrix(d, square=True), d.integer(-3, 5))
    ),
    "linalg.matrix_transpose": _of_matrix("matrix_transpose", ALL),
    "linalg.qr": _of_matrix("qr", mode=lambda d: d.pick("reduced", "complete")),
    "linalg.slogdet": _of_matrix("slogdet", square=True),
    "linalg.svd": _of_matrix("svd", full_matrices=Draw.boolean),
    "linalg.svdvals": _of_matrix("svdvals", least=1),
    "linalg.trace": _of_matrix("trace", NUMERIC, offset=lambda d: d.integer(-5, 5)),
    **{
        f"fft.{n}": _fft(n)
        for n in "fft ifft rfft irfft hfft ihfft fftn ifftn rfftn irfftn".split()
    },
    **{f"fft.{n}": _frequencies(n) for n in ("fftfreq", "rfftfreq")},
    **{f"fft.{n}": _shifted(n) for n in ("fftshift", "ifftshift")},
}
