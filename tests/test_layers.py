"""Who may import whom: `[tool.rabbet]` in pyproject.toml, checked for every file of the package.

Function bodies are read too, and names given to `rabbet.base.optional.require`. Each rule is also
shown a source that breaks it.
"""

import ast
import functools
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())
RULES = CONFIG["tool"]["rabbet"]
EXTRAS = set(CONFIG["project"]["optional-dependencies"])
RANK = {name: rank for rank, row in enumerate(RULES["layers"]) for name in row}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True)
class Import:
    """One name that a file imports: `from a.b import c` is module a.b, name c."""

    module: str
    name: str | None
    line: int
    in_function: bool

    @property
    def full(self) -> str:
        return f"{self.module}.{self.name}" if self.name else self.module


@dataclass(frozen=True)
class Source:
    """A file of the package and the module it is."""

    path: str
    tree: ast.Module

    @property
    def parts(self) -> list[str]:
        return self.path.removesuffix(".py").removesuffix("/__init__").split("/")

    @property
    def layer(self) -> str | None:
        """Folder (or file) right under rabbet/; None for rabbet/__init__.py and __main__.py."""
        name = self.parts[1] if len(self.parts) > 1 else None
        return None if name == "__main__" else name

    @property
    def package(self) -> list[str]:
        return self.parts if self.path.endswith("__init__.py") else self.parts[:-1]

    def imports(self) -> Iterator[Import]:
        yield from self._walk(self.tree, in_function=False)

    def _walk(self, node: ast.AST, in_function: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, None, child.lineno, in_function)
            elif isinstance(child, ast.ImportFrom):
                base = self.package[: len(self.package) - child.level + 1] if child.level else []
                module = ".".join([*base, *filter(None, [child.module])])
                for alias in child.names:
                    yield Import(module, alias.name, child.lineno, in_function)
            yield from self._walk(child, in_function or isinstance(child, FUNCTIONS))

    def optional(self) -> Iterator[tuple[str, str, int]]:
        """Module and extra of each call of `require` with constant arguments."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("require"):
                given = [*node.args, *(word.value for word in node.keywords)]
                if [isinstance(a, ast.Constant) for a in given] == [True, True]:
                    module, extra = (ast.literal_eval(argument) for argument in given)
                    yield module, extra, node.lineno


def parse(path: str, text: str) -> Source:
    return Source(path, ast.parse(text, path))


@functools.cache
def package() -> list[Source]:
    """Every file of the package."""
    files = sorted((ROOT / "rabbet").rglob("*.py"))
    return [parse(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) for path in files]


def is_inside(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def check_order(source: Source) -> Iterator[str]:
    """Imports run downward only."""
    if source.layer is None:
        return
    if source.layer not in RANK:
        yield f"{source.path}: {source.layer} has no place in tool.rabbet.layers of pyproject.toml"
        return
    for found in source.imports():
        if not is_inside(found.full, "rabbet"):
            continue
        parts = found.full.split(".")
        below = parts[1] if len(parts) > 1 else None
        where = f"{source.path}:{found.line}"
        if below not in RANK:
            yield f"{where}: {found.full}: import from the folder it lives in, not from the top"
        elif below != source.layer and RANK[below] >= RANK[source.layer]:
            yield f"{where}: {source.layer} must not know about {below}"


def check_children(source: Source) -> Iterator[str]:
    """Folders side by side under `targets` do not know each other."""
    for parent in RULES["separate_children"]:
        if source.parts[1:2] != [parent] or len(source.parts) < 3:
            continue
        own = source.parts[2]
        for found in source.imports():
            other = found.full.split(".")[2:3]
            if is_inside(found.full, f"rabbet.{parent}") and other and other != [own]:
                yield f"{source.path}:{found.line}: {own} must not know {parent}/{other[0]}"


def check_hidden(source: Source) -> Iterator[str]:
    """No import waits inside a function, or comes by a name made up at run time."""
    for found in source.imports():
        if found.in_function:
            yield f"{source.path}:{found.line}: import of {found.full} inside a function"
        is_loader = found.full in ("importlib", "importlib.import_module", "runpy", "imp")
        is_loader = is_loader or found.full.startswith(("importlib.util", "importlib.machinery"))
        if is_loader and source.path not in RULES["dynamic_importers"]:
            yield f"{source.path}:{found.line}: {found.full} is only for dynamic_importers"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Name) and node.id == "__import__":
            yield f"{source.path}:{node.lineno}: __import__"


def check_private(source: Source) -> Iterator[str]:
    """A leading underscore means this file only; native modules belong to their folder."""
    for found in source.imports():
        native = [name for name in RULES["native_modules"] if is_inside(found.full, name)]
        if native:
            if native[0].rpartition(".")[0].split(".") != source.package:
                yield f"{source.path}:{found.line}: {native[0]} belongs to its own folder"
        elif is_inside(found.full, "rabbet"):
            for part in found.full.split("."):
                if part.startswith("_") and not part.startswith("__"):
                    yield f"{source.path}:{found.line}: {part} of {found.module} is private"


def check_optional(source: Source) -> Iterator[str]:
    """Optional packages name an extra that exists."""
    for module, extra, line in source.optional():
        if extra not in EXTRAS:
            yield f"{source.path}:{line}: {module}: there is no extra called {extra}"


def check_target_names(source: Source) -> Iterator[str]:
    """What differs between machines is in the target's folder, not behind a test of its name."""
    if source.layer == "targets":
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                if ast.unparse(side).endswith("target.name"):
                    yield f"{source.path}:{node.lineno}: {ast.unparse(node)}"


