"""Names of PyTorch that are spelled otherwise here: the error says how."""

from __future__ import annotations

import pytest

import rabbet as rb
from rabbet.tensor import absent


@pytest.mark.parametrize("name", sorted(absent.METHODS))
def test_s22_a_method_that_is_absent_names_the_way(name: str) -> None:
    with pytest.raises(AttributeError, match=name) as error:
        getattr(rb.ones(2), name)
    assert absent.METHODS[name] in str(error.value)


@pytest.mark.parametrize("name", sorted(absent.FUNCTIONS))
def test_s22_a_function_that_is_absent_names_the_way(name: str) -> None:
    with pytest.raises(AttributeError, match=name) as error:
        getattr(rb, name)
    assert absent.FUNCTIONS[name] in str(error.value)


def test_a_name_nobody_knows() -> None:
    x = rb.ones(2)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'$") as of_tensor:
        x.nonsense  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'nonsense'$") as of_module:
        rb.nonsense  # noqa: B018
    # With these Python adds "Did you mean".
    assert (of_tensor.value.name, of_tensor.value.obj) == ("nonsense", x)
    assert (of_module.value.name, of_module.value.obj) == ("nonsense", rb)
