"""Where the peers live: an environment each, in RABBET_BENCH_PEERS or the user's cache."""

from __future__ import annotations

import os
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path

from rabbet.base.errors import RabbetError


@dataclass(frozen=True)
class Peer:
    """A framework: what to install, pinned, in the environment `folder`."""

    name: str
    packages: tuple[str, ...]
    folder: str


_TENSORFLOW = ("tensorflow-cpu==2.21.0", "keras==3.15.1", "numpy")

# The only place with the peers' versions.
PEERS = {
    p.name: p
    for p in (
        Peer("torch", ("torch==2.13.0", "numpy"), "torch"),
        Peer("jax", ("jax==0.10.2", "numpy"), "jax"),
        Peer("tensorflow", _TENSORFLOW, "tensorflow"),
        Peer("litert", _TENSORFLOW, "tensorflow"),  # as it comes with TensorFlow, which converts
        Peer("onnxruntime", ("onnxruntime==1.32.0", "onnx", "numpy"), "onnxruntime"),
        Peer("openvino", ("openvino==2026.4.1", "onnx", "numpy"), "openvino"),
    )
}


def home() -> Path:
    """The folder of the peers' environments."""
    chosen = os.environ.get("RABBET_BENCH_PEERS")
    return Path(chosen) if chosen else Path("~/.cache/rabbet-peers").expanduser()


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment; RabbetError says how to make one."""
    if name not in PEERS:
        raise RabbetError(f"bench: no peer is called {name!r}; there are {', '.join(PEERS)}")
    path = home() / PEERS[name].folder / "bin" / "python"
    if not path.exists():
        raise RabbetError(
            f"bench: {name} has no environment at {path.parent.parent}; make it with "
            f"`rabbet bench --install --against {name}`, or name their folder in RABBET_BENCH_PEERS"
        )
    return path


def install(name: str) -> None:
    """Make a peer's environment with the interpreter that runs this, and install the peer.

    Where packages come from is pip's own setting (PIP_EXTRA_INDEX_URL for a build of PyTorch
    without CUDA, which is much smaller).

    Raises RabbetError for an unknown peer, or with what pip said.
    """
    if name not in PEERS:
        raise RabbetError(f"bench: no peer is called {name!r}; there are {', '.join(PEERS)}")
    peer, folder = PEERS[name], home() / PEERS[name].folder
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q"]
    done = subprocess.run(
        [*pip, "install", *peer.packages], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RabbetError(f"bench: {name} could not be installed: {done.stderr[-2000:]}")


def missing(names: list[str]) -> list[str]:
    """Those of the peers that have no environment yet, one of each."""
    absent = {PEERS[n].folder: n for n in reversed(names)}
    return [n for f, n in absent.items() if not (home() / f / "bin" / "python").exists()][::-1]
