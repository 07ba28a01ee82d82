"""Where the peers live: an environment each, in RABBET_BENCH_PEERS or the user's cache."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from rabbet.base.errors import RabbetError


@dataclass(frozen=True)
class Peer:
    """A framework: what to install, pinned, in the environment `folder`."""

    name: str
    packages: tuple[str, ...]
    folder: str
    index: str | None = None  # another package index


# The only place with the peers' versions.
PEERS = {
    p.name: p
    for p in (
        Peer("torch", ("torch==2.13.0", "numpy"), "torch", "https://download.pytorch.org/whl/cpu"),
        Peer("jax", ("jax==0.10.2", "numpy"), "jax"),
        Peer("tensorflow", ("tensorflow-cpu==2.21.0", "keras==3.15.1", "numpy"), "tensorflow"),
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
            f"`rabbet bench --install {name}`, or name their folder in RABBET_BENCH_PEERS"
        )
    return path