Check = Callable[[Source], Iterator[str]]
CHECKS: list[Check] = [
    check_order,
    check_children,
    check_hidden,
    check_private,
    check_optional,
    check_target_names,
]


def check_single(sources: list[Source], module: str) -> list[str]:
    """The files that import `module`, directly or through `require`."""
    importers = set()
    for source in sources:
        names = [found.full for found in source.imports()]
        names += [name for name, _, _ in source.optional()]
        if any(is_inside(name, module) for name in names):
            importers.add(source.path)
    return sorted(importers)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_file_keeps_the_rule(check: Check) -> None:
    broken = [message for source in package() for message in check(source)]
    assert not broken, f"{check.__doc__}\n" + "\n".join(broken)


@pytest.mark.parametrize("module", RULES["single_importers"])
def test_one_file_at_most_imports(module: str) -> None:
    importers = check_single(package(), module)
    assert len(importers) <= 1, f"{module} is imported by {', '.join(importers)}"


def test_the_package_was_found() -> None:
    paths = {source.path for source in package()}
    assert {"rabbet/base/errors.py", "rabbet/data/loader.py"} <= paths
    loader = next(source for source in package() if source.path == "rabbet/data/loader.py")
    assert "rabbet.tensor" in {found.module for found in loader.imports()}


@pytest.mark.parametrize(
    ("check", "path", "text"),
    [
        (check_order, "rabbet/base/a.py", "from rabbet.graph.value import Value"),
        (check_order, "rabbet/base/a.py", "def f():\n    import rabbet.tensor"),
        (check_order, "rabbet/nn/a.py", "from rabbet.optim import sgd"),
        (check_order, "rabbet/nn/a.py", "from ..train import trainer"),
        (check_order, "rabbet/nn/a.py", "from rabbet import train"),
        (check_order, "rabbet/nn/a.py", "import rabbet as rb"),
        (check_order, "rabbet/nn/a.py", "from rabbet import Tensor"),
        (check_order, "rabbet/unheard_of/a.py", ""),
        (check_children, "rabbet/targets/x86/tiles.py", "from rabbet.targets.arm import tiles"),
        (check_children, "rabbet/targets/x86/tiles.py", "from ..arm.tiles import dot"),
        (check_hidden, "rabbet/base/a.py", "def f():\n    import json"),
        (
            check_hidden,
            "rabbet/base/a.py",
            "async def f():\n    if f:\n        from os import path",
        ),
        (check_hidden, "rabbet/base/a.py", "from importlib import import_module"),
        (check_hidden, "rabbet/base/a.py", "f = lambda: __import__('json')"),
        (check_private, "rabbet/tensor/a.py", "from rabbet.runtime import _runtime"),
        (check_private, "rabbet/tensor/a.py", "from rabbet.recorder._recorder import Handle"),
        (check_private, "rabbet/ops/a.py", "from rabbet.ops.reductions import _axes"),
        (check_private, "rabbet/ops/a.py", "from . import _shared"),
        (check_optional, "rabbet/serve/a.py", "require('grpc', 'servers')"),
        (check_optional, "rabbet/serve/a.py", "optional.require('grpc', extra='servers')"),
        (check_target_names, "rabbet/kernel/a.py", "if kernel.target.name == 'x86': pass"),
        (check_target_names, "rabbet/kernel/a.py", "fast = target.name in ('x86', 'arm')"),
    ],
)
def test_a_broken_rule_is_found(check: Check, path: str, text: str) -> None:
    assert len(list(check(parse(path, text)))) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("rabbet/__init__.py", "from rabbet.nn import functional\nimport rabbet.serve"),
        ("rabbet/nn/a.py", "from rabbet.nn.b import c\nfrom . import d\nimport rabbet.base.errors"),
        ("rabbet/nn/__init__.py", "from .linear import Linear\nfrom ..tensor import Tensor"),
        ("rabbet/targets/x86/__init__.py", "from rabbet.targets.x86 import tiles"),
        ("rabbet/targets/x86/run.py", "if target.name == 'x86': pass"),
        ("rabbet/runtime/a.py", "from rabbet.runtime import _runtime"),
        ("rabbet/recorder/__init__.py", "from rabbet.recorder._recorder import Handle"),
        ("rabbet/serve/a.py", "from importlib import resources\nrequire('uvicorn', 'serve')"),
        ("rabbet/base/optional.py", "import importlib"),
        ("rabbet/nn/a.py", "from __future__ import annotations\nfrom rabbet.base import __doc__"),
    ],
)
def test_what_is_allowed_passes(path: str, text: str) -> None:
    source = parse(path, text)
    assert [message for check in CHECKS for message in check(source)] == []


@pytest.mark.parametrize(
    "text",
    [
        "import llvmlite.binding as llvm",
        "from llvmlite import binding",
        "from llvmlite.binding import parse_assembly",
        "def f():\n    return require('llvmlite.binding.ffi', 'aot')",
    ],
)
def test_every_way_of_importing_counts(text: str) -> None:
    twice = [parse("rabbet/a.py", text), parse("rabbet/b.py", "import llvmlite.binding")]
    assert check_single(twice, "llvmlite.binding") == ["rabbet/a.py", "rabbet/b.py"]
