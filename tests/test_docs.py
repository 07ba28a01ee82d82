"""What is written is true: README, examples in docstrings, links, the map of the house."""

import doctest
import importlib
import linecache
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import cli, nn, optim
from rabbet.base.config import Config
from rabbet.data import DataLoader, digits
from rabbet.graph.value import registry

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    p for folder in (ROOT, ROOT / "docs") for p in folder.glob("*.md") if p.name[0].isupper()
) + sorted((ROOT / "docs").glob("*.md"))
README = (ROOT / "README.md").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NEEDS_EXTRA = {"mpi4py": "distributed", "uvicorn": "serve", "matplotlib": "plot"}


def fenced(text: str, language: str) -> list[str]:
    """The blocks between ``` fences of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


# ---- README --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def after_readme(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and the names after README's Python, run from the top with 2 epochs."""
    folder = tmp_path_factory.mktemp("readme")
    blocks = fenced(README, "python")
    text = "\n".join(blocks)
    assert len(blocks) >= 3 and text.count("epochs=15") == 1
    names: dict[str, Any] = {}
    back = Path.cwd()
    os.chdir(folder)
    try:
        for block in blocks:
            exec(compile(block.replace("epochs=15", "epochs=2"), "README.md", "exec"), names)
    finally:
        os.chdir(back)
    return folder, names


def test_readme_python_runs(after_readme: tuple[Path, dict[str, Any]]) -> None:
    folder, names = after_readme
    assert len(names["history"].history["loss"]) == 2
    assert names["loss"].item() < 2
    assert (folder / "digits.rbt").is_file()


