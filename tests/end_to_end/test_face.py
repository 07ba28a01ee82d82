"""What a user types first, as it is documented: in Python, on the command line, in C, over HTTP."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rabbet as rb

ROOT = Path(__file__).resolve().parent.parent.parent

TEN_LINES = """
import rabbet as rb
from rabbet import nn
from rabbet.data import digits                     # 1797 real handwritten digits, bundled: works offline

train, test = digits(split=0.2, seed=0)
model = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
                      nn.Flatten(), nn.Dropout(0.2), nn.Linear(16 * 4 * 4, 10))
trainer = rb.Trainer(model, loss=nn.CrossEntropyLoss(), optimizer=rb.optim.AdamW(model.parameters(), lr=3e-3),
                     metrics=["accuracy"])
history = trainer.fit(train, epochs=15, batch_size=64, validation_data=test)   # live bar
print(trainer.evaluate(test))                                      # {'loss': 0.05..., 'accuracy': 0.98...}
"""  # noqa: E501

OWN_LOOP = """
loader = rb.data.DataLoader(train, batch_size=64, shuffle=True, seed=0)
opt = rb.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for x, y in loader:
    loss = nn.functional.cross_entropy(model(x), y)
    if loss > 10:                  # Python control flow on a value: fine, here and under @rb.jit
        print("skipping an outlier", loss)
        continue
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

JITTED = """
@rb.jit
def step(x, y):
    loss = nn.functional.cross_entropy(model(x), y)
    opt.zero_grad(); loss.backward(); opt.step()
    return loss
"""

OUT_OF_PYTHON = """
rb.export(model, (rb.zeros((1, 1, 8, 8)),), "digits.rbt", dynamic={"x": {0: "batch"}})
program = rb.load_program("digits.rbt");  program(x)
"""

WRONG_SHAPE = """
import rabbet as rb
from rabbet import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(784, 10)

    def forward(self, x):
        x = x / 16.0
        # No flatten here.
        h = self.fc(x)
        return nn.functional.relu(h)


Net()(rb.zeros((32, 28, 28)))
""".lstrip()

IN_C = """
#include <stdio.h>
#include "digits.h"

int main(int argc, char **argv) {
    static float image[64];
    FILE *file = fopen(argv[argc - 1], "rb");
    if (!file || fread(image, sizeof image, 1, file) != 1) return 1;
    fclose(file);
digits_model *m = digits_open();                       /* weights are inside */
float logits[10];
digits_status s = digits_predict(m, /*batch*/ 1, image, logits);
if (s != DIGITS_OK) fprintf(stderr, "%s\\n", digits_message(s));
digits_close(m);
    return fwrite(logits, sizeof logits, 1, stdout) != 1;
}
"""

DISTRIBUTED = """
rb.distributed.init(); model = rb.distributed.data_parallel(model)
opt = rb.optim.SGD(model.parameters(), lr=0.1)
"""


SAME_WEIGHTS = """
for p in model.parameters():
    assert (rb.distributed.broadcast(p.detach()) == p).all().item()
print("same weights")
"""


