"""A program file appears whole or not at all, whatever fails on the way."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rabbet as rb
from rabbet import nn
from rabbet.base.files import write_whole
from rabbet.export import export, load_program


def count_calls(monkeypatch: pytest.MonkeyPatch, name: str, run: Callable[[], Any]) -> int:
    real, calls = getattr(os, name), [0]

    def counted(*args: Any) -> Any:
        calls[0] += 1
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, counted)
        run()
    return calls[0]


@pytest.mark.parametrize("name", ["write", "fsync", "replace", "open"])
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_failure_at_every_step(
    name: str, failure: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rb.manual_seed(0)
    old, new = nn.Linear(3, 2).eval(), nn.Linear(3, 2).eval()
    path = tmp_path / "m.rbt"
    export(old, rb.zeros(3), path)
    before = path.read_bytes()
    after = export(new, rb.zeros(3), tmp_path / "other").read_bytes()
    steps = count_calls(monkeypatch, name, lambda: export(new, rb.zeros(3), tmp_path / "other"))
    (tmp_path / "other").unlink()
    failed = 0
    for step in range(steps):
        real, calls = getattr(os, name), [0]

        def failing(*args: Any, at: int = step, real: Any = real, calls: Any = calls) -> Any:
            calls[0] += 1
            if calls[0] > at:
                raise failure
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing)
            try:
                export(new, rb.zeros(3), path)
            except BaseException as error:
                assert error is failure
                failed += 1
                assert path.read_bytes() in (before, after)  # after: the folder's sync was stopped
        assert [p.name for p in tmp_path.iterdir()] == ["m.rbt"]
        load_program(path, verify=True)
        export(old, rb.zeros(3), path)
    assert failed  # a folder that cannot be synced is no failure, but the file itself is


def test_short_writes_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, bytes(data[:3])))
    write_whole(tmp_path / "f", [b"0123456789", b"", b"ab"])
    assert (tmp_path / "f").read_bytes() == b"0123456789ab"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        export(lambda x: x, rb.zeros(3), tmp_path / "m.rbt")
    tmp_path.chmod(0o700)


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        export(lambda x: x, rb.zeros(3), tmp_path / "none" / "m.rbt")
    export(lambda x: x, rb.zeros(3), tmp_path / "m.rbt")
    with pytest.raises(NotADirectoryError):
        export(lambda x: x, rb.zeros(3), tmp_path / "m.rbt" / "m.rbt")


def test_a_file_can_be_replaced_while_it_is_loaded(tmp_path: Path) -> None:
    rb.manual_seed(0)
    old, new = nn.Linear(3, 2).eval(), nn.Linear(3, 2).eval()
    path = export(old, rb.zeros(3), tmp_path / "m.rbt")
    program = load_program(path)
    export(new, rb.zeros(3), path)
    x = rb.rand(3)
    assert program(x).tolist() == old(x).tolist()
    assert load_program(path)(x).tolist() == new(x).tolist()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    for write in (
        lambda path: export(nn.Linear(3, 2).eval(), rb.zeros(3), path),
        lambda path: rb.save({}, path),
    ):
        with pytest.raises(FileNotFoundError, match="no such folder.*nowhere'") as caught:
            write(tmp_path / "nowhere" / "m")
        assert caught.value.filename == str(tmp_path / "nowhere")
