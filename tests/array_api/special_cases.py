"""The special cases that the array API standard 2024.12 lists, as data.

Source: https://data-apis.org/array-api/2024.12/API_specification/elementwise_functions.html

A rule is `condition -> result`. Conditions, one per operand (for a complex number: one for its real
and one for its imaginary part), are words of CONDITIONS joined by `&`. A result is an expression
of x1, x2 and of NumPy's names; `+` and `-` alone mean any number (or zero) of that sign, and a
result ending in `?` may have either sign. `cis` is cos(b) + i sin(b).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

CONDITIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "*": lambda x: np.ones(x.shape, bool),
    "nan": np.isnan,
    "num": lambda x: ~np.isnan(x),
    "inf": np.isposinf,
    "-inf": np.isneginf,
    "infinite": np.isinf,
    "finite": np.isfinite,
    "+0": lambda x: (x == 0) & ~np.signbit(x),
    "-0": lambda x: (x == 0) & np.signbit(x),
    "zero": lambda x: x == 0,
    "nonzero": lambda x: x != 0,
    "pos": lambda x: x > 0,
    "neg": lambda x: x < 0,
    "1": lambda x: x == 1,
    "-1": lambda x: x == -1,
    "not1": lambda x: x != 1,
    "one": lambda x: abs(x) == 1,
    "above1": lambda x: x > 1,
    "under1": lambda x: x < 1,
    "under-1": lambda x: x < -1,
    "large": lambda x: abs(x) > 1,
    "small": lambda x: abs(x) < 1,
    "whole": lambda x: np.isfinite(x) & (x == np.trunc(x)),
    "fraction": lambda x: np.isfinite(x) & (x != np.trunc(x)),
    "odd": lambda x: np.isfinite(x) & (np.fmod(x, 2) != 0) & (x == np.trunc(x)),
    "notodd": lambda x: ~(np.isfinite(x) & (np.fmod(x, 2) != 0) & (x == np.trunc(x))),
    "half": lambda x: np.isfinite(x) & (abs(np.fmod(x, 1)) == 0.5),
    "+signed": lambda x: ~np.signbit(x),
    "-signed": np.signbit,
}

_SAME = "whole -> x1; inf -> inf; -inf -> -inf; +0 -> 0.; -0 -> -0.; nan -> nan"
_ODD = "nan -> nan; +0 -> 0.; -0 -> -0."
_LOG = "nan -> nan; neg -> nan; zero -> -inf; 1 -> 0.; inf -> inf"

UNARY = {
    "abs": "nan -> nan; -0 -> 0.; -inf -> inf; neg -> -x1; pos -> x1",
    "acos": "nan -> nan; above1 -> nan; under-1 -> nan; 1 -> 0.",
    "acosh": "nan -> nan; under1 -> nan; 1 -> 0.; inf -> inf",
    "asin": f"above1 -> nan; under-1 -> nan; {_ODD}",
    "asinh": f"{_ODD}; inf -> inf; -inf -> -inf",
    "atan": f"{_ODD}; inf -> pi/2; -inf -> -pi/2",
    "atanh": f"{_ODD}; under-1 -> nan; above1 -> nan; -1 -> -inf; 1 -> inf",
    **dict.fromkeys(("ceil", "floor", "trunc"), _SAME),
    "round": f"{_SAME}; half -> np.rint(x1)",
    "cos": "nan -> nan; zero -> 1.; infinite -> nan",
    "cosh": "nan -> nan; zero -> 1.; infinite -> inf",
    "exp": "nan -> nan; zero -> 1.; inf -> inf; -inf -> 0.",
    "expm1": f"{_ODD}; inf -> inf; -inf -> -1.",
    **dict.fromkeys(("log", "log2", "log10"), _LOG),
    "log1p": f"{_ODD}; under-1 -> nan; -1 -> -inf; inf -> inf",
    "sign": "neg -> -1.; zero -> 0.; pos -> 1.; nan -> nan",
    **dict.fromkeys(("sin", "tan"), f"{_ODD}; infinite -> nan"),
    "sinh": f"{_ODD}; inf -> inf; -inf -> -inf",
    "tanh": f"{_ODD}; inf -> 1.; -inf -> -1.",
    "sqrt": f"{_ODD}; neg -> nan; inf -> inf",
    "square": "nan -> nan; zero -> 0.; infinite -> inf",
    "reciprocal": "nan -> nan; +0 -> inf; -0 -> -inf; inf -> 0.; -inf -> -0.",
    "isfinite": "infinite -> False; nan -> False; finite -> True",
    "isinf": "infinite -> True; finite -> False; nan -> False",
    "isnan": "nan -> True; num -> False",
    "signbit": "+signed -> False; -signed -> True",
    "positive": "* -> x1",
    "negative": "+0 -> -0.; -0 -> 0.; inf -> -inf; -inf -> inf; nan -> nan",
}

_QUOTIENT = """
nan * -> nan; * nan -> nan; infinite infinite -> nan; zero zero -> nan
+0 pos -> 0.; -0 pos -> -0.; +0 neg -> -0.; -0 neg -> 0.
pos +0 -> inf; pos -0 -> -inf; neg +0 -> -inf; neg -0 -> inf
inf pos&finite -> inf; inf neg&finite -> -inf; -inf pos&finite -> -inf; -inf neg&finite -> inf
pos&finite inf -> 0.; neg&finite -inf -> 0.
pos&finite pos&finite -> +; neg&finite neg&finite -> +
pos&finite neg&finite -> -; neg&finite pos&finite -> -
"""

BINARY = {
    "add": """
