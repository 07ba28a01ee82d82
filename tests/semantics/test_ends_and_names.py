"""Which outputs a program keeps, where segments end, and the names that files and loops promise."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn
from rabbet.data import ArrayDataset, DataLoader
from rabbet.engine import programs
from rabbet.recorder import current


def three(x: rb.Tensor) -> list[rb.Tensor]:
    """A segment with three results."""
    a = rb.exp(x) + 1
    b = a * x
    return [a, b, rb.tanh(b)]


def run(x: rb.Tensor, kept: set[int]) -> list[np.ndarray | None]:
    """Compute the segment while only some of its results are alive."""
    outputs = [t if i in kept else None for i, t in enumerate(three(x))]
    rb.flush()
    return [None if t is None else t.numpy() for t in outputs]


def test_s05_a_program_that_keeps_more_serves_when_less_is_alive() -> None:
    """A handle that lives longer (a REPL's `_`, an exception) costs a store, not a compilation."""
    x = rb.asarray(np.linspace(-1, 1, 7, dtype=np.float32))
    for _ in range(2):
        whole = run(x, {0, 1, 2})
    compiled = programs.statistics["programs_compiled"]
    for kept in ({0}, {1, 2}, {0, 2}, {2}):
        for found, wanted in zip(run(x, kept), whole, strict=True):
            assert found is None or found.tobytes() == wanted.tobytes()  # type: ignore[union-attr]
    assert programs.statistics["programs_compiled"] == compiled


def test_s05_after_four_masks_their_union_is_compiled() -> None:
    """However liveness varies after that, nothing is compiled any more."""
    x = rb.asarray(np.linspace(-2, 2, 9, dtype=np.float64))
    for kept in ({0}, {0}, {1}, {2}, {0, 1}, {1, 2}):
        run(x, kept)
    compiled = programs.statistics["programs_compiled"]
    for kept in ({0, 2}, {0, 1, 2}, {0}, {1}):
        run(x, kept)
    assert programs.statistics["programs_compiled"] == compiled


def test_s06_a_segment_ends_at_the_loaders_next() -> None:
    """What one batch recorded is computed before the next one comes."""
    data = ArrayDataset(np.zeros((4, 2), np.float32), np.zeros(4, np.int64))
    pending = []
    for x, _ in DataLoader(data, batch_size=2):
        pending.append(current().count)
        held = x + 1  # noqa: F841  (alive when the loader is asked again)
        assert current().count > 0
    assert pending == [0, 0]


def test_s06_a_segment_ends_at_the_optimizers_construction_and_step() -> None:
    """One step is one segment."""
    layer = nn.Linear(3, 2)
    before = rb.ones(3) * 2
    optimizer = rb.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    assert current().count == 0
    loss = (layer(before) ** 2).sum()
    loss.backward()
    assert current().count > 0
    optimizer.step()
    assert current().count == 0


def test_s06_a_segment_ends_where_a_tensor_becomes_a_parameter() -> None:
    """A parameter is a computed tensor from the start."""
    weight = rb.ones(3) * 2
    assert current().count > 0
    nn.Parameter(weight)
    assert current().count == 0


def test_s06_optimizer_state_exists_from_construction() -> None:
    """So that the first step has the structure of all others."""
    layer = nn.Linear(3, 2)
    optimizer = rb.optim.Adam(layer.parameters())
    assert len(optimizer.state_dict()["state"]) == 2


def test_s23_save_takes_trees_of_tensors_and_no_modules(tmp_path: Path) -> None:
    """A pytree of tensors and JSON scalars; a Module points to its state_dict."""
    tree = {"w": rb.ones(2), "more": [1, 2.5, "text", None, {"b": rb.zeros(1)}]}
    rb.save(tree, tmp_path / "tree.safetensors")
    found = rb.load(tmp_path / "tree.safetensors")
    assert found["more"][:4] == [1, 2.5, "text", None]
    assert found["w"].tolist() == [1, 1] and found["more"][4]["b"].tolist() == [0]
    with pytest.raises(rb.RabbetError, match="state_dict"):
        rb.save(nn.Linear(1, 1), tmp_path / "module.safetensors")
    assert not (tmp_path / "module.safetensors").exists()


def test_s24_fit_has_the_words_of_keras() -> None:
    """fit(x, y=None, *, batch_size, epochs, ...) returns a History."""
    names = list(inspect.signature(rb.Trainer.fit).parameters)
    assert names[1:3] == ["x", "y"]
    wanted = {"batch_size", "epochs", "validation_data", "validation_split", "callbacks"}
    assert wanted | {"class_weight"} <= set(names)
    model = nn.Linear(2, 1)
    trainer = rb.Trainer(
        model, loss=nn.MSELoss(), optimizer=rb.optim.SGD(model.parameters(), lr=0.1)
    )
    x, y = np.ones((8, 2), np.float32), np.ones((8, 1), np.float32)
    history = trainer.fit(x, y, batch_size=4, epochs=2, verbose=0)
    assert len(history.history["loss"]) == 2
    assert history.history["loss"][1] < history.history["loss"][0]


def test_s25_exports_go_by_the_names_of_inputs(tmp_path: Path) -> None:
    """dynamic= names inputs and axes; the program answers to the same names."""

    class Scale(nn.Module):
        def forward(self, image: Any) -> Any:
            return image * 2

    path = tmp_path / "scale.rbt"
    rb.export(Scale().eval(), (rb.ones(2, 3),), path, dynamic={"image": {0: "batch"}})
    program = rb.load_program(path)
    assert [p.name for p in program.inputs] == ["image"]
    assert program(image=rb.ones(5, 3)).shape == (5, 3)
    with pytest.raises(TypeError, match="picture"):
        program(picture=rb.ones(5, 3))


def test_s02_a_sum_across_one_place_adds_in_the_order_of_many() -> None:
    """Found by the long search: one column, alone or beside others, has the same bits."""
    wide = np.random.default_rng(5).standard_normal((50, 3)).astype(np.float32)
    together = rb.sum(rb.asarray(wide), axis=0).numpy()
    for column in range(3):
        alone = rb.sum(rb.asarray(wide[:, column : column + 1].copy()), axis=0).numpy()
        assert alone[0].tobytes() == together[column].tobytes()
