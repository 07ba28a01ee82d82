"""docs/glossary.md is kept: no name in the package has a word that the glossary rules out."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def read_banned() -> set[str]:
    section = (ROOT / "docs" / "glossary.md").read_text("utf-8").partition("## Not used\n")[2]
    return set(re.findall(r"`(\w+)`", section))


def names_in(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Names that the file gives to things, not those of other people's that it uses."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


def find_banned(path: str, text: str, banned: set[str]) -> list[str]:
    found = [(part, 1) for part in path.removesuffix(".py").split("/")]
    found += names_in(ast.parse(text, path))
    return [
        f"{path}:{line}: {name}"
        for name, line in found
        if banned & {word.lower() for word in WORDS.findall(name)}
    ]


def test_the_package_uses_the_words_of_the_glossary() -> None:
    banned = read_banned()
    assert {"manager", "util", "ctx"} <= banned
    found = []
    for path in sorted((ROOT / "rabbet").rglob("*.py")):
        found += find_banned(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"), banned)
    assert not found, "not in the glossary:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("path", "text", "count"),
    [
        ("rabbet/utils.py", "", 1),
        ("rabbet/a.py", "class KernelManager: pass", 1),
        ("rabbet/a.py", "def f(ctx, helper_id): pass", 2),
        ("rabbet/a.py", "self.uop = aval = 1", 2),
        ("rabbet/a.py", "node.ctx", 0),
        ("rabbet/a.py", "children = utility = rendering = current = 1", 0),
    ],
)
def test_words_are_found_inside_names(path: str, text: str, count: int) -> None:
    assert len(find_banned(path, text, read_banned())) == count
