"""rb.jit (SEMANTICS 17, 18): checked decisions, state, flags, values that leave for Python."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn
from rabbet.optim import SGD, Adam
from tests.semantics.conftest import Counts

NUMBERS = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)


def test_s17_a_replay_gives_the_bits_of_the_recording() -> None:
    """Once recorded, replayed; new values, same shapes."""

    def plain(x: rb.Tensor) -> rb.Tensor:
        return rb.softmax(x * 2 + 1, axis=1).sum(axis=0)

    jitted = rb.jit(plain)
    for scale in (1.0, 2.0, -3.0):
        x = rb.asarray(NUMBERS * scale)
        assert jitted(x).numpy().tobytes() == plain(x).numpy().tobytes()
    assert jitted.stats == {"recorded": 1, "replayed": 2}


def test_s17_python_side_effects_happen_only_while_recording() -> None:
    """A list grows once."""
    seen: list[int] = []

    @rb.jit
    def f(x: rb.Tensor) -> rb.Tensor:
        seen.append(1)
        return x + 1

    for _ in range(4):
        f(rb.ones(3)).numpy()
    assert len(seen) == 1


def test_s17_captured_tensors_are_inputs() -> None:
    """A captured tensor that is updated outside is read anew at each call."""
    w = rb.ones(3)

    @rb.jit
    def f(x: rb.Tensor) -> rb.Tensor:
        return x * w

    found = []
    for _ in range(3):
        found.append(f(rb.ones(3)).tolist()[0])
        with rb.no_grad():
            w.add_(1)
    assert found == [1, 2, 3]


def test_s17_reassigned_tensors_are_outputs() -> None:
    """A counter that the function updates moves on in replays."""
    count = rb.zeros(())

    @rb.jit
    def f() -> rb.Tensor:
        count.add_(1)
        return count * 10

    assert [f().item() for _ in range(4)] == [10, 20, 30, 40]
    assert count.item() == 4


def test_s17_arguments_by_equality() -> None:
    """1, 1.0 and True are different arguments; so are 0.0 and -0.0."""

    @rb.jit
    def f(x: rb.Tensor, k: Any) -> rb.Tensor:
        return rb.full((2,), k) if isinstance(k, bool) else x * k

    x = rb.tensor([1, 2])
    for k in (1, 1.0, True, 1, 1.0, True, 2):
        plain = f.function(x, k)
        found = f(x, k)
        assert found.dtype is plain.dtype and found.tolist() == plain.tolist(), k
    y = rb.tensor([1.0])
    signs = [np.signbit(f(y, k).numpy())[0] for k in (0.0, -0.0, 0.0, -0.0)]
    assert signs == [False, True, False, True]


def test_s17_training_flags_are_guards() -> None:
    """train() and eval() record anew, each once."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5))

    @rb.jit
    def f(x: rb.Tensor) -> rb.Tensor:
        with rb.no_grad():
            return model(x)

    x = rb.asarray(NUMBERS)
    noisy = f(x).numpy()
    model.eval()
    quiet = f(x).numpy()
    assert (noisy == 0).any() and not (quiet == 0).any()
    model.train()
    assert (f(x).numpy() == 0).any()
    model.eval()
    assert f(x).numpy().tobytes() == quiet.tobytes()
    assert f.stats["recorded"] == 2


