"""Collectives: exact sums in the order of ranks, equal bits everywhere, errors on all ranks."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import rabbet as rb
from rabbet import distributed
from rabbet.base.errors import DTypeError, MissingExtra, RabbetError
from rabbet.distributed import mpi, reduce
from rabbet.distributed.reduce import combine, split_evenly


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("op", ["sum", "mean", "max", "min"])
@pytest.mark.parametrize("shape", [(), (1,), (4, 3), (0, 2), (1000,)])
def test_all_reduce(on_ranks: Any, size: int, op: str, shape: tuple[int, ...]) -> None:
    arrays = [np.random.default_rng(r).standard_normal(shape, np.float32) for r in range(size)]
    expected = arrays[0]
    for array in arrays[1:]:  # in the order of ranks
        expected = reduce.COMBINE[op](expected, array)
    if op == "mean":
        expected = expected / np.float32(size)
    found = on_ranks(size, lambda r: distributed.all_reduce(rb.asarray(arrays[r]), op).numpy())
    for array in found:
        assert array.shape == shape and array.tobytes() == expected.tobytes()


def test_large_arrays_go_piece_by_piece(on_ranks: Any, monkeypatch: Any) -> None:
    whole = on_ranks(3, lambda r: distributed.all_reduce(rb.arange(100) * (r + 1)).numpy())
    monkeypatch.setattr(reduce, "PIECE_BYTES", 56)
    pieces = on_ranks(3, lambda r: distributed.all_reduce(rb.arange(100) * (r + 1)).numpy())
    assert np.array_equal(whole[0], np.arange(100) * 6)
    assert all(np.array_equal(piece, whole[0]) for piece in (*whole, *pieces))


def test_halves_are_summed_wide() -> None:
    for dtype in (np.float16, ml_dtypes.bfloat16):
        parts = [np.array([x], dtype) for x in (2048.0, 1.0, 1.0, 1.0, 1.0)]
        made = combine(parts, "sum")
        assert made.dtype == dtype
        assert made[0] == np.float32(2052).astype(dtype)


def test_broadcast(on_ranks: Any) -> None:
    found = on_ranks(3, lambda r: distributed.broadcast(rb.full((2, 2), float(r)), 2).tolist())
    assert found == [[[2.0, 2.0], [2.0, 2.0]]] * 3


@pytest.mark.parametrize(
    "work",
    [
        lambda r: distributed.all_reduce(rb.zeros((2 + (r == 1),))),
        lambda r: distributed.all_reduce(rb.zeros((2,), dtype="float64" if r else "float32")),
        lambda r: distributed.all_reduce(rb.zeros((2,)), "sum" if r else "max"),
        lambda r: distributed.broadcast(rb.zeros((2 + r,))),
        lambda r: distributed.broadcast(rb.zeros((2,)), root=r),
        lambda r: distributed.broadcast(rb.zeros((2,)), root=7),
    ],
)
def test_what_differs_is_an_error_on_all_ranks(on_ranks: Any, work: Any) -> None:
    found = on_ranks(3, work, raises=True)
    assert all(isinstance(error, RabbetError) for error in found)


def test_what_has_no_sum_is_refused() -> None:
    with pytest.raises(DTypeError, match="no sum of bool"):
        distributed.all_reduce(rb.tensor([True]))
    with pytest.raises(DTypeError, match="no mean of int64"):
        distributed.all_reduce(rb.tensor([1]), "mean")
    with pytest.raises(ValueError, match="op is 'product'"):
        distributed.all_reduce(rb.tensor([1]), "product")


def test_a_process_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed.group, "_current", None)
    monkeypatch.setattr(mpi, "is_launched", lambda: False)
    assert (distributed.rank(), distributed.size()) == (0, 1)
    distributed.init()
    distributed.barrier()
    x = rb.tensor([1.0, 2.0])
    assert distributed.all_reduce(x, "mean").tolist() == [1.0, 2.0]
    assert distributed.broadcast(x).tolist() == [1.0, 2.0]


def test_without_mpi4py_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed.group, "_current", None)
    monkeypatch.setenv("PMI_RANK", "0")

    def missing(module: str, extra: str) -> Any:
        raise MissingExtra(f"{module} [{extra}]")

    monkeypatch.setattr(mpi, "require", missing)
    with pytest.raises(MissingExtra, match=r"mpi4py.MPI \[distributed\]"):
        distributed.init()


@pytest.mark.parametrize("count", [0, 1, 7, 8])
@pytest.mark.parametrize("parts", [1, 3, 8])
def test_even_splits(count: int, parts: int) -> None:
    made = split_evenly(count, parts)
    assert sum(made) == count and len(made) == parts and max(made) - min(made) <= 1
