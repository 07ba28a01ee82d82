"""A beginner's mistakes with classes: each message says what was wrong and what would be right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import rabbet as rb
from rabbet import nn, optim
from rabbet.base.words import check_keywords, meant


def _assign() -> None:
    nn.Linear(2, 2).weight = rb.ones(2, 2)  # type: ignore[assignment]


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "Keras's bias": (
        lambda: nn.Linear(3, 2, use_bias=False),
        r"Linear\(\) has no parameter 'use_bias'; it has in_features.* did you mean 'bias'\?",
    ),
    "a word cut short": (lambda: nn.Conv2d(3, 8, 3, pad=1), r"Conv2d\(\).*'pad'.*'padding'\?"),
    "a slip": (lambda: nn.Dropout(inplac=True), r"did you mean 'inplace'\?"),
    "Keras's rate": (
        lambda: optim.Adam(nn.Linear(2, 2).parameters(), learning_rate=1e-3),
        r"Adam\(\) has no parameter 'learning_rate'.* did you mean 'lr'\?",
    ),
    "the model itself": (
        lambda: optim.SGD(nn.Linear(2, 2), lr=0.1),
        r"not Linear; write linear\.parameters\(\)",
    ),
    "one tensor": (lambda: optim.SGD(rb.ones(2), lr=0.1), "not one tensor"),
    "a class in a Sequential": (
        lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU),
        r"ReLU is a class, ReLU\(\) makes one",
    ),
    "a tensor as a parameter": (_assign, r"nn\.Parameter\(\.\.\.\) makes one"),
    "a class as a function": (
        lambda: nn.CrossEntropyLoss(rb.zeros(2, 3), rb.asarray([0, 1])),
        r"CrossEntropyLoss\(\)\(input, target\)",
    ),
    "tensors that are no list": (
        lambda: rb.cat(rb.ones(2, 2), rb.ones(2, 2)),
        "concat: axis must be plain data.* go together in one list",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_message(name: str) -> None:
    make, says = MISTAKES[name]
    with pytest.raises(TypeError, match=says):
        make()


def test_a_weight_per_class() -> None:
    with pytest.raises(rb.ShapeError, match=r"weight \(2, 3\) must be \(C,\)"):
        nn.CrossEntropyLoss(rb.zeros(2, 3))


def test_modules_of_users_are_asked_as_they_are_called() -> None:
    """A decorated __init__ takes what its decorator takes; one with **options takes all."""

    class Free(nn.Module):
        def __init__(self, **options: Any) -> None:
            super().__init__()
            self.options = options

    class Own(nn.Module):
        def __init__(self, width: int = 3) -> None:
            super().__init__()
            self.width = width

    assert Free(anything=1).options == {"anything": 1} and Own(width=4).width == 4
    with pytest.raises(TypeError, match="did you mean 'width'"):
        Own(widht=4)  # type: ignore[call-arg]


def test_what_is_far_from_all_is_not_guessed() -> None:
    assert meant("zebra", ["bias", "padding"]) == ""

    def function(self: Any, one: int, *, two: int = 0) -> None:
        pass

    with pytest.raises(TypeError, match=r"^f\(\) has no parameter 'zebra'; it has one, two$"):
        check_keywords("f", function, {"zebra": 1}, {})
    check_keywords("f", function, {"one": 1, "two": 2}, {})
