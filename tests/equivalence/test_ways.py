"""All ways to compute a program give the same bits: a quick search; tests/fuzz has the long one."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rabbet as rb
from rabbet.base.spec import Spec
from rabbet.engine import programs
from tests.equivalence import ways
from tests.equivalence.check import check, other_targets, sizes_in_turn
from tests.equivalence.families import FAMILIES
from tests.equivalence.generator import Maker, generate
from tests.equivalence.programs import Leaf, Program, Ref, Step
from tests.equivalence.views import generate_viewed, operand

quick = settings(max_examples=30, suppress_health_check=list(HealthCheck))


@quick
@given(st.randoms(use_true_random=False))
def test_any_program(source: random.Random) -> None:
    """Op by op, whole, fused, with reads in the middle, replayed: the same bits."""
    check(generate(source, FAMILIES, length=4), slow=False)


@pytest.mark.parametrize("seed", range(40))
def test_fixed_programs(seed: int) -> None:
    """The same forty programs each time, with other targets and the reference."""
    check(generate(random.Random(seed), FAMILIES))


@pytest.mark.parametrize("seed", range(12))
def test_batch_sizes_in_turn(seed: int) -> None:
    """Programs with symbols give the bits of programs for one size."""
    batches = (7, 9, 20, 1)
    made = [generate(random.Random(seed), FAMILIES, batch=n, empty=False) for n in batches]
    sizes_in_turn(made, batches)


@pytest.mark.parametrize("seed", range(10))
def test_views(seed: int) -> None:
    """Operands that are views: convolutions, pools, norms, products, sorts, scatters of them."""
    check(generate_viewed(random.Random(seed)), slow=seed % 5 == 0)


def test_views_have_the_wanted_shapes() -> None:
    """Whatever movements an operand goes through; all of them happen."""
    moved = set()
    for seed in range(200):
        maker = Maker(random.Random(seed))
        found = operand(maker, (2, 3, 4), "float32")
        assert maker.value(found).spec == Spec((2, 3, 4), rb.float32)
        moved |= {step.op or step.kind for step in maker.steps}
    assert moved >= {"permute", "expand", "flip", "reshape", "pad", "get", "put", "concat", "roll"}


def program(*steps: Step, leaves: tuple[Leaf, ...], outputs: tuple[int, ...]) -> Program:
    """A program by hand."""
    return Program((*(Step("leaf") for _ in leaves), *steps), leaves, outputs, outputs)


FOUND = {
    "a gradient with an axis of size 0 and one of size 1": program(
        Step("call", "multiply", (Ref(0), Ref(1))),
        leaves=(Leaf((3, 0), "float32"), Leaf((3, 1), "float32", seed=1)),
        outputs=(2,),
    ),
    "scatter_set with a matrix of places": program(
        Step("call", "scatter_set", (Ref(0), Ref(1), Ref(2)), (("axis", 1),)),
        leaves=(
            Leaf((3, 3), "float32"),
            Leaf((7, 7), "int64", 3, 1),
            Leaf((3, 7, 7), "float32", seed=2),
        ),
        outputs=(3,),
    ),
    "pooling an empty image": program(
        Step("call", "avg_pool2d", (Ref(0),), (("kernel_size", 2), ("stride", 2), ("padding", 1))),
        leaves=(Leaf((7, 3, 0, 1), "float64"),),
        outputs=(1,),
    ),
    "attention of nothing to nothing": program(
        Step("call", "scaled_dot_product_attention", (Ref(0), Ref(0), Ref(0))),
        leaves=(Leaf((17, 0, 33), "float32"),),
        outputs=(1,),
    ),
    "take_along_axis of nothing": program(
        Step("call", "take_along_axis", (Ref(0), Ref(1)), (("axis", 0),)),
        leaves=(Leaf((17, 7, 0), "float32"), Leaf((17, 7, 0), "int64", 17, 3)),
        outputs=(2,),
    ),
    "a strided convolution of no channels": program(
        Step("call", "conv1d", (Ref(0), Ref(1), None), (("stride", 2), ("padding", 1))),
        leaves=(Leaf((2, 0, 7), "float32"), Leaf((4, 0, 3), "float32", seed=1)),
        outputs=(2,),
    ),
}

_middle = (slice(4, -2, 1),)
FOUND["a slice written over itself, and its gradient"] = Program(
    (
        Step("leaf"),
        Step("call", "multiply", (Ref(0), 2)),
        Step("get", "", (Ref(1), _middle)),
        Step("put", "", (Ref(1), _middle, Ref(2))),
    ),
    leaves=(Leaf((7,), "float32"),),
    outputs=(2,),
    differentiated=(3,),
)

FOUND["a layer norm of equal elements, which no noise of the inputs makes unequal"] = Program(
    (
        Step("leaf"),
        Step("leaf"),
        Step("call", "mse_loss", (Ref(0), Ref(1))),
        Step("call", "maximum", (Ref(2), Ref(0))),
        Step("call", "layer_norm", (Ref(3), (3,), None, None)),
    ),
    leaves=(Leaf((3, 3), "float32", seed=5), Leaf((3, 3), "float32", seed=6)),
    outputs=(4,),
)


@pytest.mark.parametrize("name", FOUND)
def test_found_before(name: str) -> None:
    """Programs that once failed, made small."""
    check(FOUND[name])


def test_a_difference_is_seen() -> None:
    """The comparison itself: one bit in one element is a difference, two NaNs are none."""
    some = program(Step("call", "sqrt", (Ref(0),)), leaves=(Leaf((5,), "float32"),), outputs=(1,))
    first, second = ways.eager(some), ways.eager(some)
    ways.same_bits(first, second, "the same")
    second.outputs[0].view("uint32")[0] ^= 1
    second.outputs[0][1:] = 1.5
    with pytest.raises(ways.Difference, match="outputs 0"):
        ways.same_bits(first, second, "changed")
    with pytest.raises(ways.Difference):
        ways.near_reference(some, second)


def test_there_is_another_target_to_compare_with() -> None:
    """On a machine with AVX-512 the AVX2 code runs too."""
    from_here = other_targets()
    assert "x86_baseline" not in from_here


def test_each_way_has_programs_of_its_own() -> None:
    """No op is computed by what another engine's last run still holds."""
    x = rb.asarray([1.0, 2.0])
    for engine, kind in (("compiled", "CompiledProgram"), ("reference", "ReferenceProgram")) * 2:
        with ways.setting(engine=engine):
            (x + x).numpy()
            found = programs.last_run()
            assert found is not None
            steps = found.entry.program.steps()
            assert [type(s.found.entry.program).__name__ for s in steps] == [kind]