nan * -> nan; * nan -> nan; inf -inf -> nan; -inf inf -> nan; inf inf -> inf; -inf -inf -> -inf
inf finite -> inf; -inf finite -> -inf; finite inf -> inf; finite -inf -> -inf
-0 -0 -> -0.; -0 +0 -> 0.; +0 -0 -> 0.; +0 +0 -> 0.
zero nonzero&finite -> x2; nonzero&finite zero -> x1""",
    "subtract": """
nan * -> nan; * nan -> nan; inf inf -> nan; -inf -inf -> nan; inf -inf -> inf; -inf inf -> -inf
-0 +0 -> -0.; -0 -0 -> 0.; +0 +0 -> 0.; +0 -0 -> 0.
zero nonzero&finite -> -x2; nonzero&finite zero -> x1""",
    "atan2": """
nan * -> nan; * nan -> nan; pos zero -> pi/2; +0 pos -> 0.; +0 +0 -> 0.; +0 -0 -> pi; +0 neg -> pi
-0 pos -> -0.; -0 +0 -> -0.; -0 -0 -> -pi; -0 neg -> -pi; neg zero -> -pi/2
pos&finite inf -> 0.; pos&finite -inf -> pi; neg&finite inf -> -0.; neg&finite -inf -> -pi
inf finite -> pi/2; -inf finite -> -pi/2
inf inf -> pi/4; inf -inf -> 3*pi/4; -inf inf -> -pi/4; -inf -inf -> -3*pi/4""",
    "copysign": "* -signed -> -abs(x1); * +signed -> abs(x1)",
    "divide": _QUOTIENT + "pos&finite -inf -> -0.; neg&finite inf -> -0.",
    "floor_divide": _QUOTIENT + "pos&finite -inf -> -0.; neg&finite inf -> -0.",
    "remainder": """
nan * -> nan; * nan -> nan; infinite infinite -> nan; zero zero -> nan
zero pos -> 0.; zero neg -> -0.; nonzero zero -> nan; infinite finite -> nan
pos&finite inf -> x1; pos&finite -inf -> x2; neg&finite inf -> x2; neg&finite -inf -> x1
finite pos&finite -> +; finite neg&finite -> -""",
    "hypot": """
infinite * -> inf; * infinite -> inf; zero * -> abs(x2); * zero -> abs(x1)
finite nan -> nan; nan finite -> nan; nan nan -> nan""",
    "logaddexp": """
nan * -> nan; * nan -> nan; inf num -> inf; num inf -> inf; -inf nonzero&num -> x2""",
    "maximum": "nan * -> nan; * nan -> nan; inf num -> inf; num inf -> inf; -inf num -> x2",
    "minimum": "nan * -> nan; * nan -> nan; -inf num -> -inf; num -inf -> -inf; inf num -> x2",
    "multiply": """
nan * -> nan; * nan -> nan; infinite zero -> nan; zero infinite -> nan
+signed&finite +signed&finite -> +; -signed&finite -signed&finite -> +
+signed&finite -signed&finite -> -; -signed&finite +signed&finite -> -
inf pos -> inf; inf neg -> -inf; -inf pos -> -inf; -inf neg -> inf
pos inf -> inf; neg inf -> -inf; pos -inf -> -inf; neg -inf -> inf""",
    "nextafter": "nan * -> nan; * nan -> nan; -0 +0 -> 0.; +0 -0 -> -0.",
    "pow": """
