"""A model as a C library: the same bits as in Python, from C, in threads, beside another."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn
from rabbet.base.errors import BuildError, FormatError
from rabbet.export import build, export, load_program

pytestmark = pytest.mark.usefixtures("c_compiler")
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wpedantic"]


def make_model(seed: int) -> Any:
    rb.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    ).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models built side by side: digits and other."""
    home: Path = tmp_path_factory.mktemp("native")
    for seed, name in enumerate(("digits", "other")):
        path = home / f"{name}.rbt"
        export(make_model(seed), rb.zeros((1, 1, 8, 8)), path, {"x": {0: "batch"}})
        assert build(path, output=home / name) == home / name
    return home


class Library:
    """A built library with one float input and output, called through ctypes."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.c = ctypes.CDLL(str(folder / name / f"lib{name}.so"))
        self.function("open").restype = ctypes.c_void_p
        self.function("message").restype = ctypes.c_char_p
        self.model = ctypes.c_void_p(self.function("open")())
        assert self.model.value

    def function(self, name: str) -> Any:
        return getattr(self.c, f"{self.name}_{name}")

    def predict(self, x: np.ndarray, columns: int = 10) -> np.ndarray:
        y = np.full((len(x), columns), np.nan, np.float32)
        status = self.function("predict")(
            self.model, ctypes.c_int64(len(x)), pointer(x), pointer(y)
        )
        assert status == 0, self.function("message")(status)
        return y

    def close(self) -> None:
        self.function("close")(self.model)


def pointer(array: np.ndarray) -> Any:
    return array.ctypes.data_as(ctypes.c_void_p)


@pytest.fixture
def digits(folder: Path) -> Iterator[Library]:
    library = Library(folder, "digits")
    yield library
    library.close()


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 1, 8, 8), np.float32)


def test_every_batch_has_the_same_bits(digits: Library, folder: Path) -> None:
    program = load_program(folder / "digits.rbt")
    for count in (0, 1, 2, 7, 64, 500):
        x = images(count)
        assert digits.predict(x).tobytes() == program(x).numpy().tobytes()


def test_a_program_in_c(folder: Path, tmp_path: Path) -> None:
    """The example as written compiles without a warning, runs, and prints what Python gets."""
    home = folder / "digits"
    link = [f"-I{home}", f"-L{home}", "-ldigits", f"-Wl,-rpath,{home}"]
    binary = tmp_path / "example"
    command = ["cc", *STRICT, str(home / "example.c"), *link, "-o", str(binary)]
    subprocess.run(command, check=True)
    x = images(1)
    (tmp_path / "x.bin").write_bytes(x.tobytes())
    done = subprocess.run([binary, tmp_path / "x.bin"], capture_output=True, text=True, check=True)
    name, *numbers = done.stdout.split()
    found = np.array([float(n) for n in numbers], np.float32)
    assert name == "output:"
    assert found.tobytes() == load_program(folder / "digits.rbt")(x).numpy().tobytes()
    wrong = subprocess.run([binary, "none"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1 and "256 bytes are needed" in wrong.stderr


def test_the_header_is_c_and_cpp(folder: Path, tmp_path: Path) -> None:
    for suffix, standard in ((".c", "-std=c99"), (".cpp", "-std=c++17")):
        source = tmp_path / f"use{suffix}"
        source.write_text('#include "digits.h"\nint main(void) { return digits_check(); }\n')
        flags = [standard, "-Wall", "-Wextra", "-Werror", f"-I{folder / 'digits'}"]
        subprocess.run(["cc", *flags, "-c", str(source), "-o", str(tmp_path / "o")], check=True)


def test_the_sources_have_no_warnings(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("CC", " ".join(["cc", "-Wall", "-Wextra", "-Werror"]))
    build(folder / "digits.rbt", output=tmp_path)


def test_only_its_own_functions_are_visible(folder: Path) -> None:
    if shutil.which("nm") is None:
        pytest.skip("there is no nm")
    command = ["nm", "-D", "--defined-only", str(folder / "digits" / "libdigits.so")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    names = [line.split()[-1] for line in done.stdout.splitlines()]
    assert names and all(n.startswith("digits_") for n in names)
    done = subprocess.run(
        [*command[:2], "-u", command[-1]], capture_output=True, text=True, check=True
    )
    assert not [n for n in done.stdout.split() if n.startswith(("Py", "LLVM", "rb_"))]


def test_two_libraries_in_one_process(folder: Path) -> None:
    libraries = [Library(folder, name) for name in ("digits", "other")]
    x = images(9)
    for library in libraries * 2:
        wanted = load_program(folder / f"{library.name}.rbt")(x).numpy()
        assert library.predict(x).tobytes() == wanted.tobytes()
    results = [library.predict(x).tobytes() for library in libraries]
    assert results[0] != results[1]
    for library in libraries:
        library.close()


def test_many_threads(digits: Library) -> None:
    batches = [images(i % 40, i) for i in range(60)]
    alone = [digits.predict(x).tobytes() for x in batches]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda x: digits.predict(x).tobytes(), batches)) == alone


def test_open_close_unload(folder: Path) -> None:
    """Threads end with the last model, so the library can be unloaded and loaded again."""
    code = f"""
