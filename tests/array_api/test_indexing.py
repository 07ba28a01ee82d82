"""x[key] and x[key] = value against NumPy, for keys of every kind and mixture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rabbet as rb


def draw_key(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """A key that NumPy takes: ints, slices, None, ..., index arrays, masks of 0 to 2 axes."""
    common = [(), (3,), (2, 1), (1, 3)][: rng.integers(1, 5)]
    key: list[Any] = []
    axis = 0
    while axis < len(shape):
        n = shape[axis]
        kind = rng.choice(["int", "slice", "array", "mask", "mask2", "none", "flag", "stop"])
        axis += 1
        if kind == "int":
            key.append(int(rng.integers(-n, n)))
        elif kind == "slice":
            bounds = [
                None if rng.random() < 0.4 else int(rng.integers(-n - 2, n + 3)) for _ in "ab"
            ]
            key.append(slice(*bounds, [None, 1, 2, -1, -2][rng.integers(5)]))
        elif kind == "array":
            key.append(rng.integers(-n, n, common[rng.integers(len(common))]))
        elif kind == "mask" and not any(_is_mask(k) for k in key):
            key.append(_mask(rng, (n,)))
        elif kind == "mask2" and axis < len(shape) and not any(_is_mask(k) for k in key):
            key.append(_mask(rng, (n, shape[axis])))
            axis += 1
        elif kind == "none":
            key.append(None)
            axis -= 1
        elif kind == "flag":
            key.append(bool(rng.integers(2)) if rng.random() < 0.5 else np.array(True))
            axis -= 1
        elif kind == "stop":
            break
        else:
            key.append(slice(None))
    if rng.random() < 0.4:
        key.insert(int(rng.integers(len(key) + 1)), Ellipsis)
    return tuple(key)


def _is_mask(item: Any) -> bool:
    return isinstance(item, np.ndarray) and item.dtype == bool and item.ndim > 0


def _mask(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Three or one of its elements hold, so that it broadcasts with the other arrays."""
    found = np.zeros(np.prod(shape, dtype=int), bool)
    found[rng.permutation(found.size)[: int(rng.choice([1, min(3, found.size)]))]] = True
    return found.reshape(shape)


def as_tensors(key: tuple[Any, ...], rng: np.random.Generator) -> tuple[Any, ...]:
    """Arrays as tensors, now and then as they are or as lists."""

    def convert(item: Any) -> Any:
        if not isinstance(item, np.ndarray):
            return item
        form = rng.integers(4)
        if form == 0 and item.ndim:
            return item.tolist()
        return item if form == 1 else rb.asarray(item)

    return tuple(convert(k) for k in key)


@pytest.mark.parametrize("seed", range(60))
def test_random_keys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    done = 0
    while done < 5:
        shape = tuple(int(n) for n in rng.integers(1, 6, rng.integers(0, 5)))
        x = np.arange(np.prod(shape, dtype=int)).reshape(shape)
        key = draw_key(rng, shape)
        try:
            wanted = x[key]
        except IndexError:  # shapes of arrays that do not broadcast
            continue
        done += 1
        found = rb.asarray(x)[as_tensors(key, rng)]
        assert found.shape == wanted.shape, (shape, key)
        np.testing.assert_array_equal(found.numpy(), wanted, err_msg=f"{shape} {key}")
        check_assignment(rng, x, key, wanted)


def check_assignment(
    rng: np.random.Generator, x: np.ndarray, key: tuple[Any, ...], part: np.ndarray
) -> None:
    """Numbers and arrays that broadcast are written where NumPy writes them."""
    shape = tuple(int(n) if rng.random() < 0.7 else 1 for n in part.shape)
    for value in (-7, -1 - np.arange(np.prod(shape, dtype=int)).reshape(shape)):
        changed, t = x.copy(), rb.asarray(x)
        changed[key] = value
        t[as_tensors(key, rng)] = value if isinstance(value, int) else rb.asarray(value)
        # Places named twice: NumPy, too, keeps the last one.
        np.testing.assert_array_equal(t.numpy(), changed, err_msg=f"{x.shape} {key} {shape}")


def test_a_mask_alone() -> None:
    x = rb.asarray([[1.0, 2.0], [3.0, 4.0]])
    assert x[x > 1.5].tolist() == [2.0, 3.0, 4.0]
    x[x > 3.5] = 0
    x[rb.asarray([True, False])] = rb.asarray([7.0, 8.0])
    assert x.tolist() == [[7.0, 8.0], [3.0, 0.0]]
    assert rb.asarray(5)[True].tolist() == [5] and rb.asarray(5)[rb.asarray(False)].shape == (0,)
    assert x[[]].shape == (0, 2)


def test_gradients_of_arrays_that_stand_apart() -> None:
    x = rb.tensor(np.arange(24.0).reshape(2, 3, 4), requires_grad=True)
    index = rb.asarray([1, 3, 1])
    y = x[0, :, index]
    assert y.shape == (3, 3)
    (y * rb.asarray([[1.0], [10.0], [100.0]])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[[0, 101, 0, 10]] * 3, [[0] * 4] * 3]


def test_too_many_indices_are_an_index_error() -> None:
    with pytest.raises(IndexError, match="has 1 axes"):
        rb.ones(3)[0, 0]
    with pytest.raises(rb.ShapeError, match="one ... only"):
        rb.ones(3)[..., ...]
