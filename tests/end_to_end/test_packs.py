"""Ready kernels: made by the rule, found by a program with an empty cache, never wrong or stale."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rabbet import targets
from rabbet.base.cache import DiskCache
from rabbet.base.config import config
from rabbet.base.pack import Pack, write_pack
from rabbet.codegen import machine
from rabbet.codegen.store import KernelStore, object_key
from rabbet.graph.value import registry
from rabbet.kernel.loops import Kernel
from rabbet.pack import workloads
from rabbet.pack.make import compiled, is_complete, make, path_of
from rabbet.runtime import program

ROOT = Path(__file__).resolve().parents[2]
HOST = targets.host()
OPS = ("add", "exp")
WORK = """
import numpy as np, rabbet as rb
from rabbet.codegen import machine
x = rb.asarray(np.arange(6, dtype=np.float32).reshape(2, 3))
y = rb.asarray(np.ones((2, 3), np.float32))
found = (x + y).numpy(), rb.exp(x).numpy()
assert (found[0] == x.numpy() + 1).all(), found
print(machine.compilations)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pack of a few ops for this machine."""
    ((path, entries),) = make([HOST], tmp_path_factory.mktemp("packs"), noted(*OPS))
    assert entries > 5
    return path.parent


def noted(*ops: str) -> list[workloads.Wanted]:
    """What the rule wants of a few ops."""
    found: list[workloads.Wanted] = []
    with workloads.written_down(found, fuse=False):
        for name in ops:
            for each in workloads.singles(registry[name]):
                each()
    return found


def kernels_of(*ops: str) -> list[Kernel]:
    """Their distinct kernels."""
    return compiled(noted(*ops), HOST)[0]


def run(folder: Path, cache: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {"RABBET_PACKS": str(folder), "RABBET_CACHE_DIR": str(cache), **environment}
    return subprocess.run(
        [sys.executable, "-c", WORK],
        env={**os.environ, "PYTHONPATH": str(ROOT), **settings},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_program_with_an_empty_cache_compiles_nothing(folder: Path, tmp_path: Path) -> None:
    done = run(folder, tmp_path / "cache")
    assert (done.stdout, done.stderr) == ("0\n", "")
    cold = run(folder, tmp_path / "another", RABBET_PACKS="none")
    assert int(cold.stdout) > 0


def test_no_cache_folder_is_needed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(folder, tmp_path / "file" / "below")
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_damaged_pack_is_said_once_and_not_used(folder: Path, tmp_path: Path) -> None:
    name = f"{HOST.name}.pack"
    data = bytearray((folder / name).read_bytes())
    data[100] ^= 1
    (tmp_path / name).write_bytes(data)
    done = run(tmp_path, tmp_path / "cache")
    assert done.returncode == 0 and int(done.stdout) > 0
    assert done.stderr.count("is not used") == 1


def test_the_pack_of_another_target_has_nothing_for_this_one(folder: Path, tmp_path: Path) -> None:
    others = [t for t in targets.all_targets().values() if t is not HOST]
    pack = Pack(folder / f"{HOST.name}.pack")
    kernels = kernels_of("exp")
    assert all(pack.get(object_key(k, HOST)) for k in kernels)
    assert not any(pack.get(object_key(k, t)) for k in kernels for t in others)


def test_a_store_takes_the_pack_first_and_writes_nothing_for_it(tmp_path: Path) -> None:
    (kernel, *_) = kernels_of("exp")
    key = object_key(kernel, HOST)
    cache = DiskCache(tmp_path / "cache")
    (code,) = KernelStore(HOST, cache).objects([kernel]).values()
    write_pack(tmp_path / "a.pack", {key: code})
    before = machine.compilations
    store = KernelStore(HOST, DiskCache(tmp_path / "empty"), Pack(tmp_path / "a.pack"))
    assert store.kept(key) == code and list(store.objects([kernel]).values()) == [code]
    assert machine.compilations == before
    assert not list((tmp_path / "empty").glob("??/*"))


def test_a_pack_is_complete_as_long_as_no_source_changes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_complete(HOST, folder) and not is_complete(HOST, tmp_path)
    (one, *_) = kernels_of("exp")
    write_pack(path_of(HOST, tmp_path), {object_key(one, HOST): b"code"})
    assert not is_complete(HOST, tmp_path)
    monkeypatch.setattr(sys.modules[make.__module__], "generator_version", lambda: "another")
    assert not is_complete(HOST, folder)


def test_where_packs_are_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "packs", "none")
    assert program.pack_of(HOST) is None
    monkeypatch.setattr(config, "packs", str(tmp_path))
    assert program.pack_of(HOST).path == tmp_path / f"{HOST.name}.pack"
    monkeypatch.setattr(config, "packs", "")
    assert program.pack_of(HOST).path.parts[-3:] == ("rabbet", "packs", f"{HOST.name}.pack")


def test_every_elementwise_op_is_in_the_rule() -> None:
    ops = [op for op in registry.values() if op.kind == "elementwise" and op.samples is not None]
    assert len(ops) > 50
    assert all(list(workloads.singles(op)) for op in ops)


def test_networks_are_written_down_without_a_compiler() -> None:
    found: list[workloads.Wanted] = []
    before = machine.compilations
    with workloads.written_down(found):
        next(iter(workloads.networks()))()
    assert machine.compilations == before and config.engine == "compiled"
    assert any(w.fuse for w in found) and any(not w.fuse for w in found)
