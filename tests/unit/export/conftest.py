"""Small models, and the round trip that most tests make."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn
from rabbet.base import tree
from rabbet.export import LoadedProgram, export, load_program


@pytest.fixture
def digits_model() -> Any:
    """A small convolutional network in eval mode."""
    rb.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(64, 10),
    ).eval()


@pytest.fixture
def exported(tmp_path: Path) -> Callable[..., LoadedProgram]:
    """Export a model and load what was written."""

    def make(model: Any, args: Any, dynamic: Any = None) -> LoadedProgram:
        path = export(model, args, tmp_path / "model.rbt", dynamic=dynamic)
        return load_program(path, verify=True)

    return make


@pytest.fixture
def assert_same_bits() -> Callable[[Any, Any], None]:
    """Compare trees of tensors: the same form, shapes, dtypes and bits."""

    def compare(found: Any, wanted: Any) -> None:
        found_leaves, found_form = tree.flatten(found)
        wanted_leaves, wanted_form = tree.flatten(wanted)
        assert found_form == wanted_form
        for a, b in zip(found_leaves, wanted_leaves, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()

    return compare
