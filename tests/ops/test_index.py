"""x[key] and x[key] = value against NumPy, for random keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rabbet.base.dtypes import dtype_of
from rabbet.base.errors import IndexRangeError, ShapeError
from rabbet.base.spec import Spec
from rabbet.graph.interpret import run
from rabbet.graph.value import Builder, Graph
from rabbet.ops.create import ones_like
from rabbet.ops.index_maps import cut
from rabbet.ops.joining import meshgrid, split, unstack
from rabbet.ops.subscripts import getitem, setitem
from rabbet.transform.decompose import decompose
from rabbet.transform.gradient import gradient

SHAPES = [(5,), (3, 4), (2, 5, 3), (4, 1, 6)]


class Trial:
    """A graph under construction: arrays become inputs, keys hold them where arrays stood."""

    def __init__(self) -> None:
        self.builder = Builder()
        self.inputs: list[Any] = []
        self.arrays: list[np.ndarray] = []

    def value(self, array: np.ndarray) -> Any:
        """A new input."""
        self.inputs.append(self.builder.input(Spec(array.shape, dtype_of(array.dtype))))
        self.arrays.append(array)
        return self.inputs[-1]

    def key(self, key: tuple[Any, ...]) -> tuple[Any, ...]:
        """The key with arrays as inputs."""
        return tuple(self.value(k) if isinstance(k, np.ndarray) else k for k in key)

    def run(self, *outputs: Any) -> list[np.ndarray]:
        """Computed in primitives."""
        graph, _ = decompose(Graph(self.inputs, list(outputs)))
        return run(graph, self.arrays)


def random_slice(random: np.random.Generator, n: int) -> slice:
    """Starts and stops inside and outside the axis, steps of both signs."""
    ends = [None, *range(-n - 2, n + 3)]
    steps = [None, 1, 1, 2, 3, -1, -2]
    start, stop = (ends[i] for i in random.integers(0, len(ends), 2))
    return slice(start, stop, steps[random.integers(0, len(steps))])


def random_key(random: np.random.Generator, shape: tuple[int, ...], arrays: int) -> tuple[Any, ...]:
    """A key for a tensor of `shape` with up to `arrays` index arrays of shapes that broadcast."""
    items: list[Any] = []
    count = int(random.integers(0, len(shape) + 1))
    places = [(), (3,), (2, 1), (2, 3), (0,)]
    for n in shape[:count]:
        choice = random.integers(0, 4)
        if choice == 0:
            items.append(int(random.integers(-n, n)))
        elif choice == 1 and arrays:
            arrays -= 1
            kind = ["int64", "int32"][random.integers(0, 2)]
            size = places[random.integers(0, 4)]
            items.append(random.integers(-n, n, size, kind))
        else:
            items.append(random_slice(random, n))
    for _ in range(random.integers(0, 3)):
        items.insert(random.integers(0, len(items) + 1), None)
    if random.integers(0, 2):
        items.append(Ellipsis)
    return tuple(items)


def numpy_apart(key: tuple[Any, ...]) -> bool:
    """NumPy also counts ints as index arrays when it asks whether they stand side by side."""
    has = any(isinstance(k, np.ndarray) for k in key)
    return has and any(isinstance(k, int) for k in key)


@pytest.mark.parametrize("seed", range(150))
def test_getitem_is_numpys(seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = SHAPES[seed % len(SHAPES)]
    key = random_key(random, shape, 3)
    if numpy_apart(key):
        key = tuple(slice(k, k + 1 or None) if isinstance(k, int) else k for k in key)
    x = random.normal(size=shape)
    trial = Trial()
    found = trial.run(getitem(trial.value(x), trial.key(key)))[0]
    np.testing.assert_array_equal(found, x[key], str(key))


@pytest.mark.parametrize("seed", range(150))
def test_setitem_is_numpys(seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = SHAPES[seed % len(SHAPES)]
    key = random_key(random, shape, 2)
    if numpy_apart(key):
        key = tuple(slice(k, k + 1 or None) if isinstance(k, int) else k for k in key)
    x = random.normal(size=shape)
    wanted = x.copy()
    place = wanted[key].shape
    value = random.normal(size=place if seed % 2 else place[1:])
    trial = Trial()
    base, update = trial.value(x), trial.value(value)
    found = trial.run(setitem(base, trial.key(key), update))[0]
    wanted[key] = value
    np.testing.assert_array_equal(found, wanted, str(key))


@pytest.mark.parametrize("key", [(1,), (slice(1, None, 2),), (slice(None, None, -2), 0)])
def test_gradients_of_reading_and_writing(key: tuple[Any, ...]) -> None:
    """Reading sends ones to the places read; writing takes them from the base."""
    x = np.arange(20.0).reshape(5, 4)
    reached = np.zeros_like(x)
    reached[key] = 1
    trial = Trial()
    base = trial.value(x)
    y = getitem(base, key)
    value = trial.value(np.zeros(y.shape))
    z = setitem(base, key, value)
    (read,) = gradient([y], [ones_like(y)], [base])
    kept, given = gradient([z], [ones_like(z)], [base, value])
    found = trial.run(read, kept, given)
    np.testing.assert_array_equal(found[0], reached)
    np.testing.assert_array_equal(found[1], 1 - reached)
    np.testing.assert_array_equal(found[2], np.ones(y.shape))


def test_only_the_last_of_equal_places_has_a_gradient() -> None:
    trial = Trial()
    base, value = trial.value(np.zeros(4)), trial.value(np.array([1.0, 2.0, 3.0]))
    z = setitem(base, trial.key((np.array([1, 2, 1]),)), value)
    given = gradient([z], [ones_like(z)], [value])[0]
    found, grad = trial.run(z, given)
    np.testing.assert_array_equal(found, [0, 3, 2, 0])
    np.testing.assert_array_equal(grad, [0, 1, 1])


@pytest.mark.parametrize("key", [(5,), (-6,), (0, 4)])
def test_numbers_outside_are_refused_at_once(key: tuple[int, ...]) -> None:
    trial = Trial()
    x = trial.value(np.zeros((5, 4)))
    with pytest.raises(IndexRangeError, match="is outside axis"):
        getitem(x, key)


@pytest.mark.parametrize("pair", [([0, 5], [0, 0]), ([0, 0], [0, -5]), ([-6, 1], [1, 1])])
def test_index_tensors_outside_are_found_when_run(pair: tuple[list[int], list[int]]) -> None:
    trial = Trial()
    x = trial.value(np.zeros((5, 4)))
    y = getitem(x, trial.key(tuple(np.array(p) for p in pair)))
    with pytest.raises(IndexRangeError):
        trial.run(y)


def test_too_many_indices_are_refused() -> None:
    trial = Trial()
    x = trial.value(np.zeros((5, 4)))
    with pytest.raises(ShapeError, match="has 2 axes, the key has 3"):
        getitem(x, (0, 0, 0))


def test_a_key_that_changes_nothing_gives_the_same_value() -> None:
    trial = Trial()
    x = trial.value(np.zeros((5, 4)))
    assert getitem(x, ()) is x and getitem(x, (slice(None), Ellipsis)) is x


def test_parts() -> None:
    x = np.arange(30.0).reshape(5, 6)
    trial = Trial()
    v = trial.value(x)
    by_size, by_sections = split(v, 4, 1), split(v, [1, 0, 4], 0)
    found = trial.run(*by_size, *by_sections, *unstack(v, -1), cut(v, 0, 1, 3))
    wanted = [x[:, :4], x[:, 4:], x[:1], x[1:1], x[1:], *x.T, x[1:3]]
    for f, w in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(f, w)
    with pytest.raises(ShapeError, match="do not add up to 5"):
        split(v, [2, 2], 0)


@pytest.mark.parametrize("indexing", ["xy", "ij"])
def test_meshgrid(indexing: str) -> None:
    arrays = [np.arange(2.0), np.arange(3.0), np.arange(4.0)]
    trial = Trial()
    found = trial.run(*meshgrid(*(trial.value(a) for a in arrays), indexing=indexing))
    for f, w in zip(found, np.meshgrid(*arrays, indexing=indexing), strict=True):
        np.testing.assert_array_equal(f, w)
