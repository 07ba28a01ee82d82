"""Packs: what is found in one, and that a bad one is as good as none."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from rabbet.base.errors import InternalError
from rabbet.base.pack import MAGIC, Pack, write_pack

ROOT = Path(__file__).resolve().parents[3]
ENTRIES = {f"{n:02x}" * 32: bytes([n]) * 100 * n for n in (3, 200, 17, 90, 0)}
KEY = "11" * 32  # that of 17


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_pack(tmp_path / "packs" / "some.pack", ENTRIES)
    return tmp_path / "packs" / "some.pack"


def test_what_was_written_is_found(path: Path) -> None:
    pack = Pack(path)
    assert len(pack) == len(ENTRIES)
    assert {key: pack.get(key) for key in ENTRIES} == ENTRIES
    assert pack.get("04" * 32) is None and pack.get("ff" * 32) is None
    assert [p.name for p in path.parent.iterdir()] == ["some.pack"]


def test_no_file_is_an_empty_pack(tmp_path: Path) -> None:
    pack = Pack(tmp_path / "missing.pack")
    assert len(pack) == 0 and pack.get(KEY) is None


def test_a_pack_may_be_empty(tmp_path: Path) -> None:
    write_pack(tmp_path / "empty.pack", {})
    assert Pack(tmp_path / "empty.pack").get(KEY) is None


def test_nothing_has_to_be_writable(path: Path) -> None:
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        assert Pack(path).get(KEY) == ENTRIES[KEY]
    finally:
        path.parent.chmod(0o755)


@pytest.mark.parametrize(
    "damage", ["empty", "short", "another file", "cut index", "a key", "count"]
)
def test_a_bad_file_is_not_used(path: Path, damage: str) -> None:
    data = bytearray(path.read_bytes())
    if damage == "a key":
        data[50] ^= 1
    if damage == "count":
        data[8:16] = b"\xff" * 8
    bad = {
        "empty": b"",
        "short": MAGIC,
        "another file": b"\x7fELF" + bytes(1000),
        "cut index": bytes(data[:100]),
    }
    path.write_bytes(bad.get(damage, bytes(data)))
    with pytest.warns(RuntimeWarning, match="some.pack is not used"):
        pack = Pack(path)
    assert pack.get(KEY) is None and len(pack) == 0


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_a_bad_entry_ends_the_use_of_the_pack(path: Path, damage: str) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data if damage == "flipped" else data[:-5])
    pack = Pack(path)
    assert pack.get(KEY) == ENTRIES[KEY]
    with pytest.warns(RuntimeWarning, match="checksum"):
        assert pack.get("c8" * 32) is None  # the last one in the file
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pack.get(KEY) is None  # nothing else of it is believed, and nobody told twice


def test_keys_are_digests(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="SHA-256"):
        write_pack(tmp_path / "some.pack", {"ab": b""})
    assert not list(tmp_path.iterdir())


def test_several_processes_read_a_pack_that_is_replaced(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from rabbet.base.pack import Pack\n"
        "for n in range(200):\n"
        "    pack = Pack(Path(sys.argv[1]))\n"
        f"    assert pack.get({KEY!r}) == bytes([17]) * 1700\n"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(path)]
    running = [subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) for _ in "12"]
    while any(p.poll() is None for p in running):
        write_pack(path, ENTRIES)
    assert [p.wait(60) for p in running] == [0, 0]
    assert [p.name for p in path.parent.iterdir()] == ["some.pack"]