not1 nan -> nan; * zero -> 1.; nan nonzero -> nan
large inf -> inf; large -inf -> 0.; one infinite -> 1.; 1 num -> 1.
small inf -> 0.; small -inf -> inf; inf pos -> inf; inf neg -> 0.
-inf pos&odd -> -inf; -inf pos&notodd -> inf; -inf neg&odd -> -0.; -inf neg&notodd -> 0.
+0 pos -> 0.; +0 neg -> inf; -0 pos&odd -> -0.; -0 pos&notodd -> 0.
-0 neg&odd -> -inf; -0 neg&notodd -> inf; neg&finite fraction -> nan""",
    "equal": """
nan * -> False; * nan -> False; inf inf -> True; -inf -inf -> True; zero zero -> True
inf finite -> False; finite -inf -> False; inf -inf -> False""",
    "not_equal": """
nan * -> True; * nan -> True; inf -inf -> True; -inf inf -> True; zero zero -> False
inf inf -> False; finite infinite -> True""",
    "less": "nan * -> False; * nan -> False; zero zero -> False; -inf finite -> True",
    "less_equal": "nan * -> False; * nan -> False; zero zero -> True; inf inf -> True",
    "greater": "nan * -> False; * nan -> False; zero zero -> False; inf finite -> True",
    "greater_equal": "nan * -> False; * nan -> False; zero zero -> True; inf inf -> True",
}

# f(conj(z)) is conj(f(z)); ODD functions change their sign with the operand, EVEN ones do not.
COMPLEX = {
    "abs": """
infinite * -> inf; * infinite -> inf; zero * -> abs(b); * zero -> abs(a)
nan finite -> nan; finite nan -> nan; nan nan -> nan""",
    "acos": """
zero +0 -> pi/2, -0.; zero nan -> pi/2, nan; finite inf -> pi/2, -inf
nonzero&finite nan -> nan, nan; -inf pos&finite -> pi, -inf; inf pos&finite -> 0., -inf
-inf inf -> 3*pi/4, -inf; inf inf -> pi/4, -inf; infinite nan -> nan, inf?
nan finite -> nan, nan; nan inf -> nan, -inf; nan nan -> nan, nan""",
    "acosh": """
zero +0 -> 0., pi/2; finite inf -> inf, pi/2; nonzero&finite nan -> nan, nan; +0 nan -> nan, pi/2?
-inf pos&finite -> inf, pi; inf pos&finite -> inf, 0.; -inf inf -> inf, 3*pi/4
inf inf -> inf, pi/4; infinite nan -> inf, nan; nan finite -> nan, nan; nan inf -> inf, nan
nan nan -> nan, nan""",
    "asinh": """
+0 +0 -> 0., 0.; pos&finite inf -> inf, pi/2; finite nan -> nan, nan; inf pos&finite -> inf, 0.
inf inf -> inf, pi/4; nan +0 -> nan, 0.; nan nonzero&finite -> nan, nan; nan inf -> inf?, nan
nan nan -> nan, nan""",
    "atanh": """
+0 +0 -> 0., 0.; +0 nan -> 0., nan; 1 +0 -> inf, 0.; pos&finite inf -> 0., pi/2
nonzero&finite nan -> nan, nan; inf pos&finite -> 0., pi/2; inf inf -> 0., pi/2; inf nan -> 0., nan
nan finite -> nan, nan; nan inf -> 0.?, pi/2; nan nan -> nan, nan""",
    "cosh": """
+0 +0 -> 1., 0.; +0 inf -> nan, 0.?; +0 nan -> nan, 0.?; nonzero&finite inf -> nan, nan
nonzero&finite nan -> nan, nan; inf +0 -> inf, 0.; inf nonzero&finite -> inf*cos(b), inf*sin(b)
inf inf -> inf?, nan; inf nan -> inf, nan; nan zero -> nan, 0.?; nan nonzero&finite -> nan, nan
nan nan -> nan, nan""",
    "exp": """
zero +0 -> 1., 0.; finite inf -> nan, nan; finite nan -> nan, nan; inf +0 -> inf, 0.
-inf finite -> 0.*cos(b), 0.*sin(b); inf nonzero&finite -> inf*cos(b), inf*sin(b)
-inf inf -> 0.?, 0.?; inf inf -> inf?, nan; -inf nan -> 0.?, 0.?; inf nan -> inf?, nan
nan +0 -> nan, 0.; nan nonzero -> nan, nan; nan nan -> nan, nan""",
    "expm1": """
