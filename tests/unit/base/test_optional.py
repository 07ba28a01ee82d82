"""Optional packages: found, missing, and installed but broken."""

import sys
from pathlib import Path

import pytest

from rabbet.base.errors import MissingExtra
from rabbet.base.optional import require


def test_an_installed_module_is_returned() -> None:
    assert require("xml.dom.minidom", "plot").parseString("<a/>").documentElement.tagName == "a"


def test_a_missing_package_names_the_command_that_installs_it() -> None:
    with pytest.raises(MissingExtra, match=r'pip install "rabbet\[serve\]"') as caught:
        require("no_such_package_here.part", "serve")
    assert isinstance(caught.value, ImportError)


def test_a_missing_submodule_counts_as_missing() -> None:
    with pytest.raises(MissingExtra, match="json is not installed"):
        require("json.no_such_part", "plot")


def test_an_installed_package_that_lacks_something_itself_keeps_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text("import its_own_missing_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="its_own_missing_dependency") as caught:
        require("broken_package", "plot")
    assert not isinstance(caught.value, MissingExtra)
    sys.modules.pop("broken_package", None)
