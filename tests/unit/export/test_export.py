"""What is exported computes the same bits as the model, at every size it was exported for."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn
from rabbet.base.errors import ExportError, ShapeError
from rabbet.export import export, load_program
from rabbet.nn import functional
from rabbet.recorder import current


def test_batches_of_any_size(digits_model: Any, exported: Any, assert_same_bits: Any) -> None:
    program = exported(digits_model, (rb.zeros((1, 1, 8, 8)),), {"x": {0: "batch"}})
    assert str(program.inputs[0]) == "x: float32(batch, 1, 8, 8)"
    assert str(program.outputs[0]) == "output: float32(batch, 10)"
    for batch in (0, 1, 2, 7, 64):
        x = rb.rand(batch, 1, 8, 8)
        assert_same_bits(program(x), digits_model(x).detach())


def test_static(digits_model: Any, exported: Any, assert_same_bits: Any) -> None:
    program = exported(digits_model, rb.zeros((2, 1, 8, 8)))
    x = rb.rand(2, 1, 8, 8)
    assert_same_bits(program(x), digits_model(x).detach())
    with pytest.raises(ShapeError, match=r"x must have shape \(2, 1, 8, 8\), not \(3, 1, 8, 8\)"):
        program(rb.zeros((3, 1, 8, 8)))


def test_ops_stay_at_the_users_level(digits_model: Any, exported: Any) -> None:
    program = exported(digits_model, rb.zeros((2, 1, 8, 8)))
    calls = program.entry.calls
    assert [c.op for c in calls] == "conv2d batch_norm_infer relu max_pool2d flatten linear".split()
    assert [c.layer for c in calls] == ["0", "1", "2", "3", "4", "6"]
    names = {w.name: w.role for w in program.file.program.weights}
    assert names["0.weight"] == "parameter" and names["1.running_mean"] == "buffer"
    assert names.keys() <= digits_model.state_dict().keys()


class Decoder(nn.Module):
    """A small transformer over token numbers, with positions from the size of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(20, 16), nn.Embedding(40, 16)
        self.norm, self.qkv, self.head = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 20)

    def forward(self, ids: Any) -> Any:
        batch, time = ids.shape
        x = self.tokens(ids) + self.positions(rb.arange(time))
        y = self.qkv(self.norm(x)).reshape(batch, time, 3, 4, 4).permute(2, 0, 3, 1, 4)
        y = rb.scaled_dot_product_attention(y[0], y[1], y[2], is_causal=True)
        x = x + functional.gelu(y.permute(0, 2, 1, 3).reshape(batch, time, 16))
        return self.head(x)


def test_two_dynamic_sizes(exported: Any, assert_same_bits: Any) -> None:
    rb.manual_seed(1)
    model = Decoder().eval()
    example = (rb.zeros((2, 6), dtype=rb.int64),)
    program = exported(model, example, {"ids": {0: "batch", 1: "time"}})
    assert program.outputs[0].shape == ("batch", "time", 20)
    for batch, time in ((2, 6), (1, 1), (3, 40), (5, 17)):
        ids = rb.randint(0, 20, (batch, time))
        assert_same_bits(program(ids), model(ids).detach())


def scaled(x: Any) -> Any:
    return x.sum(0) / x.shape[0]


def pairs(a: Any, b: Any) -> Any:
    return {"sum": a + b, "both": (a, [a * b, b])}


