"""The disk cache and the kernel store: what is kept, and what a reader refuses."""

import ctypes
import gc
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rabbet import targets
from rabbet.base import cache as base_cache
from rabbet.base.cache import DiskCache
from rabbet.base.dtypes import float32
from rabbet.base.errors import BuildError, InternalError
from rabbet.codegen import link, machine
from rabbet.codegen.build import build
from rabbet.codegen.store import KernelStore, object_key
from rabbet.expr.expr import Expr, load, size, var
from rabbet.kernel.loops import Kernel, Operand, RowKernel, Store, Sweep
from rabbet.kernel.show import kernel_name, show

KEY = "ab" * 32


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path / "cache")


def only_file(cache: DiskCache) -> Path:
    (found,) = (p for p in cache.directory.glob("??/*") if p.is_file())
    return found


def map_of(value: Expr) -> RowKernel:
    """out[i] = value"""
    operands = (Operand(float32, "in"), Operand(float32, "out"))
    return RowKernel(operands, (), (size(0),), (Sweep(stores=(Store(1, var(0), value),)),))


def scaled(factor: float) -> Kernel:
    return map_of(load(0, float32, var(0)) * factor)


# ---------------------------------------------------------------------- disk


def test_what_is_put_is_found(cache):
    assert cache.get(KEY) is None
    cache.put(KEY, b"data")
    assert cache.get(KEY) == b"data"
    assert DiskCache(cache.directory).get(KEY) == b"data"
    assert cache.problem == ""


def test_files_are_private(cache):
    cache.put(KEY, b"data")
    assert stat.S_IMODE(cache.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(only_file(cache).stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "header"])
def test_damaged_entries_are_dropped(cache, damage):
    cache.put(KEY, b"some data that is long enough")
    path = only_file(cache)
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[-1] ^= 1
    if damage == "header":
        data[0] ^= 1
    path.write_bytes({"cut": data[:-3], "empty": b""}.get(damage, bytes(data)))
    assert cache.get(KEY) is None
    assert not path.exists()


def test_symbolic_links_are_not_followed(cache, tmp_path):
    cache.put(KEY, b"data")
    path = only_file(cache)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert cache.get(KEY) is None


