"""Write the API reference, one Markdown page for each public namespace, from docstrings.

    python tools/make_api.py [FOLDER]      docs/api unless told; see `make docs`

It needs nothing but the package. Examples in docstrings are run by tests/test_docs.py; the pages
are not kept in the repository, so they cannot be stale.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import rabbet as rb

ROOT = Path(__file__).resolve().parent.parent
NAMESPACES = {
    "rabbet": "Tensors, ops, transforms, files",
    "rabbet.linalg": "Linear algebra",
    "rabbet.fft": "Fourier transforms",
    "rabbet.special": "Special functions",
    "rabbet.autograd": "PyTorch's names around gradients",
    "rabbet.autograd.functional": "Derivatives at given inputs",
    "rabbet.nn": "Layers, losses, containers",
    "rabbet.nn.functional": "Layers and losses as functions",
    "rabbet.nn.init": "First values of parameters",
    "rabbet.optim": "Optimizers",
    "rabbet.optim.lr_scheduler": "Schedules of learning rates",
    "rabbet.distributions": "Probability distributions",
    "rabbet.data": "Datasets, loaders, files",
    "rabbet.train": "Trainer, callbacks, metrics",
    "rabbet.distributed": "Several processes",
}


def public(namespace: str) -> dict[str, Any]:
    """Functions and classes of a namespace by name, those of other packages left out."""
    module = importlib.import_module(namespace)
    names = getattr(module, "__all__", None) or dir(module)
    found = {}
    for name in sorted(names):
        value = getattr(module, name, None)
        if name.startswith("_") or inspect.ismodule(value) or not callable(value):
            continue
        home = str(getattr(value, "__module__", ""))
        if home == "rabbet" or home.startswith("rabbet."):
            found[name] = value
    return found


def methods(kind: type) -> Iterator[tuple[str, Any]]:
    """Documented public methods and properties of a class, inherited ones of other packages out."""
    for name, value in sorted(inspect.getmembers(kind)):
        if name.startswith("_"):
            continue
        target = value.fget if isinstance(value, property) else value
        home = str(getattr(target, "__module__", ""))
        if (home == "rabbet" or home.startswith("rabbet.")) and inspect.getdoc(value):
            yield name, value


def signature(value: Any) -> str:
    """`(x, axis=None)`, or nothing where there is none."""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in found.parameters.values()]
    shown = str(found.replace(parameters=plain, return_annotation=inspect.Signature.empty))
    return re.sub(r"<(?:function|class|object) ?'?([\w.]+).*?>", r"\1", shown)


def described(doc: str) -> str:
    """A docstring as Markdown: examples become blocks of code."""
    lines, out, inside = textwrap.dedent(doc).strip().split("\n"), [], False
    for line in lines:
        if line.lstrip().startswith(">>> ") and not inside:
            out += ["```pycon"]
            inside = True
        elif inside and not line.strip():
            out += ["```"]
            inside = False
        out.append(line.strip() if inside and line.lstrip().startswith((">>>", "...")) else line)
    return "\n".join([*out, "```"] if inside else out)


def entry(name: str, value: Any, level: str) -> str:
    """One function, class or method."""
    shown = "" if isinstance(value, property) else signature(value)
    return f"{level} `{name}{shown}`\n\n{described(inspect.getdoc(value) or '')}\n"


def page(namespace: str, title: str) -> str:
    """The page of a namespace; Tensor has its own."""
    parts = [f"# {namespace}\n\n{title}.\n"]
    for name, value in public(namespace).items():
        parts.append(entry(name, value, "##"))
        if inspect.isclass(value) and value is not rb.Tensor:
            own = [(n, m) for n, m in methods(value) if n in vars(value)]
            parts += [entry(f"{name}.{n}", m, "###") for n, m in own]
    return "\n".join(parts)


def tensor_page() -> str:
    """Every method of a Tensor."""
    head = f"# Tensor\n\n{described(inspect.getdoc(rb.Tensor) or '')}\n"
    return "\n".join([head, *(entry(n, m, "##") for n, m in methods(rb.Tensor))])


def write(folder: Path, say: Callable[[str], Any] = print) -> None:
    """All pages and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    index = ["# API reference\n", "- [Tensor](tensor.md): its methods"]
    (folder / "tensor.md").write_text(tensor_page())
    for namespace, title in NAMESPACES.items():
        file = f"{namespace}.md"
        try:
            text = page(namespace, title)
        except ImportError as error:  # an optional package is not there
            say(f"{namespace} is left out: {error}")
            continue
        (folder / file).write_text(text)
        index.append(f"- [{namespace}]({file}): {title}")
    (folder / "README.md").write_text("\n".join(index) + "\n")
    say(f"{folder}: {len(index)} pages")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "api")
