"""Random arguments for calls of array functions: arrays of NumPy, axes, shapes that broadcast."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.array_api.draws import ALL


class Draw:
    """Random arguments; a share `wrong` of axes and shapes does not fit."""

    wrong = 0.1

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def shape(self, low: int = 0, high: int = 4, least: int = 0, most: int = 4) -> tuple[int, ...]:
        sizes = [s for s in (0, 1, 1, 2, 3, 3, 4, 5) if least <= s <= most]
        if 0 in sizes and not self.chance(0.3):
            sizes.remove(0)
        return tuple(self.pick(*sizes) for _ in range(self.integer(low, high)))

    def shapes(self, count: int, most: int = 3) -> list[tuple[int, ...]]:
        """Shapes that broadcast."""
        whole = self.shape(0, most)
        found = []
        for n in range(count):
            start = self.integer(0, len(whole)) if n and self.chance(0.5) else 0
            part = whole[start:]
            found.append(tuple(1 if self.chance(0.2) else s for s in part))
        if self.chance(self.wrong):
            found[0] = (*found[0][:-1], 7)
        return found if self.chance(0.5) else found[::-1]

    def numbers(self, dtype: str, shape: Any, kind: str = "any") -> np.ndarray:
        """An array; kind: "any" with special numbers, "plain" small ones, "whole" integers."""
        d = np.dtype(dtype)
        if d.kind == "b":
            return self.rng.integers(0, 2, shape).astype(bool)
        if d.kind in "iu":
            return self._integers(d, shape, kind)
        if d.kind == "c":
            width = "float32" if d.itemsize == 8 else "float64"
            real, imag = (self.numbers(width, shape, kind) for _ in range(2))
            made = np.empty(shape, d)
            made.real, made.imag = real, imag
            return made
        if kind == "whole":
            return self.rng.integers(-6, 7, shape).astype(d)
        x = self.rng.normal(size=shape) * 3
        if kind == "any":
            scale = 10.0 ** self.rng.integers(-30, 31, shape)
            x = np.where(self.rng.random(shape) < 0.2, x * scale, x)
            special = np.array([0.0, -0.0, 1, -1, 0.5, 2, -2.5, np.inf, -np.inf, np.nan, 1e4])
            chosen = special[self.rng.integers(0, len(special), shape)]
            x = np.where(self.rng.random(shape) < 0.35, chosen, x)
        with np.errstate(all="ignore"):
            return np.asarray(x, d)

    def _integers(self, d: np.dtype, shape: Any, kind: str) -> np.ndarray:
        limits = np.iinfo(d)
        low, high = max(-6, int(limits.min)), 9
        x = np.asarray(self.rng.integers(low, high, shape)).astype(d)
        if kind == "any":
            wide = self.rng.integers(limits.min, limits.max, shape, dtype=d, endpoint=True)
            ends = np.array([limits.min, limits.max, limits.max - 1, limits.max // 2], d)
            x = np.where(self.rng.random(shape) < 0.4, wide, x)
            x = np.where(
                self.rng.random(shape) < 0.1, ends[self.rng.integers(0, 4, np.shape(x))], x
            )
        return np.asarray(x, d)

    def array(
        self, names: tuple[str, ...] = ALL, shape: Any = None, kind: str = "any"
    ) -> np.ndarray:
        """An array of one of the dtypes."""
        return self.numbers(self.pick(*names), self.shape() if shape is None else shape, kind)

    def dtypes(self, count: int, names: tuple[str, ...]) -> list[str]:
        """Names that promote."""
        first = self.pick(*names)
        found = [first]
        while len(found) < count:
            other = self.pick(*names)
            if self.chance(0.3):
                other = first
            if all(promotes(other, f) for f in found):
                found.append(other)
        return found

    def scalar(self, dtype: str) -> Any:
        """A Python number for arrays of the dtype."""
        kind = np.dtype(dtype).kind
        if kind == "b":
            return self.pick(True, False)
        if kind in "iu":
            limits = np.iinfo(dtype)
            if self.chance(0.2):
                return int(self.pick(limits.min, limits.max))
            return self.pick(0, 1, 2, 3, 5, 7, *((-1, -2, -7) if limits.min < 0 else ()))
        real = self.pick(0.0, -0.0, 1.0, 2.5, -3.25, np.inf, -np.inf, np.nan, 2, -1, 0, 0.1)
        if kind == "c" and self.chance(0.4):
            return complex(self.pick(0.0, 1.5, -2.0), self.pick(1.0, -0.5, 2.0))
        return float(real) if isinstance(real, float) else real

    def axis(self, ndim: int) -> int:
        if self.chance(self.wrong) or not ndim:
            return self.pick(-ndim - 3, -ndim - 2, ndim + 1, ndim + 2)
        return self.integer(-ndim, ndim - 1)

    def axes(self, ndim: int) -> Any:
        """None, one axis or several."""
        how = self.integer(0, 2)
        if how == 0:
            return None
        if how == 1:
            return self.axis(ndim)
        chosen = self.rng.permutation(ndim)[: self.integer(0, ndim)].tolist()
        found = [a - ndim if self.chance(0.3) else a for a in chosen]
        if found and self.chance(self.wrong):
            found.append(self.pick(found[0], ndim))
        return tuple(found)

    def maybe(self, **given: Any) -> dict[str, Any]:
        """Each keyword half of the time."""
        return {k: v for k, v in given.items() if self.chance(0.6)}

    def boolean(self) -> bool:
        return self.chance(0.5)


def promotes(first: str, second: str) -> bool:
    """Does the standard's table have a dtype for both?"""
    a, b = np.dtype(first).kind, np.dtype(second).kind
    if a == b or {a, b} == {"f", "c"}:
        return True
    return {a, b} == {"i", "u"} and "uint64" not in (first, second)
