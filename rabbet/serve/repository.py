"""A folder of models: DIR/<model>/<version>/<any name>.rbt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rabbet.base.errors import RabbetError
from rabbet.serve.batching import Batcher, Limits
from rabbet.serve.errors import RequestError
from rabbet.serve.model import Load, Model
from rabbet.serve.probe import is_joinable

SUFFIX = ".rbt"


@dataclass
class Entry:
    """A version of a model: a batcher that answers for it, or why it could not be loaded."""

    name: str
    version: int
    batcher: Batcher | None
    reason: str = ""


@dataclass
class Repository:
    """All models that were found, by name and version."""

    models: dict[str, dict[int, Entry]] = field(default_factory=dict)

    def entries(self) -> Iterator[Entry]:
        """Every version of every model, in order."""
        for name in sorted(self.models):
            for version in sorted(self.models[name]):
                yield self.models[name][version]

    def versions(self, name: str) -> list[int]:
        """Versions of a model, oldest first; RequestError (404) for an unknown name."""
        if name not in self.models:
            raise RequestError(404, f"there is no model {name!r}")
        return sorted(self.models[name])

    def find(self, name: str, version: str | None) -> Entry:
        """A version, or the newest one; RequestError (404) where there is none."""
        known = self.versions(name)
        if version is None:
            return self.models[name][known[-1]]
        number = (
            int(version) if version.isascii() and version.isdigit() and len(version) < 19 else 0
        )
        if number not in self.models[name]:
            shown = ", ".join(map(str, known))
            raise RequestError(404, f"{name} has no version {version!r}; there are {shown}")
        return self.models[name][number]

    def batcher(self, name: str, version: str | None) -> Batcher:
        """What answers for a version; RequestError: unknown (404), or not loaded (503)."""
        entry = self.find(name, version)
        if entry.batcher is None:
            raise RequestError(503, f"{name} version {entry.version} is not ready: {entry.reason}")
        return entry.batcher

    @property
    def is_ready(self) -> bool:
        """True if every version was loaded."""
        return all(entry.batcher is not None for entry in self.entries())

    async def close(self) -> None:
        """Answer what waits, and end all threads."""
        for entry in self.entries():
            if entry.batcher is not None:
                await entry.batcher.close()


def load_repository(directory: Path, load: Load, limits: Limits) -> Repository:
    """Load every version below `directory`; one that cannot be loaded is there, with its reason.

    Raises RabbetError where the folder does not exist or holds no model.
    """
    if not directory.is_dir():
        raise RabbetError(f"{directory} is not a folder")
    repository = Repository()
    for folder in sorted(directory.iterdir()):
        versions = _find_versions(folder)
        if versions:
            repository.models[folder.name] = {
                number: _load_entry(folder.name, number, place, load, limits)
                for number, place in versions.items()
            }
    if not repository.models:
        raise RabbetError(f"{directory} holds no models; they are looked for as MODEL/1/NAME.rbt")
    return repository


def _find_versions(folder: Path) -> dict[int, Path]:
    """Subfolders whose names are whole numbers from 1."""
    if not folder.is_dir() or folder.name.startswith("."):
        return {}
    found = [place for place in folder.iterdir() if place.is_dir()]
    named = [place for place in found if place.name.isascii() and place.name.isdigit()]
    return {int(place.name): place for place in named if str(int(place.name)) == place.name != "0"}


def _load_entry(name: str, version: int, folder: Path, load: Load, limits: Limits) -> Entry:
    files = sorted(folder.glob(f"*{SUFFIX}"))
    if len(files) != 1:
        return Entry(name, version, None, f"{folder} has {len(files)} {SUFFIX} files, not one")
    try:
        model = Model(name, version, load(files[0]))
    except (RabbetError, OSError) as error:
        return Entry(name, version, None, str(error))
    return Entry(name, version, Batcher(model, limits, is_joinable(model, limits.max_batch)))