def test_s17_random_state_is_an_input() -> None:
    """Replays draw what the plain function draws, and move the stream as far."""

    def plain() -> rb.Tensor:
        return rb.rand(5) + rb.randn(5)

    jitted = rb.jit(plain)
    found = []
    for function in (plain, jitted):
        rb.manual_seed(7)
        found.append([function().tolist() for _ in range(4)] + [rb.rand(2).tolist()])
    assert found[0] == found[1]
    assert jitted.stats["replayed"] == 3


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_s17_a_jitted_training_step_gives_the_same_bits(optimizer: type) -> None:
    """Parameters, state, losses, dropout: as without jit."""

    def run(wrap: Any) -> list[bytes]:
        rb.manual_seed(3)
        model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 3))
        stepper = optimizer(model.parameters(), lr=0.05)

        def step(x: rb.Tensor, y: rb.Tensor) -> rb.Tensor:
            loss = nn.functional.cross_entropy(model(x), y)
            stepper.zero_grad()
            loss.backward()
            stepper.step()
            return loss

        step = wrap(step)
        losses = []
        for i in range(8):
            x = rb.asarray(np.roll(NUMBERS, i, axis=0))
            losses.append(step(x, rb.tensor([0, 1, 2, 0, 1, 2])).numpy().tobytes())
        return losses + [p.numpy().tobytes() for p in model.parameters()]

    assert run(lambda f: f) == run(rb.jit)


def test_s18_bool_is_a_checked_decision() -> None:
    """Replay forks where the value does; both branches are recorded once."""

    @rb.jit
    def f(x: rb.Tensor) -> rb.Tensor:
        if x.sum() > 0:
            return x * 2
        return x - 1

    signs = [1, -1, 1, 1, -1, -1, 1]
    for sign in signs:
        found = f(rb.full((3,), float(sign))).tolist()
        assert found == ([2, 2, 2] if sign > 0 else [-2, -2, -2])
    assert f.stats == {"recorded": 2, "replayed": 5}


def test_s18_a_while_loop_unrolls_by_decisions() -> None:
    """Each depth is recorded once."""

    @rb.jit
    def halve(x: rb.Tensor) -> rb.Tensor:
        steps = rb.zeros(())
        while x.max() > 1:
            x = x / 2
            steps = steps + 1
        return steps

    depths = [int(halve(rb.tensor([2.0**n])).item()) for n in (3, 1, 5, 3, 1, 5, 0, 4)]
    assert depths == [3, 1, 5, 3, 1, 5, 0, 4]
    assert halve.stats["recorded"] <= 5


def test_s18_an_unseen_outcome_commits_nothing_twice() -> None:
    """A counter updated before the decision moves by one per call."""
    count = rb.zeros(())

    @rb.jit
    def f(x: rb.Tensor) -> rb.Tensor:
        count.add_(1)
        if x.sum() > 0:
            return x + count
        return x - count

    calls = [1.0, 1.0, -1.0, 1.0, -1.0]
    for number, value in enumerate(calls, 1):
        found = f(rb.tensor([value])).item()
        assert found == (value + number if value > 0 else value - number)
        assert count.item() == number


@pytest.mark.parametrize(
    "read",
    [
        lambda t: t.sum().item(),
        lambda t: float(t.numpy().sum()),
        lambda t: sum(t.tolist()),
        lambda t: float(np.asarray(t).sum()),
        lambda t: float(t.sum()),
        lambda t: len(repr(t)) * 0 + t.sum().item(),
        lambda t: float(f"{t.sum():.3f}"),
        lambda t: float(np.from_dlpack(t).sum()),
        lambda t: float(t[t > -1e9].shape[0]) + t.sum().item(),
    ],
    ids=["item", "numpy", "tolist", "asarray", "float", "repr", "format", "dlpack", "mask"],
)
def test_s18_a_value_that_leaves_is_never_frozen(read: Any) -> None:
    """item, numpy, print and their kin make the function record at each call."""

    @rb.jit
    def f(x: rb.Tensor) -> Any:
        y = x * 2
        return y + read(y)

    for value in (1.0, 2.0, 3.0, 4.0):
        found, plain = f(rb.full((2,), value)), f.function(rb.full((2,), value))
        assert found.tolist() == plain.tolist(), value
    assert f.why


def test_s18_a_numpy_mask_of_the_argument_is_never_frozen() -> None:
    """x[x > 0] has a shape that depends on values."""

    @rb.jit
    def f(x: rb.Tensor) -> rb.Tensor:
        return x[x > 0].sum()

    for row in ([1.0, -1.0], [1.0, 2.0], [-3.0, 5.0]):
        assert f(rb.tensor(row)).item() == sum(v for v in row if v > 0)


