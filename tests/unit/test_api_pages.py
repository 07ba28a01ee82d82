"""The API reference names every public function, with its documentation; and an example."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import rabbet as rb

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_api", ROOT / "tools" / "make_api.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_has_its_place(tool: ModuleType, tmp_path: Path) -> None:
    tool.write(tmp_path, say=lambda text: None)
    index = (tmp_path / "README.md").read_text()
    top = (tmp_path / "rabbet.md").read_text()
    for name in tool.public("rabbet"):
        assert f"## `{name}" in top, name
    assert "## `softmax(" in (tmp_path / "tensor.md").read_text()
    assert "## `Linear(" in (tmp_path / "rabbet.nn.md").read_text()
    assert index.count("](") == len(list(tmp_path.glob("*.md"))) - 1
    for file in tmp_path.glob("*.md"):
        assert file.read_text().count("```") % 2 == 0, file.name


def test_every_public_name_is_documented(tool: ModuleType) -> None:
    bare = [
        f"{namespace}.{name}"
        for namespace in tool.NAMESPACES
        for name, value in tool.public(namespace).items()
        if not (inspect.getdoc(value) or "").strip()
    ]
    assert not bare, bare


def test_functions_have_examples(tool: ModuleType) -> None:
    """Functions of the top level; aliases and errors left out."""
    bare = [
        name
        for name, value in tool.public("rabbet").items()
        if not (inspect.isclass(value) and issubclass(value, BaseException))
        and ">>>" not in (inspect.getdoc(value) or "")
    ]
    assert not bare, bare
    assert len(tool.public("rabbet")) > 200 and rb.__version__