import ctypes, _ctypes, os, numpy as np
for _ in range(3):
    c = ctypes.CDLL({str(folder / "digits" / "libdigits.so")!r})
    c.digits_open.restype = ctypes.c_void_p
    models = [ctypes.c_void_p(c.digits_open()) for _ in range(2)]
    x, y = np.ones((300, 1, 8, 8), np.float32), np.zeros((300, 10), np.float32)
    for m in models:
        p = lambda a: a.ctypes.data_as(ctypes.c_void_p)
        assert c.digits_predict(m, ctypes.c_int64(300), p(x), p(y)) == 0 and y.any()
        c.digits_close(m)
    c.digits_close(None)
    _ctypes.dlclose(c._handle)
print(len(os.listdir("/proc/self/task")))
"""
    environment = {**os.environ, "RABBET_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        ["python", "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1\n"


def test_wrong_calls_have_a_status(digits: Library) -> None:
    predict, message = digits.function("predict"), digits.function("message")
    x, y = images(1), np.zeros((1, 10), np.float32)
    assert predict(digits.model, ctypes.c_int64(-1), pointer(x), pointer(y)) == 2
    assert predict(digits.model, ctypes.c_int64(1 << 62), pointer(x), pointer(y)) == 2
    assert predict(digits.model, ctypes.c_int64(1), None, pointer(y)) == 1
    assert predict(digits.model, ctypes.c_int64(1), pointer(x), None) == 1
    assert predict(None, ctypes.c_int64(1), pointer(x), pointer(y)) == 1
    texts = {message(i) for i in range(7)}
    assert len(texts) == 7 and message(99) == message(-1) == b"unknown status"


def test_it_describes_itself(digits: Library) -> None:
    f = digits.function
    f("input_name").restype = f("output_name").restype = f("size_name").restype = ctypes.c_char_p
    assert (f("input_count")(), f("output_count")(), f("size_count")()) == (1, 1, 1)
    assert (f("input_name")(0), f("output_name")(0), f("size_name")(0)) == (
        b"x",
        b"output",
        b"batch",
    )
    assert f("input_name")(1) is None and f("size_name")(-1) is None
    assert (f("input_rank")(0), f("output_rank")(0), f("output_rank")(7)) == (4, 2, 0)
    assert f("input_dtype")(0) == 1  # DIGITS_FLOAT32
    shape = (ctypes.c_int64 * 4)()
    assert f("input_shape")(0, ctypes.c_int64(5), shape) == 0 and list(shape) == [5, 1, 8, 8]
    assert f("output_shape")(0, ctypes.c_int64(5), shape) == 0 and list(shape)[:2] == [5, 10]
    assert f("output_shape")(1, ctypes.c_int64(5), shape) == 1
    assert f("output_shape")(0, ctypes.c_int64(-5), shape) == 2


def test_sizes_guards_and_indices(tmp_path: Path) -> None:
    """Two sizes, several plans, a size the model is not for, an index out of range, two outputs."""

    def pick(table: Any, ids: Any) -> Any:
        y = rb.take(table, ids, 0)[:, 1:]
        return y, y.sum(1)

    dynamic = {"table": {0: "rows", 1: "columns"}, "ids": {0: "n"}}
    example = (rb.zeros((5, 4)), rb.zeros(3, dtype=rb.int64))
    path = export(pick, example, tmp_path / "pick.rbt", dynamic)
    build(path, output=tmp_path)
    c = ctypes.CDLL(str(tmp_path / "libpick.so"))
    c.pick_open.restype = ctypes.c_void_p
    model = ctypes.c_void_p(c.pick_open())
    program = load_program(path)

    def call(table: np.ndarray, ids: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
        y = np.zeros((len(ids), max(table.shape[1] - 1, 0)), np.float32)
        z = np.zeros(len(ids), np.float32)
        sizes = [ctypes.c_int64(s) for s in (*table.shape, len(ids))]
        status = c.pick_predict(model, *sizes, *map(pointer, (table, ids, y, z)))
        return status, y, z

    for rows, columns, n in ((5, 4, 3), (1, 2, 1), (9, 100, 7), (3, 33, 1), (2, 2, 0)):
        table = np.random.default_rng(0).random((rows, columns), np.float32)
        ids = np.arange(n, dtype=np.int64) % rows
        status, y, z = call(table, ids)
        assert status == 0
        wanted = program(table, ids)
        assert y.tobytes() == wanted[0].numpy().tobytes()
        assert z.tobytes() == wanted[1].numpy().tobytes()
    assert call(np.zeros((5, 4), np.float32), np.array([0, 5]))[0] == 3
    assert call(np.zeros((5, 0), np.float32), np.array([0]))[0] == 2
    c.pick_close(model)


def test_names_from_a_file_stay_names(tmp_path: Path) -> None:
    """Names are data: none of them can end a comment or a string, or be a C keyword."""
    names = ["x*/ int evil(void){return 1;} /*", 'q"\\n"; x', "for", "m", "é", "a b", "a_b", "1"]

    def total(arguments: Any) -> Any:
        return {n: v * 2.0 for n, v in arguments.items()}

    path = export(total, ({n: rb.zeros(3) for n in names},), tmp_path / "int.rbt")
    build(path, output=tmp_path)
    c = ctypes.CDLL(str(tmp_path / "lib_int.so"))
    c._int_input_name.restype = ctypes.c_char_p
    given = [c._int_input_name(i).decode() for i in range(len(names))]
    assert given == [f"arguments.{n}" for n in names]
    assert not hasattr(c, "evil")
    use = tmp_path / "use.c"
    use.write_text('#include "_int.h"\nint main(void) { return _int_check(); }\n')
    subprocess.run(
        ["cc", *STRICT, f"-I{tmp_path}", "-c", str(use), "-o", str(use) + ".o"], check=True
    )


@pytest.mark.parametrize("cpu", ["x86_baseline", "x86_v3"])
def test_other_cpus(cpu: str, folder: Path, tmp_path: Path) -> None:
    build(folder / "digits.rbt", output=tmp_path / "digits", cpu=cpu)
    library = Library(tmp_path, "digits")
    x = images(3)
    wanted = load_program(folder / "digits.rbt")(x).numpy()
    assert np.allclose(library.predict(x), wanted, atol=1e-5)
    library.close()


# ---- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"target": "wasm32"}, BuildError, "no target 'wasm32' yet"),
        ({"cpu": "abacus"}, BuildError, "no target 'abacus'"),
        ({"entry": "train"}, BuildError, "no entry 'train'; there are forward"),
    ],
)
def test_wrong_arguments(
    arguments: dict[str, str], error: type, message: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        build(folder / "digits.rbt", output=tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


def break_compiler(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("CC", "false")


def hide_compiler(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize(
    ("trouble", "message"),
    [(break_compiler, "false failed"), (hide_compiler, "install gcc or clang")],
)
def test_a_failed_build_leaves_nothing(
    trouble: Callable[..., None],
    message: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trouble(monkeypatch, tmp_path)
    with pytest.raises(BuildError, match=message):
        build(folder / "digits.rbt", output=tmp_path)
    assert not list(tmp_path.iterdir())


def test_damaged_weights_are_not_built(folder: Path, tmp_path: Path) -> None:
    data = bytearray((folder / "digits.rbt").read_bytes())
    data[-1] ^= 1
    (tmp_path / "digits.rbt").write_bytes(data)
    with pytest.raises(FormatError, match="weights are damaged"):
        build(tmp_path / "digits.rbt", output=tmp_path / "out")


def test_a_library_holds_its_weights_once_and_in_panels(tmp_path: Path) -> None:
    rb.manual_seed(2)
    half = nn.Linear(96, 160).to("bfloat16")
    model = nn.Sequential(nn.Linear(200, 96), nn.GELU(), _In(half), nn.Linear(160, 10)).eval()
    path = export(model, rb.zeros((1, 200)), tmp_path / "net.rbt", {"x": {0: "n"}})
    build(path, output=tmp_path / "net")
    library, program = Library(tmp_path, "net"), load_program(path)
    for rows in (1, 4, 9, 200):
        x = np.random.default_rng(rows).standard_normal((rows, 200), np.float32)
        np.testing.assert_array_equal(library.predict(x), np.asarray(program(x)))
    library.close()
    data = (tmp_path / "net" / "libnet.so").read_bytes()
    assert model[0].bias.numpy().tobytes() in data
    assert model[0].weight.numpy().tobytes() not in data  # in panels alone


class _In(nn.Module):
    """A layer of bfloat16 between layers of float32."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        return self.layer(x.astype("bfloat16")).astype("float32")
