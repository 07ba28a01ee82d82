"""rb.draw: the graph as a well-formed SVG."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import rabbet as rb

SVG = "{http://www.w3.org/2000/svg}"


def test_nodes_edges_and_lines(tmp_path: Path) -> None:
    w = rb.tensor([1.0, 2.0], requires_grad=True)
    picture = rb.draw(lambda x: rb.exp(x * w) + x, rb.tensor([3.0, 4.0]))
    picture.save(tmp_path / "x.svg")
    root = ElementTree.parse(tmp_path / "x.svg").getroot()
    texts = [t.text for t in root.iter(f"{SVG}text")]
    assert {"multiply", "exp", "add", "input", "leaf"} <= set(texts)
    assert picture.nodes == len(list(root.iter(f"{SVG}rect"))) == 5
    assert len(list(root.iter(f"{SVG}path"))) == 5
    assert any((t or "").startswith("test_draw.py:") for t in texts)
    spots = {(r.get("x"), r.get("y")) for r in root.iter(f"{SVG}rect")}
    assert len(spots) == 5  # no box upon another


def test_a_tensor_and_numbers_and_deep_graphs() -> None:
    x = rb.ones(2) * 0.5
    assert "0.5" in rb.draw(x).svg and rb.draw(x)._repr_svg_().startswith("<svg")
    assert x.tolist() == [0.5, 0.5]
    y = rb.tensor([1.0], requires_grad=True)
    for _ in range(1500):
        y = y + y
    assert rb.draw(y).nodes == 1501


def test_nothing_to_draw() -> None:
    with pytest.raises(rb.RabbetError, match="draw: the function returned no tensor"):
        rb.draw(lambda: 3)
