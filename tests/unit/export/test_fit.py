"""Numbers seen at several sizes become expressions, and only the right ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbet.base.sizes import Dim, SizeScope, evaluate
from rabbet.export.fit import fit
from rabbet.export.portable import form_of, show_form

SIGHTINGS = [(4, 9), (5, 11), (11, 21), (19, 34)]


def symbols() -> list[Dim]:
    scope = SizeScope()
    return [scope.symbol("n", 19), scope.symbol("m", 34)]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (lambda n, m: 7, "7"),
        (lambda n, m: n, "n"),
        (lambda n, m: m, "m"),
        (lambda n, m: 3 * m, "3*m"),
        (lambda n, m: n - 1, "n - 1"),
        (lambda n, m: 2 * n + 5, "2*n + 5"),
        (lambda n, m: n // 2, "n // 2"),
        (lambda n, m: (n + 3) // 4, "(n + 3) // 4"),
        (lambda n, m: n * m, "n*m"),
    ],
)
def test_forms(rule: object, text: str) -> None:
    values = [rule(*s) for s in SIGHTINGS]
    found = fit(values, SIGHTINGS, symbols(), [])
    assert found is not None and show_form(form_of(found)) == text


def test_products_of_operand_sizes() -> None:
    n, m = symbols()
    found = fit([3 * a * b for a, b in SIGHTINGS], SIGHTINGS, [n, m], [(n, m, 3)])
    assert found is not None and show_form(form_of(found)) == "3*n*m"


def test_what_is_no_expression() -> None:
    assert fit([a * a * a + 1 for a, _ in SIGHTINGS], SIGHTINGS, symbols(), []) is None
    assert fit([1, 2, 1, 2], SIGHTINGS, symbols(), []) is None


@given(st.integers(1, 9), st.integers(-9, 9), st.integers(1, 30))
def test_whatever_is_found_fits(a: int, b: int, k: int) -> None:
    values = [(a * n + b) // k for n, _ in SIGHTINGS]
    found = fit(values, SIGHTINGS, symbols(), [])
    assert found is None or [evaluate(found, s) for s in SIGHTINGS] == values