def run_snippet(text: str, names: dict[str, Any], file: str = "snippet.py") -> None:
    exec(compile(text, file, "exec"), names)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What a session of Python knows after the ten lines (with 3 epochs)."""
    names: dict[str, Any] = {}
    rb.manual_seed(0)
    run_snippet(TEN_LINES.replace("epochs=15", "epochs=3"), names)
    return names


@pytest.fixture
def session(names: dict[str, Any]) -> dict[str, Any]:
    """The same for one test: its model may be trained, the next test finds it as it was."""
    state = {name: t.numpy().copy() for name, t in names["model"].state_dict().items()}
    made: dict[str, Any] = {}
    run_snippet(TEN_LINES.partition("trainer =")[0], made)
    made["model"].load_state_dict({name: rb.asarray(a) for name, a in state.items()})
    return made


# ---- in Python -----------------------------------------------------------------------------------


def test_ten_lines(names: dict[str, Any]) -> None:
    history = names["history"].history
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(history)
    assert all(len(values) == 3 for values in history.values())
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    found = names["trainer"].evaluate(names["test"], verbose=0)
    assert set(found) == {"loss", "accuracy"} and found["accuracy"] > 0.8


@pytest.mark.slow
def test_ten_lines_as_written(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    rb.manual_seed(0)
    run_snippet(TEN_LINES, names)
    assert names["history"].history["val_accuracy"][-1] > 0.96
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith("{'loss': ") and "'accuracy': 0.9" in last


def test_a_loop_of_ones_own(session: dict[str, Any]) -> None:
    run_snippet(OWN_LOOP, session)
    assert session["loss"].item() < 0.6
    assert session["model"][0].weight.grad is not None


def test_a_value_decides(session: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    run_snippet(OWN_LOOP.replace("loss > 10", "loss > 1e-9"), session)
    assert capsys.readouterr().out.count("skipping an outlier tensor(") == len(session["loader"])
    assert session["model"][0].weight.grad is None


def test_a_jitted_step_gives_the_same_bits(session: dict[str, Any]) -> None:
    model, start = session["model"], session["model"].state_dict()
    first = {name: t.numpy().copy() for name, t in start.items()}
    rb.manual_seed(1)
    run_snippet(OWN_LOOP.replace("    if loss > 10", "    if False and loss > 10"), session)
    by_hand = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    model.load_state_dict({name: rb.asarray(a) for name, a in first.items()})
    rb.manual_seed(1)
    run_snippet(OWN_LOOP.partition("for x, y")[0] + JITTED, session)
    for x, y in session["loader"]:
        loss = session["step"](x, y)
    assert np.array_equal(loss.numpy(), session["loss"].numpy())
    assert session["step"].why == "" and session["step"].stats["replayed"] > 10
    for name, t in model.state_dict().items():
        assert np.array_equal(t.numpy(), by_hand[name]), name


def test_a_value_decides_under_jit() -> None:
    run = 0

    @rb.jit
    def step(x: rb.Tensor) -> rb.Tensor:
        nonlocal run
        run += 1
        if x.sum() > 10:
            return x * 0
        return x + 1

    for start in (1.0, 2.0, 30.0, 3.0, 40.0, 4.0):
        wanted = 0.0 if start > 5 else start + 1
        assert step(rb.full((2,), start)).numpy().tolist() == [wanted, wanted]
    assert run == 2  # once for each outcome


def test_explain_names_ops_kernels_and_lines(session: dict[str, Any]) -> None:
    run_snippet(OWN_LOOP.replace("loss > 10", "False"), session)  # the step is one segment
    report = rb.explain()
    text = str(report)
    assert text.startswith("last segment") and " kernels, " in text and "arena " in text
    assert "conv2d" in report.recorded_ops and len(report.kernels) < len(report.recorded_ops)
    assert {k.line.partition(":")[0] for k in report.kernels} == {"snippet.py"}


# ---- when something is wrong ---------------------------------------------------------------------


def test_a_wrong_shape_is_told_with_line_and_hint(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(WRONG_SHAPE)
    done = run_python("train.py", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.partition("ShapeError: ")[2] == (
        "linear: input (32, 28, 28) @ weight.T (784, 10): inner sizes 28 and 784 differ\n"
        "  at train.py:13 in forward: h = self.fc(x)\n"
        "  hint: flatten the last two axes first, e.g. x.reshape((32, 784))\n"
    )


def test_an_operators_line_is_told_once() -> None:
    with pytest.raises(rb.ShapeError) as caught:
        rb.zeros((2, 3)) + rb.zeros((4,))
    said, at, where = str(caught.value).partition("\n  at ")
    assert "(2, 3)" in said and "(4,)" in said and "\n" not in where and at
    assert "test_face.py:" in where and where.endswith("rb.zeros((2, 3)) + rb.zeros((4,))")


# ---- out of Python -------------------------------------------------------------------------------


def run_python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "100"},
    )


def rabbet(*arguments: str, cwd: Path) -> str:
    done = run_python("-m", "rabbet", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def exported(names: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with digits.rbt, x.npy, and wanted.npy: what the model says to x."""
    folder = tmp_path_factory.mktemp("exported")
    x = names["test"].arrays[0][:5]
    np.save(folder / "x.npy", x)
    scope = {"rb": rb, "model": names["model"], "x": rb.asarray(x)}
    back = Path.cwd()
    os.chdir(folder)
    try:
        run_snippet(OUT_OF_PYTHON, scope)
    finally:
        os.chdir(back)
    with rb.no_grad():
        wanted = names["model"].eval()(scope["x"]).numpy()
    assert np.array_equal(scope["program"](scope["x"]).numpy(), wanted)
    np.save(folder / "wanted.npy", wanted)
    return folder


