"""Parts that kernels share: their names, their bytes, and that they are compiled once."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import pytest

from rabbet import targets
from rabbet.base.dtypes import float32
from rabbet.base.errors import InternalError
from rabbet.codegen import bundle, link, machine
from rabbet.codegen.build import build
from rabbet.codegen.library import Library
from rabbet.expr.expr import acc
from rabbet.kernel.loops import ContractKernel
from tests.unit.codegen.products import product


def scaled(factor: float) -> ContractKernel:
    kernel = product(float32)
    (store,) = kernel.stores
    return replace(kernel, stores=(replace(store, value=acc(0, float32) * factor),))


def test_kernels_with_other_epilogues_have_the_same_parts() -> None:
    target = targets.find("x86_v4")
    first, second = (build(scaled(x), target) for x in (2.0, 3.0))
    assert bundle.split_text(first.text)[1] == bundle.split_text(second.text)[1] != []
    assert bundle.split_text(first.text)[0] != bundle.split_text(second.text)[0]


def test_a_cache_keeps_parts_for_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cache(dict[str, bytes]):
        kept = dict.get
        keep = dict.__setitem__

    target, cache = targets.find("x86_v3"), Cache()
    text = build(scaled(2.0), target).text
    monkeypatch.setattr(machine, "_part_codes", {})
    code = machine.object_code(text, target, cache)
    _, parts = bundle.split_text(text)
    assert set(cache) == {machine.part_key(part) for _, part in parts}
    for key in cache:
        cache[key] = b"kept"
    monkeypatch.setattr(machine, "_part_codes", {})
    found = bundle.split(machine.object_code(text, target, cache))[1]
    assert [(p.names, p.code) for p in found] == [(names, b"kept") for names, _ in parts]
    assert bundle.split(code)[0] == bundle.split(machine.object_code(text, target))[0]


def test_bytes_that_end_early_are_refused() -> None:
    code = bundle.joined(b"own", [bundle.Part(("a", "b"), b"part")])
    assert bundle.split(code) == (b"own", [bundle.Part(("a", "b"), b"part")])
    assert bundle.split(b"own") == (b"own", [])
    for end in (10, 20, len(code) - 1):
        with pytest.raises(InternalError, match="do not end"):
            bundle.split(code[:end])
    for damaged in (code[:8] + bytes(4), code.replace(b"a b", b"a \xff")):
        with pytest.raises(InternalError, match="do not end"):
            bundle.split(damaged)


@pytest.mark.usefixtures("c_compiler")
def test_two_kernels_of_one_library_share_parts(tmp_path) -> None:
    target = targets.host()
    codes = [build(scaled(x), target) for x in (2.0, 3.0)]
    objects = {c.name: machine.object_code(c.text, target) for c in codes}
    library = ctypes.CDLL(str(link.shared_library(objects, tmp_path / "kernels.so")))
    assert all(getattr(library, c.name) for c in codes)
    assert set(Library(objects).addresses) == set(objects)
