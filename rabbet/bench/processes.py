"""Worker processes: started, asked, stopped while others compute, ended."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from rabbet.base.errors import RabbetError

HERE = Path(__file__).resolve().parent


class WorkerError(RabbetError):
    """A worker said that something failed, or ended."""


class Process:
    """A worker process. It runs only during `ask`."""

    def __init__(
        self,
        framework: str,
        python: Path | None,
        threads: int,
        log: Any,
        extra: dict[str, str] | None = None,
    ) -> None:
        self.framework = framework
        own = [sys.executable, "-m", "rabbet.bench.worker"]
        command = own if python is None else [str(python), str(HERE / "peer.py")]
        self._start = functools.partial(
            subprocess.Popen,
            [*command, framework, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**environment_of(python, threads), **(extra or {})},
            text=True,
        )
        self._process: subprocess.Popen[str] = self._start()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """The answer to a command; WorkerError with the worker's error. A process that ended is
        started again, with nothing prepared."""
        if self._process.poll() is not None:
            self.end()
            self._process = self._start()
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            process.send_signal(signal.SIGCONT)
            process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            process.send_signal(signal.SIGSTOP)
        except BrokenPipeError:
            line = ""
        if not line:
            code = process.wait()
            raise WorkerError(f"the process of {self.framework} ended with {code}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def environment_of(python: Path | None, threads: int) -> dict[str, str]:
    """The environment of a process of a peer's interpreter, or (None) of this one."""
    environment = {"RABBET_COMPILE": "wait", **os.environ, **settings(threads)}  # nothing beside
    if python is None:
        environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1]), *_python_path()])
    else:
        environment.pop("PYTHONPATH", None)
    return environment


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def settings(threads: int) -> dict[str, str]:
    """The environment of every worker: so many threads, no helper processes, no chatter."""
    count = str(threads)
    return {
        "RABBET_NUM_THREADS": count,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "JAX_PLATFORMS": "cpu",
        "KERAS_BACKEND": "tensorflow",
    }