def pieces(x: Any) -> Any:
    return x.reshape(x.shape[0], x.shape[1] // 4, 4).sum(2)


def written_over(x: Any) -> Any:
    y = x * 1.0
    y[:, 0] = 0.0
    y += rb.ones((x.shape[0], 4))
    return y


def odd_numbers(x: Any) -> Any:
    return x + rb.tensor([1.0, float("inf"), float("nan"), -0.0]), x * float("nan"), x + -0.0


def slopes(x: Any) -> Any:
    return rb.grad(lambda v: (v**3).sum())(x)


@pytest.mark.parametrize(
    ("function", "shapes", "dynamic", "others"),
    [
        (scaled, [(3, 4)], {"x": {0: "n"}}, [[(1, 4)], [(50, 4)]]),
        (pairs, [(3, 4), (4,)], {"a": {0: "n"}}, [[(5, 4), (4,)]]),
        (pieces, [(2, 8)], {"x": {0: "n", 1: "t"}}, [[(3, 16)]]),
        (written_over, [(3, 4)], {"x": ["n"]}, [[(1, 4)], [(6, 4)]]),
        (odd_numbers, [(3, 4)], {"x": {0: "n"}}, [[(2, 4)]]),
        (slopes, [(3, 4)], {"x": {-2: "n"}}, [[(2, 4)]]),
        (lambda x: x, [(3, 4)], {"x": {0: "n"}}, [[(2, 4)]]),
        (lambda x: x[:, -1] * 2.0, [(3, 4)], {"x": {1: "t"}}, [[(3, 1)], [(3, 9)]]),
        (lambda x: (x + rb.arange(x.shape[1]))[:, -1], [(3, 4)], {"x": {1: "t"}}, [[(3, 1)]]),
        (lambda x: x[1:-1], [(5, 4)], {"x": {0: "n"}}, [[(3, 4)], [(2, 4)]]),
    ],
)
def test_functions(
    function: Callable[..., Any],
    shapes: list[tuple[int, ...]],
    dynamic: Any,
    others: list[list[tuple[int, ...]]],
    exported: Any,
    assert_same_bits: Any,
) -> None:
    program = exported(function, tuple(rb.zeros(s) for s in shapes), dynamic)
    for given in (shapes, *others):
        arguments = [rb.rand(*s) - 0.5 for s in given]
        assert_same_bits(program(*arguments), function(*arguments))


def test_convolution_of_any_image(exported: Any, assert_same_bits: Any) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.MaxPool2d(2)).eval()
    program = exported(model, rb.zeros((1, 2, 16, 20)), {"x": {2: "h", 3: "w"}})
    for h, w in ((16, 20), (9, 33), (7, 5)):
        x = rb.rand(1, 2, h, w)
        assert_same_bits(program(x), model(x).detach())
    with pytest.raises(ShapeError, match="h != 1"):
        program(rb.zeros((1, 2, 1, 8)))


# ---- refusals ------------------------------------------------------------------------------------


def masks(x: Any) -> Any:
    return x[x > 0]


def looks_at_input(x: Any) -> Any:
    return x * float(x.numpy().max())


def looks_at_sum(x: Any) -> Any:
    return x * float((x + 1.0).numpy().max())


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x if x.sum() > 0 else -x, r"rb.cond\(condition, a, b\).*it is a lambda"),
        (masks, r"mask as an index[\s\S]*in masks: return x\[x > 0\]"),
        (looks_at_input, r"(value|numpy) of a tensor[\s\S]*in looks_at_input"),
        (looks_at_sum, r"(value|numpy) of a tensor[\s\S]*in looks_at_sum"),
        (lambda x: x * x.sum().item(), "keep it a tensor"),
        (lambda x: x * float(np.asarray(x + 1).max()), "would be frozen"),
        (lambda x: functional.dropout(x, 0.5, training=True), "depends on random numbers"),
        (lambda x: 3, "the result holds a int"),
    ],
)
def test_values_are_refused(function: Any, message: str, exported: Any) -> None:
    with pytest.raises(ExportError, match=message):
        exported(function, rb.zeros((2, 4)))
    assert current().count == 0 and current().capture is None
    assert (rb.ones(2) + 1).tolist() == [2.0, 2.0]  # recording goes on as before


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x * 2 if x.shape[0] % 2 else x + 1, "with n=3 it records multiply"),
        (lambda x: [x + i for i in range(x.shape[0])], "form of the result"),
        (lambda x: x * x.shape[0] ** 0.5, "a constant depends on the dynamic sizes"),
        (lambda x: x.reshape(12), "fails with n=4"),
        (lambda x: rb.zeros((x.shape[0] ** 3 + 1,)), "no expression of the dynamic sizes"),
    ],
)
def test_sizes_python_decides_on(function: Any, message: str, exported: Any) -> None:
    with pytest.raises(ExportError, match=message):
        exported(function, rb.zeros((3, 4)), {"x": {0: "n"}})


