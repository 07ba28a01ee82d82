"""One exported model with a bit of everything, as bytes."""

from pathlib import Path
from typing import Any

import pytest

import rabbet as rb
from rabbet import nn
from rabbet.export import export


class Mixed(nn.Module):
    """Embedding, convolution, slices, joins, norms, a branch-free choice; two dynamic sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.conv = nn.Embedding(10, 8), nn.Conv1d(8, 8, 3, padding=1)
        self.linear, self.norm = nn.Linear(8, 6), nn.LayerNorm(6)

    def forward(self, ids: Any, y: Any) -> Any:
        n, t = ids.shape
        x = self.embedding(ids) + y.reshape(n, t, 8)
        x = self.conv(x.permute(0, 2, 1)).permute(0, 2, 1)[:, 1:-1]
        x = rb.concat([x, rb.flip(x, axis=1)[:, ::2]], axis=1)
        x = self.norm(self.linear(x))
        x = rb.where(x > 0, x, rb.exp(x * 0.5))
        return {"largest": x.max(axis=1), "rest": (rb.softmax(x, axis=-1), x.sum((1, 2)) / n)}


@pytest.fixture(scope="session")
def program_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A valid file; its inputs are ids int64(n, t) and y float32(n, t, 8)."""
    rb.manual_seed(0)
    example = (rb.zeros((2, 6), dtype=rb.int64), rb.zeros((2, 6, 8)))
    dynamic = {"ids": {0: "n", 1: "t"}, "y": {0: "n", 1: "t"}}
    path = tmp_path_factory.mktemp("format") / "mixed.rbt"
    data: bytes = export(Mixed().eval(), example, path, dynamic).read_bytes()
    return data


def repeats(x: Any) -> Any:
    """Loops, branches and a scan."""
    while x.sum() < 100:
        x = x * 2 if x[0, 0] > 3 else x + 1
        if x.max() > 40:
            break
    return x, rb.scan(lambda c, r: (c + r, c.max()), x[0], x)[1]


@pytest.fixture(scope="session")
def control_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A valid file with graphs inside graphs; its input is x float32(n, 2)."""
    path = tmp_path_factory.mktemp("format") / "control.rbt"
    data: bytes = export(repeats, (rb.ones((3, 2)),), path, {"x": {0: "n"}}).read_bytes()
    return data


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test may put a file."""
    return tmp_path / "f.rbt"