@pytest.mark.usefixtures("c_compiler")
def test_readme_commands_run(after_readme: tuple[Path, dict[str, Any]]) -> None:
    folder, names = after_readme
    np.save(folder / "x.npy", names["test"].arrays[0][:3])
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    commands = [shlex.split(c, comments=True) for c in re.findall(r"^rabbet .*$", README, re.M)]
    assert {c[1] for c in commands} == {"inspect", "run", "build", "serve"}
    for command in commands:
        # A server runs until it is stopped; tests/end_to_end/test_face.py asks one.
        arguments = ["serve", "--help"] if command[1] == "serve" else command[1:]
        done = subprocess.run(
            [sys.executable, "-m", "rabbet", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert done.returncode == 0, (command, done.stderr)
    assert np.load(folder / "y.npy").shape == (3, 10)
    assert (folder / "out" / "libdigits.so").is_file()


def test_readme_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        for name in re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", page.read_text(), re.M):
            assert "".join(name) in targets, (page.name, name)


def test_readme_extras_exist() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    named = {e for page in PAGES for e in re.findall(r"\.\[([a-z]+)\]", page.read_text())}
    assert named and named <= set(extras)


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            if not link.startswith(("http", "#")):
                assert (page.parent / link.partition("#")[0]).exists(), (page.name, link)


def test_the_index_of_documents_leaves_none_out() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = {p.name for p in (ROOT / "docs").glob("*.md")} - {"README.md"}
    examples = {f"../examples/{p.name}" for p in (ROOT / "examples").glob("*.py")}
    linked = set(re.findall(r"\]\(([^)]+)\)", index))
    assert pages | examples <= linked, sorted((pages | examples) - linked)


def test_the_picture_is_small() -> None:
    data = (ROOT / "docs" / "digits.png").read_bytes()
    assert data[:4] == b"\x89PNG" and 10_000 < len(data) < 150 * 1024


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_python_in_docs_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for number, block in enumerate(fenced(page.read_text(), "python")):
        name = f"<{page.name}, block {number}>"  # with its source at hand, as in a notebook
        linecache.cache[name] = (len(block), None, block.splitlines(keepends=True), name)
        exec(compile(block, name, "exec"), names)


# ---- examples in docstrings ----------------------------------------------------------------------


def modules_with_examples() -> list[str]:
    files = [p for p in (ROOT / "rabbet").rglob("*.py") if ">>> " in p.read_text()]
    names = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in sorted(files)]
    return [name.removesuffix(".__init__") for name in names]


def load(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        extra = NEEDS_EXTRA.get(error.name or "")
        if extra is None:
            raise
        pytest.skip(f'needs {error.name}: pip install "rabbet[{extra}]"')


def names_at_hand(folder: Path) -> dict[str, Any]:
    """What an example may use without saying where it came from."""
    model = nn.Sequential(nn.Linear(64, 10))
    images = rb.zeros((32, 1, 8, 8))
    x, y = rb.ones((8, 64)), rb.ones((8, 10))
    train, _ = digits(split=0.2, seed=0)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    rb.export(flat, (images,), folder / "digits.rbt", dynamic={"x": {0: "batch"}})
    served = folder / "models" / "digits" / "1"
    served.mkdir(parents=True)
    shutil.copy(folder / "digits.rbt", served)
    rb.save({"model": model.state_dict()}, folder / "last.safetensors")
    trainer = rb.Trainer(model, loss=nn.MSELoss(), optimizer=optim.SGD(model.parameters(), lr=0.1))
    plain = {"rb": rb, "nn": nn, "optim": optim, "np": np, "Path": Path, "DataLoader": DataLoader}
    made = {"model": model, "images": images, "x": x, "y": y, "train": train, "trainer": trainer}
    return plain | made


def run_examples(found: list[doctest.DocTest]) -> list[str]:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    said: list[str] = []
    for test in found:
        doctest.DocTestRunner(optionflags=flags, verbose=False).run(test, out=said.append)
    return said


@pytest.fixture
def at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    return names_at_hand(tmp_path)


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_run(name: str, at_hand: dict[str, Any], request: pytest.FixtureRequest) -> None:
    if name == "rabbet.export.native":
        request.getfixturevalue("c_compiler")
    module = load(name)
    found = [t for t in doctest.DocTestFinder(exclude_empty=True).find(module) if t.examples]
    for test in found:
        test.globs = {**vars(module), **at_hand}
    said = run_examples(found)
    assert not said, "\n".join(said)


def test_examples_of_ops_run(at_hand: dict[str, Any]) -> None:
    found = [
        doctest.DocTestParser().get_doctest(op.doc, dict(at_hand), op.name, op.name, 0)
        for op in registry.values()
        if ">>>" in op.doc
    ]
    assert len(found) > 100
    said = run_examples(found)
    assert not said, "\n".join(said)


def test_every_public_name_is_documented() -> None:
    for name in dir(rb):
        value = getattr(rb, name)
        if not name.startswith("_") and callable(value):
            assert (value.__doc__ or "").strip(), name


# ---- CONTRIBUTING --------------------------------------------------------------------------------

TRY_THE_OP = """
import importlib.util
import sys

import rabbet as rb
from rabbet.tensor.lift import functions, install_all

spec = importlib.util.spec_from_file_location("rabbet.ops.soft_shrink", "soft_shrink.py")
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
install_all()  # as an import of rabbet does, for every file of rabbet/ops
shrink = functions["shrink"]

x = rb.tensor([-2.0, 0.25, 3.0], requires_grad=True)
y = x.shrink(1.0)
assert y.tolist() == shrink(x, 1.0).tolist() == [-1.0, 0.0, 2.0]
y.sum().backward()
assert x.grad.tolist() == [1.0, 0.0, 1.0]
rb.export(lambda x: shrink(x, 1.0), (rb.zeros(3),), "shrink.rbt")
program = rb.load_program("shrink.rbt")
assert program(x.detach()).tolist() == [-1.0, 0.0, 2.0]
"""


def test_an_op_is_one_file(tmp_path: Path) -> None:
    [block] = fenced((ROOT / "CONTRIBUTING.md").read_text(), "python")
    (tmp_path / "soft_shrink.py").write_text(block)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", TRY_THE_OP],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr


# ---- the map of the house ------------------------------------------------------------------------

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def test_the_map_names_what_exists() -> None:
    named = re.findall(r"`([a-z_/]+/[a-z_]*(?:\.[a-z]+)?)`", ARCHITECTURE)
    assert len(named) > 15
    for path in named:
        places = (ROOT / path, ROOT / "rabbet" / path)
        assert any(p.exists() for p in places), path
    for module in re.findall(r"rabbet\.([a-z]+)\.([a-z]+)", ARCHITECTURE):
        path = ROOT / "rabbet" / module[0]
        assert (path / f"{module[1]}.py").exists() or (path / module[1]).is_dir(), module


LAYERS: list[list[str]] = PYPROJECT["tool"]["rabbet"]["layers"]


def test_the_layers_are_those_of_pyproject() -> None:
    found = re.search(r"in `pyproject.toml`:\n(.*?)\.\n", ARCHITECTURE, re.DOTALL)
    assert found is not None
    # `a, b, c/d`: one folder or several for each layer.
    listed = [set(re.findall(r"[a-z_]+", layer)) for layer in found[1].split(",")]
    assert listed == [set(row) for row in LAYERS]


def test_contributing_lists_the_layers_in_order() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("reads every file:")[2]
    listed = [
        name
        for entry in text.partition("\n\n")[2].partition("\n\n")[0].split("·")
        for name in re.findall(r"`([a-z]+)`", entry)
    ]
    assert listed == [name for row in LAYERS for name in row]


def test_what_is_called_by_number_is_listed() -> None:
    listed = re.findall(r"^(\d+)\. ", (ROOT / "docs" / "semantics.md").read_text(), re.M)
    assert listed == [str(n) for n in range(1, len(listed) + 1)]
    sources = [p for folder in ("rabbet", "tests") for p in (ROOT / folder).rglob("*.py")]
    pattern = r"SEMANTICS (\d+)|def test_s0*(\d+)_"
    called = ["".join(n) for p in sources for n in re.findall(pattern, p.read_text())]
    assert called and set(called) <= set(listed)


def test_every_switch_is_documented() -> None:
    page = (ROOT / "docs" / "README.md").read_text()
    switches = re.findall(r"RABBET_[A-Z_]+", Config.__doc__ or "")
    assert switches and set(switches) == set(re.findall(r"^\| `(RABBET_[A-Z_]+)", page, re.M))


# ---- the command line ----------------------------------------------------------------------------


def test_every_command_has_help() -> None:
    for command in cli.commands.app.registered_commands:
        assert command.callback is not None and (command.callback.__doc__ or "").strip()


def test_the_version_is_one() -> None:
    version = PYPROJECT["project"]["version"]
    assert rb.__version__ == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