def test_a_special_size_is_forbidden(exported: Any, assert_same_bits: Any) -> None:
    program = exported(
        lambda x: x * 2 if x.shape[0] == 1 else x + 1, rb.zeros((3,)), {"x": {0: "n"}}
    )
    assert program(rb.zeros(4)).tolist() == [1.0] * 4
    with pytest.raises(ShapeError, match=r"n=1 is outside .* \(n != 1\)"):
        program(rb.zeros(1))


@pytest.mark.parametrize(
    ("dynamic", "message"),
    [
        ({"y": {0: "n"}}, "no input 'y'; there are x"),
        ({"x": {2: "n"}}, "no axis 2"),
        ({"x": {0: "two words"}}, "no name for a size"),
        ({"x": {0: "n", 1: "n"}}, "'n' is 3 and also 4"),
        ({"x": 0}, "write"),
    ],
)
def test_wrong_dynamic(dynamic: Any, message: str, exported: Any) -> None:
    with pytest.raises(ExportError, match=message):
        exported(lambda x: x, rb.zeros((3, 4)), dynamic)


def test_wrong_arguments(digits_model: Any, exported: Any) -> None:
    with pytest.raises(ExportError, match="do not fit the signature"):
        exported(digits_model, (rb.zeros(2), rb.zeros(2)))
    with pytest.raises(ExportError, match="no tensor among"):
        exported(lambda n: n, (3,))
    with pytest.raises(ExportError, match="a Module or a function"):
        exported(3, (rb.zeros(2),))


# ---- what a recording leaves behind -------------------------------------------------------------


def test_a_model_is_exported_in_evaluation_mode_and_keeps_its_own(tmp_path: Any) -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.ReLU().eval())
    program = load_program(export(model, rb.rand(3, 4), tmp_path / "m.rbt"))
    assert [m.training for m in model] == [True, True, False]
    x = rb.rand(3, 4)
    assert np.array_equal(program(x).numpy(), model.eval()(x).numpy())


def test_training_mode_can_be_exported(tmp_path: Any) -> None:
    model = nn.Sequential(nn.BatchNorm1d(4))
    before = {k: np.array(v) for k, v in model.state_dict().items()}
    with pytest.warns(UserWarning, match="update in place"):
        path = export(model, rb.rand(3, 4), tmp_path / "m.rbt", training=True)
    for name, value in model.state_dict().items():
        assert np.array(value).tobytes() == before[name].tobytes()  # recording is no run
    x = rb.rand(3, 4)
    assert np.array_equal(load_program(path)(x).numpy(), model(x).numpy())


def test_recorded_tensors_have_no_value(exported: Any) -> None:
    kept = []

    def keeps(x: Any) -> Any:
        kept.append(x + 1.0)
        return kept[-1] * 2.0

    exported(keeps, rb.zeros(3))
    with pytest.raises(ExportError, match="only recorded for export"):
        kept[0].numpy()


def test_random_streams_do_not_move(exported: Any) -> None:
    def draws(x: Any) -> Any:
        rb.rand(3)
        return x

    rb.manual_seed(5)
    wanted = rb.rand(4).tolist()
    rb.manual_seed(5)
    exported(draws, rb.zeros(3))
    assert rb.rand(4).tolist() == wanted


def test_tensors_kept_from_one_recording_to_the_next(exported: Any) -> None:
    kept: list[Any] = []

    def sums_up(x: Any) -> Any:
        kept.append(x.sum() + (kept[-1] if kept else 0.0))
        return x + kept[-1]

    exported(sums_up, rb.zeros(3))  # once: there is nothing kept yet
    with pytest.raises(ExportError, match="only recorded for export"):
        exported(sums_up, rb.zeros(3))


def test_state_is_as_before_after_a_failure(digits_model: Any, tmp_path: Any) -> None:
    counter = rb.zeros(())

    def counts(x: Any) -> Any:
        counter.copy_(counter + 1.0)
        return x * counter.item()

    with pytest.raises(ExportError, match="keep it a tensor"):
        export(counts, rb.zeros(3), tmp_path / "m.rbt")
    assert counter.item() == 0.0 and not list(tmp_path.iterdir())
