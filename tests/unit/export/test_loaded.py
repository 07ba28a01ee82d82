"""Calling a loaded program: arguments, errors, threads."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn, targets
from rabbet.base.errors import DTypeError, FormatError, IndexRangeError, RabbetError, ShapeError
from rabbet.export import export, load_program


@pytest.fixture
def sums(exported: Any) -> Any:
    dynamic = {"a": {0: "n"}, "b": {0: "n", 1: "m"}}
    return exported(lambda a, b: a @ b, (rb.zeros(2), rb.zeros((2, 3))), dynamic)


def test_arguments_by_position_and_name(sums: Any) -> None:
    a, b = np.float32([1, 2]), np.float32([[1, 2, 3], [4, 5, 6]])
    for result in (sums(a, b), sums(a, b=b), sums(b=b, a=a), sums(rb.asarray(a), b)):
        assert result.tolist() == [9.0, 12.0, 15.0]
    assert sums([1.0, 2.0], b).tolist() == [9.0, 12.0, 15.0]
    assert sums(a[::-1], b[:, ::-1]).tolist() == [12.0, 9.0, 6.0]  # any strides


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "message"),
    [
        ((), {}, TypeError, "the input 'a' is missing"),
        ((1, 2, 3), {}, TypeError, "3 inputs given; it takes a, b"),
        ((np.zeros(2, np.float32),), {"a": 1}, TypeError, "'a' is given twice"),
        ((), {"c": 1}, TypeError, "no input 'c'; it takes a, b"),
        (
            (np.zeros(2), np.zeros((2, 3), np.float32)),
            {},
            DTypeError,
            "a must be float32, not float64; cast it",
        ),
        (
            (np.zeros(2, np.float32), np.zeros((4, 3), np.float32)),
            {},
            ShapeError,
            r"b must have shape \(n, m\) \(n=2, m=3\), not \(4, 3\)",
        ),
        (
            (np.zeros((2, 2), np.float32), np.zeros((2, 3), np.float32)),
            {},
            ShapeError,
            r"a must have shape \(n,\)",
        ),
    ],
)
def test_wrong_arguments(sums: Any, args: Any, kwargs: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        sums(*args, **kwargs)


def test_an_index_out_of_range(exported: Any) -> None:
    model = nn.Sequential(nn.Embedding(5, 2)).eval()
    program = exported(model, rb.zeros((1,), dtype=rb.int64), {"x": {0: "n"}})
    assert program(np.array([4])).shape == (1, 2)
    with pytest.raises(IndexRangeError, match=r"embedding in 0: index 5 \(element .*\)"):
        program(np.array([0, 5]))


def test_many_threads(digits_model: Any, exported: Any) -> None:
    program = exported(digits_model, rb.zeros((1, 1, 8, 8)), {"x": {0: "batch"}})
    images = [np.random.default_rng(i).random((i % 20, 1, 8, 8), np.float32) for i in range(40)]
    alone = [np.asarray(program(x)).tobytes() for x in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda x: np.asarray(program(x)).tobytes(), images))
    assert together == alone


def test_first_call_in_many_threads(digits_model: Any, tmp_path: Path) -> None:
    path = export(digits_model, rb.zeros((1, 1, 8, 8)), tmp_path / "m.rbt", {"x": {0: "batch"}})
    program = load_program(path)
    x = np.ones((3, 1, 8, 8), np.float32)
    with ThreadPoolExecutor(8) as pool:
        results = {r.numpy().tobytes() for r in pool.map(lambda _: program(x), range(8))}
    assert len(results) == 1


def test_what_it_says_of_itself(digits_model: Any, tmp_path: Path) -> None:
    path = export(digits_model, rb.zeros((1, 1, 8, 8)), tmp_path / "m.rbt", {"x": {0: "batch"}})
    program = load_program(path)
    assert repr(program) == (
        "<program forward(x: float32(batch, 1, 8, 8)) -> output: float32(batch, 10)>"
    )
    assert program.symbols == ("batch",) and program.entries == ("forward",)
    with pytest.raises(RabbetError, match="no entry 'other'; there are forward"):
        load_program(path, "other")


def test_weights_stay_in_the_file(tmp_path: Path) -> None:
    rb.manual_seed(0)
    model = nn.Linear(64, 64).eval()
    path = export(model, rb.zeros(64), tmp_path / "m.rbt")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    load_program(path)  # weights are not read here ...
    with pytest.raises(FormatError, match="weights are damaged"):
        load_program(path, verify=True)  # ... unless asked for


class Layers(nn.Module):
    """Products with two weights and with a table that is also read row by row."""

    def __init__(self) -> None:
        super().__init__()
        rb.manual_seed(3)
        self.table = nn.Embedding(50, 96)
        self.up = nn.Linear(96, 160)
        self.down = nn.Linear(160, 96)

    def forward(self, x: Any) -> Any:
        y = self.table(x)
        y = y + self.down(nn.functional.gelu(self.up(y)))
        return y @ self.table.weight.T


ROWS = (1, 3, 8, 70, 300)


@pytest.mark.parametrize("first", [1, 70, 300])
def test_panels_of_weights_serve_any_number_of_rows(tmp_path: Path, first: int) -> None:
    path = export(Layers().eval(), rb.zeros(9, dtype=rb.int64), tmp_path / "m.rbt", {"x": {0: "n"}})
    program = load_program(path)
    program(np.zeros(first, np.int64))
    packed = program.packed_bytes
    for rows in ROWS:
        program(np.zeros(rows, np.int64))
    assert 0 < program.packed_bytes <= 1.2 * packed


def test_weights_are_packed_once_for_all_versions_and_threads(tmp_path: Path) -> None:
    model = Layers().eval()
    path = export(model, rb.zeros(9, dtype=rb.int64), tmp_path / "m.rbt", {"x": {0: "n"}})
    program = load_program(path)
    assert program.packed_bytes == 0  # nothing before the first call
    rng = np.random.default_rng(0)
    given = [rng.integers(0, 50, n) for n in ROWS]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: np.asarray(program(x)), given))
    for x, y in zip(given, found, strict=True):
        np.testing.assert_array_equal(y, model(rb.asarray(x)).numpy())
    matrices = 4 * (50 * 96 + 2 * 96 * 160)
    assert matrices <= program.packed_bytes <= 1.5 * matrices  # each once, edges filled up
    other = load_program(path)  # plan and packs from the cache
    assert np.asarray(other(given[3])).tobytes() == found[3].tobytes()
    assert 0 < other.packed_bytes <= program.packed_bytes


@pytest.mark.parametrize("side, stride, images", [(7, 1, 1), (7, 1, 2), (14, 2, 1), (9, 2, 3)])
def test_filters_of_small_images_are_lanes_with_the_same_bits(
    tmp_path: Path, side: int, stride: int, images: int
) -> None:
    """49 pixels leave 15 of 64 lanes empty: with long sums, filters are packed and fill them."""
    rng = np.random.default_rng(side)
    conv = nn.Conv2d(1024, 96, 1, stride=stride, bias=False)
    path = export(conv, rb.zeros((images, 1024, side, side)), tmp_path / "m.rbt")
    program, x = load_program(path), rng.standard_normal((images, 1024, side, side), np.float32)
    np.testing.assert_array_equal(np.asarray(program(x)), conv(rb.asarray(x)).numpy())
    if targets.host().lanes(32) > 4:  # fewer are full anyway
        assert program.packed_bytes >= 4 * 1024 * 96


def test_weights_of_programs_with_branches_are_packed(exported: Any) -> None:
    layers = Layers().eval()

    def forward(x: Any, flag: Any) -> Any:
        y = layers.up(x)
        y = rb.cond(flag, lambda y: y * 2.0, lambda y: -y, y)
        return layers.down(y), x, x

    x = rb.asarray(np.random.default_rng(1).standard_normal((40, 96), np.float32))
    program = exported(forward, (x, rb.asarray(True)))
    for flag in (True, False):
        wanted = layers.down(layers.up(x) * (2.0 if flag else -1.0))
        y, first, second = program(x, rb.asarray(flag))
        np.testing.assert_array_equal(y.numpy(), wanted.numpy())
        assert first.tolist() == second.tolist() == x.tolist()
    assert program.packed_bytes >= 4 * 2 * 96 * 160


def test_every_dtype(exported: Any) -> None:
    for name in "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64".split():
        table = rb.asarray(np.arange(6).reshape(2, 3).astype(name))
        program = exported(lambda x, t=table: rb.where(x == x, t, x), rb.zeros((3,)).astype(name))
        result = program(np.ones(3, name))
        assert result.dtype.name == name
        assert np.array_equal(result.numpy(), table.numpy())


def test_rb_export_is_callable_however_it_is_reached(tmp_path: Path) -> None:
    assert rb.load_program is load_program  # importing the package puts it where rb.export is
    rb.export(lambda x: x, rb.zeros(2), tmp_path / "m.rbt")
    assert rb.load_program(tmp_path / "m.rbt")(np.zeros(2, np.float32)).tolist() == [0.0, 0.0]