def test_directories_of_others_are_refused(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    cache = DiskCache(shared)
    cache.put(KEY, b"data")
    assert "other users" in cache.problem and cache.get(KEY) is None
    assert not list(shared.iterdir())


def test_linked_directories_are_refused(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert "not a directory" in DiskCache(tmp_path / "link").problem


def test_without_a_directory_nothing_is_kept(tmp_path):
    (tmp_path / "file").write_text("")
    cache = DiskCache(tmp_path / "file" / "below")
    cache.put(KEY, b"data")
    assert cache.problem and cache.get(KEY) is None


def test_keys_are_not_paths(cache):
    with pytest.raises(InternalError):
        cache.get("../../etc/passwd")


def test_least_recently_used_entries_go_first(tmp_path):
    cache = DiskCache(tmp_path / "cache", limit=100_000)
    keys = [f"{n:02x}" * 32 for n in range(20)]
    for n, key in enumerate(keys):
        cache.put(key, bytes(10_000))
        if n < 9:  # all of the same age, but older than what follows
            os.utime(cache.directory / key[:2] / key, (1000 + n, 1000 + n))
    sizes = [p.stat().st_size for p in cache.directory.glob("??/*")]
    assert sum(sizes) <= 110_000
    assert cache.get(keys[-1]) is not None and cache.get(keys[0]) is None


def test_a_large_cache_is_not_walked_at_each_start(tmp_path, monkeypatch):
    walked = []
    monkeypatch.setattr("rabbet.base.cache._entries", lambda folder: walked.append(folder) or [])
    for _ in range(100):  # starts of programs that compile something small
        DiskCache(tmp_path / "cache").put(KEY, bytes(1000))
    assert len(walked) < 10  # 0.4 of 100 on average


def test_a_full_folder_keeps_to_its_share(tmp_path, monkeypatch):
    cache = DiskCache(tmp_path / "cache", limit=256 * 10_000)
    for folder in ("00", "01"):
        (cache.directory / folder).mkdir()
        for n in range(100):
            path = cache.directory / folder / f"{folder}{n:062x}"
            path.write_bytes(bytes(200))
            os.utime(path, (1000 + n, 1000 + n))
    walked = []
    found = base_cache._entries
    monkeypatch.setattr(base_cache, "_entries", lambda path: walked.append(path) or found(path))
    monkeypatch.setattr(base_cache.secrets, "randbelow", lambda limit: 0)
    key = "00" + "f" * 62
    cache.put(key, bytes(100))
    assert walked == [cache.directory / "00"]
    left = {path.name: path.stat().st_size for path in (cache.directory / "00").iterdir()}
    assert sum(left.values()) <= 7_500
    assert key in left and f"00{99:062x}" in left and f"00{0:062x}" not in left
    assert len(list((cache.directory / "01").iterdir())) == 100


def test_several_processes_write_the_same_keys(cache):
    program = (
        "import sys; from pathlib import Path; from rabbet.base.cache import DiskCache\n"
        "cache = DiskCache(Path(sys.argv[1]))\n"
        "for n in range(30):\n"
        "    key = f'{n:02x}' * 32\n"
        "    cache.put(key, key.encode() * 50)\n"
        "    assert cache.get(key) == key.encode() * 50\n"
    )
    command = [sys.executable, "-c", program, str(cache.directory)]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [p.wait(60) for p in running] == [0, 0, 0]
    assert cache.get("05" * 32) == (b"05" * 32) * 50
    assert not list(cache.directory.glob("??/.*"))


# ---------------------------------------------------------------------- kernels


def call_map(address: int, data: np.ndarray) -> np.ndarray:
    out = np.empty_like(data)
    kind = ctypes.CFUNCTYPE(
        None, *(ctypes.c_void_p,) * 2, *(ctypes.c_int64,) * 2, *(ctypes.c_void_p,) * 2
    )
    pointers = (ctypes.c_void_p * 2)(data.ctypes.data, out.ctypes.data)
    kind(address)(pointers, (ctypes.c_int64 * 1)(data.size), 0, data.size, None, None)
    return out


def test_kernels_are_compiled_once(cache):
    data = np.arange(20, dtype=np.float32)
    kernels = [scaled(2.0), scaled(3.0), scaled(2.0)]
    before = machine.compilations
    store = KernelStore(targets.host(), cache)
    addresses, keep = store.load(kernels)
    assert machine.compilations == before + 2
    assert addresses[0] == addresses[2] and len(keep) == 3
    assert (call_map(addresses[1], data) == data * 3).all()
    again, keep_again = KernelStore(targets.host(), cache).load(kernels)
    assert machine.compilations == before + 2  # from disk
    assert (call_map(again[0], data) == data * 2).all()
    assert keep_again


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads /proc")
def test_dropped_kernels_are_unmapped(cache):
    store = KernelStore(targets.host(), cache)

    def mapped() -> int:
        """Bytes of memory that may be run and is no file's."""
        ranges = [
            line.split()[0].split("-")
            for line in Path("/proc/self/maps").read_text().splitlines()
            if " r-xp " in line and len(line.split()) == 5
        ]
        return sum(int(end, 16) - int(begin, 16) for begin, end in ranges)

    before = mapped()
    held = [store.load([scaled(float(n))])[1] for n in range(20)]
    most = mapped()
    assert most >= before + 20 * 4096
    del held
    gc.collect()
    assert mapped() <= most - 20 * 4096


def test_damaged_objects_are_compiled_again(cache):
    store = KernelStore(targets.host(), cache)
    store.load([scaled(4.0)])
    path = only_file(cache)
    path.write_bytes(path.read_bytes()[:-1])
    before = machine.compilations
    KernelStore(targets.host(), cache).load([scaled(4.0)])
    assert machine.compilations == before + 1


def test_keys_tell_kernels_and_targets_apart():
    literals = (0.0, -0.0, 1.0, float("nan"), 1e-45)
    assert len({object_key(scaled(x), targets.host()) for x in literals}) == len(literals)
    known = targets.all_targets().values()
    assert len({object_key(scaled(2.0), t) for t in known}) == len(known)
    assert len({show(scaled(x)) for x in literals}) == len(literals)


def test_objects_are_reproducible():
    for target in targets.all_targets().values():
        code = build(scaled(2.0), target)
        assert machine.object_code(code.text, target) == machine.object_code(code.text, target)


# ---------------------------------------------------------------------- machine and linker


def test_calls_of_others_are_refused():
    text = build(scaled(2.0), targets.find("x86_baseline")).text
    call = "  %f = call float @missing(float 1.0)\n  store float %f, ptr %scratch\n  ret void\n}"
    broken = text.replace("  ret void\n}", call) + "\ndeclare float @missing(float)\n"
    with pytest.raises(InternalError, match="missing"):
        machine.object_code(broken, targets.find("x86_baseline"))


def test_invalid_text_is_refused():
    with pytest.raises(InternalError, match="not valid"):
        machine.object_code("define void @f( {", targets.host())


@pytest.mark.usefixtures("c_compiler")
def test_shared_library(tmp_path):
    code = build(scaled(5.0), targets.host())
    objects = {code.name: machine.object_code(code.text, targets.host())}
    path = link.shared_library(objects, tmp_path / "kernels.so")
    library = ctypes.CDLL(str(path))
    address = ctypes.cast(getattr(library, kernel_name(scaled(5.0))), ctypes.c_void_p).value
    data = np.arange(40, dtype=np.float32)
    assert (call_map(address, data) == data * 5).all()
    assert [p.name for p in tmp_path.iterdir()] == ["kernels.so"]


def test_without_a_compiler_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="needs a C compiler"):
        link.shared_library({}, tmp_path / "kernels.so")
    monkeypatch.setenv("CC", str(tmp_path / "missing"))
    with pytest.raises(BuildError, match="missing"):
        link.shared_library({}, tmp_path / "kernels.so")


def test_targets():
    best = targets.runnable()
    assert targets.find(best[0].name) is best[0]
    with pytest.raises(BuildError, match="x86_v4"):
        targets.find("nothing")
