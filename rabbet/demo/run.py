"""The stages of the demo, one function each, and the closing table."""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from rabbet.base.errors import MissingExtra, RabbetError
from rabbet.base.optional import require
from rabbet.data.files import save
from rabbet.demo.model import train_model
from rabbet.demo.picture import draw
from rabbet.export import build, export, load_program
from rabbet.tensor import asarray, no_grad, zeros

READY_SECONDS = 30.0


class Unavailable(RabbetError):
    """This machine lacks what a stage needs."""


@dataclass
class Results:
    """What the stages found, for the closing table."""

    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    latency: dict[str, float] = field(default_factory=dict)  # microseconds for one image
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    accuracy: float = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        begin = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begin


def main(folder: str | Path = "demo", *, seed: int = 0, quiet: bool = False) -> Results:
    """Run every stage, write the files into `folder`, print the closing table.

    Raises RabbetError where Python, C and HTTP do not agree on every label.
    """
    console = Console(quiet=quiet)
    results = Results(Path(folder).resolve())
    results.folder.mkdir(parents=True, exist_ok=True)
    console.rule("[bold]Rabbet: handwritten digits, from training to C and HTTP")
    with results.stage("train"):
        model, history, test = train_model(seed, verbose=0 if quiet else 1)
    images, truth = test.arrays
    with results.stage("save weights"):
        weights = results.folder / "digits.safetensors"
        save(model.state_dict(), weights)
        results.sizes[weights.name] = weights.stat().st_size
    program = _export(model, results)
    with results.stage("classify in Python"):
        results.labels["Python"] = _classify_in_python(program, images, results)
    results.accuracy = float((results.labels["Python"] == truth).mean())
    _optional("C", results, console, lambda: _classify_in_c(images, results))
    _optional("HTTP", results, console, lambda: _classify_over_http(images, results))
    _agree(results)
    _optional(
        "picture",
        results,
        console,
        lambda: draw(
            results.folder / "digits.png", images, truth, results.labels["Python"], history
        ),
    )
    console.print(_table(results, len(truth)))
    for name, reason in results.left_out.items():
        console.print(f"left out: {name}: {reason}", style="yellow", markup=False)
    return results


def _optional(name: str, results: Results, console: Console, stage: Callable[[], None]) -> None:
    """Run a stage that needs what a machine may lack; a missing thing is said, anything else
    raised.
    """
    console.print(f"[dim]{name} ...")
    try:
        with results.stage(name):
            stage()
    except (Unavailable, MissingExtra) as reason:
        results.seconds.pop(name, None)
        results.left_out[name] = str(reason)


def _export(model: Any, results: Results) -> Any:
    path = results.folder / "models" / "digits" / "1" / "digits.rbt"
    path.parent.mkdir(parents=True, exist_ok=True)
    with results.stage("export"):
        export(model, (zeros(1, 1, 8, 8),), path, dynamic={"x": {0: "batch"}})
        program = load_program(path)
        program(zeros(1, 1, 8, 8)).numpy()
    results.sizes[path.name] = path.stat().st_size
    return program


def _classify_in_python(program: Any, images: np.ndarray, results: Results) -> np.ndarray:
    with no_grad():
        labels = program(asarray(images)).numpy().argmax(axis=1)
        one = asarray(images[:1])
        results.latency["Python"] = _median_us(lambda: program(one).numpy())
    return labels


# ---- C -----------------------------------------------------------------------------------------

C_PROGRAM = Path(__file__).with_name("classify.c")


