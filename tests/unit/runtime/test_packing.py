"""Which operands of contractions get a launch and a buffer of their own."""

from __future__ import annotations

import numpy as np
import pytest

import rabbet as rb
from rabbet.base.spec import Spec
from rabbet.graph.value import Builder, Graph, lookup
from rabbet.kernel.access import Arguments
from rabbet.kernel.lower import Lowered
from rabbet.runtime.compile import compile_plan
from rabbet.runtime.packing import fitted
from rabbet.targets.x86 import x86_v3, x86_v4
from tests.unit.codegen.products import product


def _packs(graph: Graph) -> int:
    return sum(ops == ["pack"] for ops in compile_plan(graph, x86_v4).ops)


def _chain(rows: int, steps: int) -> Graph:
    """A state times the same weight, stored turned, step after step (a recurrent net)."""
    builder = Builder()
    x, w = (builder.input(Spec(s, rb.float32)) for s in ((rows, 256), (256, 256)))
    matmul, tanh, permute = lookup("matmul"), lookup("tanh"), lookup("permute")
    y = x
    for _ in range(steps):
        y = tanh(matmul(y, permute(w, axes=(1, 0))))
    return Graph([x, w], [y])


def test_a_weight_of_many_steps_is_packed_once() -> None:
    assert _packs(_chain(32, 8)) == 1
    assert _packs(_chain(32, 1)) == 0  # its one contraction's tasks would copy it once


@pytest.mark.parametrize(
    ("rows", "lanes", "tile"),
    [(96, 256, (6, 4)), (96, 250, (0, 0)), (96, 64, (12, 2)), (8, 256, (0, 0))],
)
def test_lanes_choose_the_tile_that_they_fill(rows: int, lanes: int, tile: tuple[int, int]) -> None:
    sizes = [1, rows, lanes, 100]
    one = Lowered(product(rb.float32), [], list(sizes), Arguments(), [], [])
    assert fitted(one, x86_v4).kernel.tile == tile  # type: ignore[union-attr]
    assert fitted(one, x86_v3).kernel.tile == (0, 0)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("rows", "lanes", "along", "tile"),
    [
        (3136, 64, 256, (12, 2)),  # 64 of 96 lanes
        (3136, 64, 255, (0, 0)),
        (3136, 160, 256, (12, 2)),  # 160 of 192
        (3136, 1024, 256, (6, 4)),  # whole panels of 64
        (49, 2048, 512, (6, 4)),
        (2048, 768, 256, (0, 0)),  # of 48 as well
        (8, 64, 256, (0, 0)),
    ],
)
def test_constant_lanes_have_tiles_that_they_fill(
    rows: int, lanes: int, along: int, tile: tuple[int, int]
) -> None:
    builder = Builder()
    x, w = (builder.input(Spec(s, rb.float32)) for s in ((rows, along), (along, lanes)))
    one = Lowered(product(rb.float32), [x, w], [1, rows, lanes, along], Arguments(), [], [])
    assert fitted(one, x86_v4, frozenset([(id(w.call), 0)])).kernel.tile == tile  # type: ignore[union-attr]


def test_what_few_rows_read_stays_where_it_is() -> None:
    assert _packs(_chain(2, 8)) == 0


def test_sides_of_a_weight_gradient_are_read_where_they_are() -> None:
    builder = Builder()
    x, g = (builder.input(Spec((2048, n), rb.float32)) for n in (768, 640))
    turned = lookup("permute")(x, axes=(1, 0))
    assert _packs(Graph([x, g], [lookup("matmul")(turned, g)])) == 0


def test_two_turned_sides_change_places() -> None:
    builder = Builder()
    x, w = (builder.input(Spec(s, rb.float32)) for s in ((256, 768), (640, 256)))
    sides = (lookup("permute")(v, axes=(1, 0)) for v in (x, w))
    assert _packs(Graph([x, w], [lookup("matmul")(*sides)])) == 0


def test_runs_are_packed_where_more_than_two_tasks_would_copy_them() -> None:
    """A batch of images larger than the caches: panels would be written and read once more."""

    def packs(filters: int) -> int:
        builder = Builder()
        shapes = (16, 1024, 14, 14), (filters, 1024, 1, 1)
        x, w = (builder.input(Spec(s, rb.float32)) for s in shapes)
        return _packs(Graph([x, w], [lookup("conv2d")(x, w)]))

    assert packs(256) == 0
    assert packs(2048) == 1


def test_packed_or_not_the_bits_are_the_same(rng: np.random.Generator) -> None:
    """Row by row nothing is packed; all rows at once the weight is."""
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((700, 300), (520, 300)))
    b = rb.asarray(w).T
    whole = (rb.asarray(x) @ b).numpy()
    for i in (0, 350, 698):
        part = (rb.asarray(x[i : i + 2]) @ b).numpy()
        np.testing.assert_array_equal(whole[i : i + 2], part)


@pytest.mark.parametrize("stride", (1, 2))
def test_windows_from_bands_or_copied_the_bits_are_the_same(
    stride: int, rng: np.random.Generator
) -> None:
    """Many channels (20) read windows from bands, few (10) have them copied."""
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((3, 20, 17, 33), (20, 20, 3, 3)))

    def run(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image = rb.asarray(x).requires_grad_()
        y = rb.conv2d(image, rb.asarray(w), stride=stride, padding=1)
        y.sum().backward()
        assert image.grad is not None
        return y.numpy(), image.grad.numpy()

    whole, slope = run(x, w)
    np.testing.assert_array_equal(whole[:, :10], run(x, w[:10])[0])
    np.testing.assert_array_equal(slope[:, :10], run(x[:, :10], w[:, :10])[1])