def test_s18_iterating_over_rows_is_no_read() -> None:
    """A Python loop over a known axis is replayed."""

    @rb.jit
    def f(x: rb.Tensor) -> rb.Tensor:
        total = rb.zeros(())
        for row in x:
            total = total + row.sum()
        return total

    assert [f(rb.full((3, 2), float(k))).item() for k in (1, 2, 3)] == [6, 12, 18]
    assert f.stats["replayed"] == 2


def test_s17_new_shapes_record_anew_and_compile_little(counts: Counts) -> None:
    """Each shape has its own record; LLVM rests from the third on."""

    @rb.jit
    def f(x: rb.Tensor) -> rb.Tensor:
        return (x * 2 + 1).sum(axis=0)

    for n in (4, 5):
        f(rb.ones((n, 3))).numpy()
    counts.look()
    for n in (6, 7, 8, 6, 7, 8):
        assert f(rb.ones((n, 3))).tolist() == [3.0 * n] * 3
    assert counts.kernels == 0


def test_s17_gradients_inside_and_through() -> None:
    """rb.grad under jit, and jit of a function whose result carries gradients."""

    @rb.jit
    def slope(x: rb.Tensor) -> rb.Tensor:
        return rb.grad(lambda v: (v**3).sum())(x)

    for value in (1.0, 2.0, 3.0):
        assert np.allclose(slope(rb.full((2,), value)).numpy(), 3 * value**2)
    w = rb.tensor([2.0], requires_grad=True)

    @rb.jit
    def scaled(x: rb.Tensor) -> rb.Tensor:
        return x * w

    for value in (1.0, 2.0, 3.0):
        w.grad = None
        scaled(rb.tensor([value])).sum().backward()
        assert w.grad.tolist() == [value]


def test_s17_errors_leave_state_alone() -> None:
    """An index out of range in a replayed step changes no parameter."""
    table = rb.tensor(np.ones((4, 2)), requires_grad=True)
    stepper = SGD([table], lr=0.5)

    @rb.jit
    def step(places: rb.Tensor) -> rb.Tensor:
        loss = table[places].sum()
        stepper.zero_grad()
        loss.backward()
        stepper.step()
        return loss

    for _ in range(3):
        step(rb.tensor([0, 1]))
    before = table.numpy().copy()
    with pytest.raises(rb.IndexRangeError):
        step(rb.tensor([0, 7])).numpy()
    assert (table.numpy() == before).all()
    step(rb.tensor([2, 2]))
    assert (table.numpy() != before).any()


def test_s17_aliased_arguments() -> None:
    """The same tensor given twice, then two different ones."""

    @rb.jit
    def f(a: rb.Tensor, b: rb.Tensor) -> rb.Tensor:
        return a * 10 + b

    x, y = rb.tensor([1.0]), rb.tensor([2.0])
    assert [f(x, x).item(), f(x, y).item(), f(y, x).item(), f(y, y).item()] == [11, 12, 21, 22]


def test_s17_results_that_are_arguments_or_captured() -> None:
    """Arguments handed through, nested results, plain values among them."""
    w = rb.tensor([5.0])

    @rb.jit
    def f(x: rb.Tensor) -> dict[str, Any]:
        return {"x": x, "w": w, "twice": [x + x, x + x], "name": "f"}

    for value in (1.0, 2.0):
        found = f(rb.tensor([value]))
        assert found["x"].item() == value and found["w"].item() == 5 and found["name"] == "f"
        assert [t.item() for t in found["twice"]] == [2 * value] * 2


def test_s17_an_argument_that_is_captured_too() -> None:
    """f(w) where f reads w by itself as well: another argument changes the argument alone."""
    w, other = rb.tensor([1.0]), rb.tensor([5.0])

    @rb.jit
    def f(x: rb.Tensor) -> rb.Tensor:
        return x * 10 + w

    assert [f(w).item(), f(other).item(), f(w).item()] == [11, 51, 11]


