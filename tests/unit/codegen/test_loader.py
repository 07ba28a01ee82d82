"""Objects put into memory: what they compute and call, and that none can harm the process."""

import ctypes
import gc
import random
import struct
from pathlib import Path

import pytest

from rabbet import targets
from rabbet.base.errors import InternalError
from rabbet.codegen import library, machine
from rabbet.codegen._loader import BadObject, Code, can_load

pytestmark = pytest.mark.skipif(not can_load, reason="LLVM loads objects here")

CALLS = """
@numbers = private constant [4 x i64] [i64 3, i64 5, i64 7, i64 11]
declare i64 @elsewhere(i64)
define i64 @picked(i64 %at) nounwind {
  %place = getelementptr [4 x i64], ptr @numbers, i64 0, i64 %at
  %number = load i64, ptr %place
  ret i64 %number
}
define i64 @asked(i64 %at) nounwind {
  %number = call i64 @picked(i64 %at)
  %found = call i64 @elsewhere(i64 %number)
  %more = add i64 %found, 1
  ret i64 %more
}
"""
FAR = 1 << 46  # no 32 bits lead there
MADE_FOR = (targets.host(), frozenset({"elsewhere"}))


@pytest.fixture(scope="module")
def code() -> bytes:
    return machine._emitted(CALLS, *MADE_FOR)


def function(address: int):
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address)


def test_calls_and_constants(code):
    @ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
    def elsewhere(x):
        return 10 * x

    held = Code([code], {"elsewhere": ctypes.cast(elsewhere, ctypes.c_void_p).value})
    assert set(held.functions) == {"picked", "asked"}
    assert [function(held.functions["picked"])(i) for i in range(4)] == [3, 5, 7, 11]
    assert [function(held.functions["asked"])(i) for i in range(4)] == [31, 51, 71, 111]


def test_what_is_far_is_reached_by_a_jump(code):
    held = Code([code], {"elsewhere": FAR})
    start = min(held.functions.values()) & -4096
    assert bytes((0xFF, 0x25, 0, 0, 0, 0)) + struct.pack("<Q", FAR) in ctypes.string_at(start, 4096)


def test_several_objects_keep_apart(code):
    other = machine._emitted(CALLS.replace("picked", "other").replace("asked", "o2"), *MADE_FOR)
    held = Code([code, other], {"elsewhere": FAR})
    assert function(held.functions["other"])(2) == function(held.functions["picked"])(2) == 7
    assert Code([], {}).functions == {}


def test_sections_lie_as_they_ask(code):
    """Constants of wide vectors at multiples of 128 bytes, behind an object of another length."""
    text = "@wide = private constant [4 x i64] [i64 3, i64 5, i64 7, i64 11], align 128"
    other = CALLS.replace("picked", "other").replace("asked", "o2").split("\n", 2)[2]
    wide = machine._emitted(f"{text}\n{other}".replace("@numbers", "@wide"), *MADE_FOR)
    held = Code([code, wide], {"elsewhere": FAR})
    assert function(held.functions["other"])(3) == 11
    numbers = struct.pack("<4q", 3, 5, 7, 11)
    start = held.functions["picked"] & -4096
    assert ctypes.string_at(start, 4096).rindex(numbers) % 128 == 0


def test_a_function_that_nobody_has(code):
    with pytest.raises(BadObject, match="needs 'elsewhere', which nobody has"):
        Code([code], {})
    with pytest.raises(InternalError, match="objects cannot be loaded"):
        library.Library({"nothing": code})


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads /proc")
def test_the_memory_is_given_back(code):
    def mapped() -> int:
        """Bytes of memory that may be run and is no file's."""
        lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
        ranges = [words[0].split("-") for words in lines if words[1] == "r-xp" and len(words) == 5]
        return sum(int(end, 16) - int(begin, 16) for begin, end in ranges)

    gc.collect()
    before = mapped()
    held = [Code([code], {"elsewhere": FAR}) for _ in range(20)]
    assert mapped() == before + 20 * 4096
    del held
    gc.collect()
    assert mapped() == before


def test_damaged_objects_are_refused_or_harmless(code):
    """Whatever the bytes say, only their own memory is read and written."""
    for length in range(0, len(code), 7):
        with pytest.raises(BadObject):
            Code([code[:length]], {"elsewhere": FAR})
    source = random.Random(0)
    refused = 0
    for _ in range(4000):
        damaged = bytearray(code)
        for _ in range(source.choice((1, 2, 8))):
            damaged[source.randrange(len(code))] = source.choice((0, 255, source.randrange(256)))
        try:
            Code([bytes(damaged)], {"elsewhere": FAR})
        except BadObject:
            refused += 1
    assert refused > 500


def sections(code: bytes) -> list[tuple[int, int]]:
    """Where each section's header lies, and its kind."""
    table, count = struct.unpack_from("<Q", code, 0x28)[0], struct.unpack_from("<H", code, 0x3C)[0]
    places = range(table, table + 64 * count, 64)
    return [(place, struct.unpack_from("<I", code, place + 4)[0]) for place in places]


@pytest.mark.parametrize("kind", [9, 19, 0x40000014])
def test_addresses_of_other_kinds_are_refused(code, kind):
    """Not passed over: unresolved calls would run."""
    damaged = bytearray(code)
    place = next(place for place, found in sections(code) if found == 4)
    struct.pack_into("<I", damaged, place + 4, kind)
    with pytest.raises(BadObject, match=f"addresses are of kind {kind}"):
        Code([bytes(damaged)], {"elsewhere": FAR})


def test_functions_are_code(code):
    """Not constants, nor what lies behind the code, nor nothing."""
    table = next(place for place, found in sections(code) if found == 2)
    start, size = struct.unpack_from("<QQ", code, table + 24)
    headers = [struct.unpack_from("<QQQQ", code, at + 8) for at, _ in sections(code)]
    (length,) = {size for flags, _, _, size in headers if flags & 4 and size}
    functions = [at for at in range(start, start + size, 24) if code[at + 4] == 0x12]
    assert len(functions) == 2
    for at in functions:
        for value, extent in ((length, 1), (0, length + 1), (0, 0), (length - 1, 2)):
            damaged = bytearray(code)
            struct.pack_into("<QQ", damaged, at + 8, value, extent)
            with pytest.raises(BadObject, match="not code"):
                Code([bytes(damaged)], {"elsewhere": FAR})
    constants = bytearray(code)
    for at, _ in sections(code):
        flags = struct.unpack_from("<Q", code, at + 8)[0]
        struct.pack_into("<Q", constants, at + 8, flags & ~4)
    with pytest.raises(BadObject, match="not code"):
        Code([bytes(constants)], {"elsewhere": FAR})


def test_a_name_is_given_once(code):
    with pytest.raises(BadObject, match="'picked' is there twice"):
        Code([code, code], {"elsewhere": FAR})


@pytest.mark.parametrize("wide", [8, 16, 24, 32, 40, 48, 56])
def test_sections_with_wild_numbers(code, wide):
    """Every field of every section header in turn is huge, negative, or off by little."""
    refused = 0
    for place, _ in sections(code):
        for number in (1 << 63, (1 << 64) - 1, (1 << 32) - 1, 1 << 28, len(code), 63, 1):
            damaged = bytearray(code)
            struct.pack_into("<Q", damaged, place + wide, number)
            try:
                Code([bytes(damaged)], {"elsewhere": FAR})
            except BadObject:
                refused += 1
    assert refused > 0 or wide == 16  # the address, which an object has no use for