def _classify_in_c(images: np.ndarray, results: Results) -> None:
    """Build the native library and a C program that reads the images from a file."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise Unavailable("there is no C compiler `cc` here (Debian: apt install gcc)")
    folder = results.folder / "native"
    build(results.folder / "models/digits/1/digits.rbt", target="native", output=folder)
    results.sizes["libdigits.so"] = (folder / "libdigits.so").stat().st_size
    source, data = folder / C_PROGRAM.name, folder / "images.f32"
    source.write_text(C_PROGRAM.read_text())
    data.write_bytes(np.ascontiguousarray(images, np.float32).tobytes())
    binary = folder / "classify"
    link = [f"-L{folder}", "-ldigits", "-Wl,-rpath,$ORIGIN"]
    subprocess.run(
        [compiler, "-O2", "-Wall", str(source), f"-I{folder}", *link, "-o", str(binary)], check=True
    )
    run = subprocess.run(
        [str(binary), str(data), str(len(images))], check=True, capture_output=True, text=True
    )
    lines = run.stdout.split()
    results.labels["C"] = np.array([int(line) for line in lines[:-1]])
    results.latency["C"] = float(lines[-1])


# ---- HTTP --------------------------------------------------------------------------------------


def _classify_over_http(images: np.ndarray, results: Results) -> None:
    """Start `rabbet serve` on loopback and ask it through the Open Inference Protocol."""
    require("uvicorn", "serve")
    port = _free_port()
    command = [sys.executable, "-m", "rabbet", "serve", str(results.folder / "models")]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(
        [*command, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    )
    try:
        base = f"http://127.0.0.1:{port}/v2"
        _wait_ready(base, server)
        answer = _infer(base, images)
        logits = np.array(answer["outputs"][0]["data"], np.float32).reshape(len(images), 10)
        results.labels["HTTP"] = logits.argmax(axis=1)
        results.latency["HTTP"] = _median_us(lambda: _infer(base, images[:1]), 51)
    finally:
        server.terminate()
        server.wait(timeout=10)
        if server.stderr is not None:
            server.stderr.close()


def _infer(base: str, images: np.ndarray) -> Any:
    tensor = {
        "name": "x",
        "shape": list(images.shape),
        "datatype": "FP32",
        "data": images.reshape(-1).tolist(),
    }
    request = urllib.request.Request(
        f"{base}/models/digits/infer",
        json.dumps({"inputs": [tensor]}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def _wait_ready(base: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            text = server.stderr.read().decode() if server.stderr else ""
            raise RabbetError(f"the server stopped: {text.strip()[-2000:]}")
        try:
            with urllib.request.urlopen(f"{base}/health/ready", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RabbetError(f"the server was not ready after {READY_SECONDS:.0f} s")


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


# ---- the end -----------------------------------------------------------------------------------


def _agree(results: Results) -> None:
    """Python, C and HTTP must give the same label for every image."""
    wanted = results.labels["Python"]
    for way, labels in results.labels.items():
        if len(labels) != len(wanted):
            raise RabbetError(f"demo: {way} gave {len(labels)} labels for {len(wanted)} images")
        different = np.flatnonzero(labels != wanted)
        if len(different):
            raise RabbetError(
                f"demo: {way} and Python disagree on {len(different)} of {len(wanted)} images: "
                f"{different[:10].tolist()}"
            )


def _table(results: Results, count: int) -> Table:
    ways = ", ".join(results.labels)
    table = Table(title=f"{count} held-out digits; {ways} agree on every label")
    table.add_column("what")
    table.add_column("value", justify="right")
    table.add_row("accuracy", f"{results.accuracy:.2%}")
    table.add_section()
    for name, seconds in results.seconds.items():
        table.add_row(f"time: {name}", f"{seconds:.2f} s")
    table.add_row("time: all", f"{sum(results.seconds.values()):.2f} s")
    table.add_section()
    for name, size in results.sizes.items():
        table.add_row(f"size: {name}", f"{size / 1024:.0f} KiB")
    table.add_section()
    for way, latency in results.latency.items():
        table.add_row(f"one image: {way}", f"{latency:.0f} us")
    table.caption = f"files in {_shown(results.folder)}"
    return table


def _shown(folder: Path) -> str:
    try:
        return str(folder.relative_to(Path.cwd()))
    except ValueError:
        return str(folder)


def _median_us(call: Callable[[], Any], runs: int = 201) -> float:
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e6


__all__ = ["Results", "main"]