def test_s17_an_argument_updated_in_place() -> None:
    """Each call updates its own argument."""

    @rb.jit
    def f(x: rb.Tensor) -> rb.Tensor:
        x += 1
        return x * 2

    tensors = [rb.tensor([float(k)]) for k in range(3)]
    assert [f(t).item() for t in tensors] == [2, 4, 6]
    assert [t.item() for t in tensors] == [1, 2, 3]


def test_s17_gradients_add_up_in_replays() -> None:
    """Without zero_grad the second call adds to what is there, as without jit."""
    w = rb.tensor([3.0], requires_grad=True)

    @rb.jit
    def f(x: rb.Tensor) -> rb.Tensor:
        loss = (w * x).sum()
        loss.backward()
        return loss

    found = []
    for value in (1.0, 2.0, 3.0, 4.0):
        f(rb.tensor([value]))
        found.append(w.grad.item())
    w.grad = None
    f(rb.tensor([7.0]))
    assert [*found, w.grad.item()] == [1, 3, 6, 10, 7]


def test_s17_gradients_of_arguments() -> None:
    """Each call gives its own argument the gradient."""

    @rb.jit
    def f(x: rb.Tensor) -> rb.Tensor:
        loss = (x * x).sum()
        loss.backward()
        return loss.detach()

    leaves = [rb.tensor([float(k)], requires_grad=True) for k in (1, 2, 3)]
    for x in leaves:
        f(x)
    assert [x.grad.item() for x in leaves] == [2, 4, 6]


def test_a_jitted_module_is_still_the_module() -> None:
    """Its methods and attributes are there, and `rb.explain()` can name it."""
    model = rb.nn.Sequential(rb.nn.Linear(3, 2), rb.nn.ReLU())
    quick = rb.jit(model)
    assert list(quick.parameters()) == list(model.parameters())
    assert quick.__name__ == "Sequential" and "Linear" in repr(quick)
    x = rb.ones((1, 3))
    assert np.array_equal(quick(x).numpy(), model(x).numpy())
    assert any("Sequential" in note for note in rb.explain().reasons)  # its result has gradients
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = quick.nothing_such
    assert copy.copy(quick).function is model and copy.deepcopy(quick).function is not model


def test_s17_a_replay_without_decisions_still_looks_at_its_arguments() -> None:
    """From the third call on one native call does it all, for these arguments alone."""

    @rb.jit
    def f(x: rb.Tensor, y: rb.Tensor) -> rb.Tensor:
        return x * 10 + y

    a, b = rb.ones(2), rb.full((2,), 2.0)
    for _ in range(4):
        assert f(a, b).numpy().tolist() == [12, 12]
    assert f(a, a).numpy().tolist() == [11, 11]
    assert f(a, y=b).numpy().tolist() == [12, 12]
    assert f(rb.ones(3), rb.ones(3)).numpy().tolist() == [11, 11, 11]
    assert f(a + 1, b + 1).numpy().tolist() == [23, 23]  # operands that wait to be computed
    assert rb.jit(lambda x: f(x, b) + 1)(a).numpy().tolist() == [13, 13]  # recorded by another
    x = rb.ones(2, requires_grad=True)
    f(x, b).sum().backward()
    assert f.why and x.grad.numpy().tolist() == [10, 10]
    assert f(a, b).numpy().tolist() == [12, 12]


def test_s17_an_error_in_a_replay_without_decisions_names_the_line() -> None:
    """An index out of range, in the third call and later ones."""
    pick = rb.jit(lambda x, i: rb.take(x, i, axis=0) * 2)
    x = rb.arange(4.0)
    for _ in range(3):
        assert pick(x, rb.asarray([1, 2])).numpy().tolist() == [2, 4]
    for _ in range(2):
        with pytest.raises(IndexError, match=r"test_jit\.py"):
            pick(x, rb.asarray([1, 9])).numpy()
    assert pick.stats["recorded"] == 1
    assert pick(x, rb.asarray([3, 2])).numpy().tolist() == [6, 4]