zero +0 -> 0., 0.; finite inf -> nan, nan; finite nan -> nan, nan; inf +0 -> inf, 0.
-inf finite -> -1., 0.*sin(b); inf nonzero&finite -> inf*cos(b), inf*sin(b)
-inf inf -> -1., 0.?; inf inf -> inf?, nan; -inf nan -> -1., 0.?; inf nan -> inf?, nan
nan +0 -> nan, 0.; nan nonzero -> nan, nan; nan nan -> nan, nan""",
    "log": """
-0 +0 -> -inf, pi; +0 +0 -> -inf, 0.; finite inf -> inf, pi/2; finite nan -> nan, nan
-inf pos&finite -> inf, pi; inf pos&finite -> inf, 0.; -inf inf -> inf, 3*pi/4; inf inf -> inf, pi/4
infinite nan -> inf, nan; nan finite -> nan, nan; nan inf -> inf, nan; nan nan -> nan, nan""",
    "log1p": """
-1 +0 -> -inf, 0.; finite inf -> inf, pi/2; finite nan -> nan, nan; -inf pos&finite -> inf, pi
inf pos&finite -> inf, 0.; -inf inf -> inf, 3*pi/4; inf inf -> inf, pi/4; infinite nan -> inf, nan
nan finite -> nan, nan; nan inf -> inf, nan; nan nan -> nan, nan""",
    "sinh": """
+0 +0 -> 0., 0.; +0 inf -> 0.?, nan; +0 nan -> 0.?, nan; pos&finite inf -> nan, nan
pos&finite nan -> nan, nan; inf +0 -> inf, 0.; inf pos&finite -> inf*cos(b), inf*sin(b)
inf inf -> inf?, nan; inf nan -> inf?, nan; nan +0 -> nan, 0.; nan nonzero&finite -> nan, nan
nan nan -> nan, nan""",
    # For infinite real parts older copies of the text have misprints (NaN for -inf, +0 for +inf),
    # corrected in 2026; what stands here is C99's, as for all other branch cuts and infinities.
    "sqrt": """
-inf pos&finite -> 0., inf; inf pos&finite -> inf, 0.; zero +0 -> 0., 0.; * inf -> inf, inf
finite nan -> nan, nan; -inf nan -> nan, inf?
inf nan -> inf, nan; nan finite -> nan, nan; nan nan -> nan, nan""",
    "tanh": """
+0 +0 -> 0., 0.; nonzero&finite inf -> nan, nan; +0 inf -> 0., nan; nonzero&finite nan -> nan, nan
+0 nan -> 0., nan; inf pos&finite -> 1., 0.; inf inf -> 1., 0.?; inf nan -> 1., 0.?
nan +0 -> nan, 0.; nan nonzero -> nan, nan; nan nan -> nan, nan""",
    "sign": "zero zero -> 0., 0.; nan * -> nan, nan; * nan -> nan, nan",
    "isfinite": """
nan * -> False; * nan -> False; infinite * -> False; * infinite -> False; finite finite -> True""",
    "isinf": """
infinite * -> True; * infinite -> True; finite finite -> False; nan finite -> False
finite nan -> False; nan nan -> False""",
    "isnan": "nan * -> True; * nan -> True; num num -> False",
    "round": "whole whole -> a, b; nan * -> nan, np.rint(b); * infinite -> np.rint(a), b",
    "reciprocal": "nan nan -> nan, nan",
    "square": "nan nan -> nan, nan",
}
ODD = ("asinh", "atanh", "sinh", "tanh")
EVEN = ("cosh",)
# Functions that the standard defines by another, turned by a right angle.
TURNED = {
    "asin": ("asinh", -1),
    "atan": ("atanh", -1),
    "sin": ("sinh", -1),
    "tan": ("tanh", -1),
    "cos": ("cosh", 0),
}


def rules(text: str) -> Iterator[tuple[list[str], str]]:
    """(conditions, result) of each rule."""
    for rule in text.replace("\n", ";").split(";"):
        if rule.strip():
            condition, result = rule.split("->")
            yield condition.split(), result.strip()


def holds(condition: str, x: np.ndarray) -> np.ndarray:
    """Where a condition holds."""
    with np.errstate(invalid="ignore"):
        return np.logical_and.reduce([CONDITIONS[word](x) for word in condition.split("&")])
