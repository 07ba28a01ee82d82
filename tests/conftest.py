"""What every test gets: a cache apart, random numbers set by its name, markers by folder."""

import gc
import importlib.util
import os
import shutil
import signal
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# Compiled kernels are kept between runs of the tests, apart from those of the user's own programs.
os.environ.setdefault("RABBET_CACHE_DIR", str(ROOT / ".cache" / "tests"))
os.environ.setdefault("RABBET_COMPILE", "wait")  # what runs must not depend on time
os.environ.setdefault("RABBET_PACKS", "none")  # what is tested is compiled by what is tested

# A shell that starts a job in the background lets it ignore Ctrl-C; tests of Ctrl-C need it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Compiling makes the first example slow, so no deadline; CI tries the same examples each time.
settings.register_profile("default", deadline=None, max_examples=40)
settings.register_profile("ci", deadline=None, max_examples=40, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests/fuzz as `fuzz`; skip what needs MPI where there is none."""
    has_mpi = importlib.util.find_spec("mpi4py") is not None
    for item in items:
        if (ROOT / "tests" / "fuzz") in item.path.parents:
            item.add_marker(pytest.mark.fuzz)
        if not has_mpi and item.get_closest_marker("distributed"):
            reason = 'needs mpi4py: pip install "rabbet[distributed]"'
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    """Nothing collected so far goes away, and looking for that took a sixth of the tests' time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def c_compiler() -> str:
    """The C compiler that building uses; what needs one is skipped where there is none."""
    found = shutil.which(os.environ.get("CC", "cc"))
    if found is None:
        pytest.skip("there is no C compiler (cc)")
    return found


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that differ between tests and not between runs."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))