def test_inspect(exported: Path) -> None:
    shown = rabbet("inspect", "digits.rbt", cwd=exported)
    for text in ("float32(batch, 1, 8, 8)", "float32(batch, 10)", "2,762", "conv2d", "FLOP"):
        assert text in shown


def test_run(exported: Path) -> None:
    rabbet("run", "digits.rbt", "--input", "x.npy", "--output", "y.npy", cwd=exported)
    assert np.array_equal(np.load(exported / "y.npy"), np.load(exported / "wanted.npy"))


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    done = run_python("-m", "rabbet", "inspect", "none.rbt", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["rabbet: none.rbt: No such file or directory"]


@pytest.mark.usefixtures("c_compiler")
def test_build_and_the_program_in_c(exported: Path) -> None:
    shown = rabbet("build", "digits.rbt", "--target", "native", "-o", "out/", cwd=exported)
    for name in ("libdigits.so", "digits.h", "example.c"):
        assert f"out/{name}" in shown and (exported / "out" / name).is_file()
    compiled = "cc {} -Lout -ldigits -Wl,-rpath,'$ORIGIN/out' -o classify && ./classify"
    command = compiled.format("out/example.c")
    done = subprocess.run(
        command, shell=True, cwd=exported, check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith("output: ") and len(done.stdout.split()) == 11
    (exported / "own.c").write_text(IN_C)
    np.load(exported / "x.npy")[:1].tofile(exported / "image.f32")
    own = compiled.format("-Wall -Wextra -Werror -Iout own.c") + " image.f32"
    raw = subprocess.run(own, shell=True, cwd=exported, check=True, capture_output=True).stdout
    assert raw == np.load(exported / "wanted.npy")[0].tobytes()
    needed = subprocess.run(
        ["ldd", "out/libdigits.so"], cwd=exported, check=True, capture_output=True, text=True
    ).stdout
    assert "libc." in needed and "python" not in needed and "stdc++" not in needed


def test_serve(exported: Path) -> None:
    pytest.importorskip("uvicorn", reason='needs uvicorn: pip install "rabbet[serve]"')
    version = exported / "models" / "digits" / "1"
    version.mkdir(parents=True)
    shutil.copy(exported / "digits.rbt", version)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "rabbet", "serve", "models/", "--port", "0"],
        cwd=exported,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        assert server.stdout is not None
        first = server.stdout.readline().split()
        assert first[:4] == ["digits", "version", "1", "ready"]
        address = next(word for line in server.stdout for word in line.split() if "://" in word)
        x = np.load(exported / "x.npy")[:1]
        tensor = {
            "name": "x",
            "shape": [1, 1, 8, 8],
            "datatype": "FP32",
            "data": x.ravel().tolist(),
        }
        request = urllib.request.Request(
            f"{address}/v2/models/digits/infer", json.dumps({"inputs": [tensor]}).encode()
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            output = json.load(answer)["outputs"][0]
        assert output["shape"] == [1, 10]
        wanted = np.load(exported / "wanted.npy")[0]
        assert np.array_equal(np.array(output["data"], np.float32), wanted)
    finally:
        server.terminate()
        server.communicate(timeout=30)


# ---- more machines -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.distributed
def test_the_same_script_on_four_processes(tmp_path: Path) -> None:
    beside = Path(sys.executable).parent / "mpiexec"
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if mpiexec is None:
        pytest.skip('needs mpiexec: pip install "rabbet[distributed]"')
    # Every rank starts elsewhere and sees the samples in another order; the weights stay one.
    start = "import rabbet as rb\nrb.distributed.init(); rb.manual_seed(rb.distributed.rank())\n"
    loop = OWN_LOOP.replace("opt = rb.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)\n", "")
    loop = loop.replace("seed=0", "seed=rb.distributed.rank()")
    (tmp_path / "train.py").write_text(
        start + TEN_LINES.partition("trainer =")[0] + DISTRIBUTED + loop + SAME_WEIGHTS
    )
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [mpiexec, "-n", "4", sys.executable, "train.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": path, "RABBET_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("same weights") == 4
