"""Finding models in a folder."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from rabbet.base.errors import FormatError, RabbetError
from rabbet.serve import Limits, Repository, load_repository
from rabbet.serve.errors import RequestError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place in ("a/1/a.rbt", "a/10/a.rbt", "a/9/a.rbt", "b/1/b.rbt", "b/2/bad.rbt"):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_bytes(b"")
    (tmp_path / "c" / "1").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a" / "latest").mkdir()
    (tmp_path / "a" / "007").mkdir()
    (tmp_path / "a" / "0").mkdir()
    (tmp_path / "notes.txt").write_text("")
    return tmp_path


@pytest.fixture
def repository(folder: Path, table: Any) -> Repository:
    def load(path: Path) -> Any:
        if path.name == "bad.rbt":
            raise FormatError("the header is damaged")
        return table

    return load_repository(folder, load, Limits())


def test_versions(repository: Repository) -> None:
    found = {name: repository.versions(name) for name in repository.models}
    assert found == {"a": [1, 9, 10], "b": [1, 2], "c": [1]}
    assert repository.find("a", None).version == 10  # the newest, by number
    assert repository.find("a", "9").version == 9
    asyncio.run(repository.close())


def test_what_cannot_be_loaded_has_a_reason(repository: Repository) -> None:
    assert not repository.is_ready
    with pytest.raises(RequestError, match="the header is damaged") as caught:
        repository.batcher("b", None)
    assert caught.value.status == 503
    with pytest.raises(RequestError, match="0 .rbt files"):
        repository.batcher("c", "1")


@pytest.mark.parametrize(
    ("name", "version"), [("d", None), ("a", "2"), ("a", "latest"), ("a", "9" * 5000), ("a", "")]
)
def test_what_is_not_there(repository: Repository, name: str, version: str | None) -> None:
    with pytest.raises(RequestError) as caught:
        repository.find(name, version)
    assert caught.value.status == 404


def test_folders_without_models(tmp_path: Path) -> None:
    with pytest.raises(RabbetError, match="holds no models"):
        load_repository(tmp_path, lambda path: None, Limits())  # type: ignore[arg-type,return-value]
    with pytest.raises(RabbetError, match="is not a folder"):
        load_repository(tmp_path / "no", lambda path: None, Limits())  # type: ignore[arg-type,return-value]
