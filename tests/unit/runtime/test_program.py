"""Programs: what a plan computes, how it is refused, what is remembered."""

import gc
import struct
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbet.base import dtypes
from rabbet.base.errors import ShapeError
from rabbet.runtime import buffers
from rabbet.runtime._runtime import Buffer, GuardError, IndexFailure, Program, ProgramError
from rabbet.runtime.plan import Plan

LARGEST = 2**63 - 1


def ints(*values: int) -> Buffer:
    return buffers.from_numpy(np.array(values, np.int64))


def values(buffer: Buffer) -> list[int]:
    return buffers.to_numpy(buffer, (buffer.nbytes // 8,), dtypes.int64).tolist()


def chain(plan: Any, kernels: Any) -> Any:
    """out = (x * 3 + y) * 2 + y over n elements, half of it in the arena; n's expression."""
    n = plan.symbol()
    size = plan.expr("*", n, plan.const(8))
    x, y = plan.buffer("input", size), plan.buffer("input", size)
    middle, out = plan.buffer("arena", size, (0, 1)), plan.buffer("output", size)
    plan.call(kernels.axpy, n, [x, y, middle], [plan.const(3)])
    plan.call(kernels.axpy, n, [middle, y, out], [plan.const(2)])
    return n


def test_computes(plan: Any, kernels: Any) -> None:
    chain(plan, kernels)
    program = plan.program()
    assert (program.n_symbols, program.n_inputs, program.n_outputs, program.n_calls) == (1, 2, 1, 2)
    for n in (0, 1, 5, 1000):
        bound = program.bind((n,))
        assert bound.input_bytes == [8 * n, 8 * n]
        assert bound.output_bytes == [8 * n]
        out = Buffer(8 * n)
        bound.run([ints(*range(n)), ints(*range(n, 2 * n))], [out])
        assert values(out) == [(i * 3 + n + i) * 2 + n + i for i in range(n)]


def test_sequences_and_reuse(plan: Any, kernels: Any) -> None:
    chain(plan, kernels)
    bound = plan.program().bind([2])
    out = Buffer(16)
    for i in range(100):
        bound.run((ints(i, 1), ints(0, 1)), (out,))
        assert values(out) == [6 * i, 9]


def test_donation(plan: Any, kernels: Any) -> None:
    """An output in an input's memory."""
    n = plan.symbol()
    size = plan.expr("*", n, plan.const(8))
    x = plan.buffer("input", size)
    out = plan.buffer("output", size, alias=x)
    plan.call(kernels.axpy, n, [x, x, out], [plan.const(1)])
    plan.commit_call = 0
    state = ints(1, 2, 3)
    bound = plan.program().bind((3,))
    for _ in range(3):
        bound.run([state], [state])
    assert values(state) == [8, 16, 24]


def test_constants(plan: Any, kernels: Any) -> None:
    size = plan.const(16)
    x, out = plan.buffer("input", size), plan.buffer("output", size)
    weights = ints(10, 20)
    w = plan.constant(weights, size)
    plan.call(kernels.axpy, plan.const(2), [x, w, out], [plan.const(1)])
    program = plan.program()
    del weights
    plan.constants.clear()
    gc.collect()
    out_buffer = Buffer(16)
    program.bind(()).run([ints(1, 2)], [out_buffer])
    assert values(out_buffer) == [11, 22]


def test_constant_too_small(plan: Any, kernels: Any) -> None:
    w = plan.constant(ints(1), plan.const(16))
    plan.call(kernels.nothing, plan.const(1), [w])
    with pytest.raises(ProgramError, match="constant 0 has 8 bytes, 16 are needed"):
        plan.program().bind(())


def test_bound_outlives_program(plan: Any, kernels: Any) -> None:
    chain(plan, kernels)
    program = plan.program()
    bound, died = program.bind((1,)), weakref.ref(program)
    del program
    gc.collect()
    out = Buffer(8)
    bound.run([ints(1), ints(2)], [out])
    assert values(out) == [12]
    del bound
    gc.collect()
    assert died() is None


def test_owner_of_code_is_kept(plan: Any, kernels: Any) -> None:
    class Code:
        pass

    code = Code()
    died = weakref.ref(code)
    chain(plan, kernels)
    words = struct.pack(f"<{len(plan.words())}q", *plan.words())
    bound = Program(words, plan.kernels, [], code).bind((1,))
    del code
    gc.collect()
    assert died() is not None
    del bound
    gc.collect()
    assert died() is None


# ---- arguments -----------------------------------------------------------------------------------


def test_wrong_arguments(plan: Any, kernels: Any) -> None:
    chain(plan, kernels)
    program = plan.program()
    bound = program.bind((2,))
    good, out = ints(1, 2), Buffer(16)
    refused: list[tuple[Any, Any, type[Exception], str]] = [
        ([good], [out], ProgramError, "the program has 2 inputs, 1 were given"),
        ([good, good], [], ProgramError, "the program has 1 outputs, 0 were given"),
        ([good, ints(1)], [out], ProgramError, "input 1 has 8 bytes, the program needs 16"),
        ([good, good], [Buffer(15)], ProgramError, "output 0 has 15 bytes, the program needs 16"),
        ([good, b"1234567812345678"], [out], TypeError, "input 1 is a bytes, not a Buffer"),
        (3, [out], TypeError, "not iterable"),
    ]
    for inputs, outputs, error, text in refused:
        with pytest.raises(error, match=text):
            bound.run(inputs, outputs)
    for symbols in ((), (1, 2)):
        with pytest.raises(ProgramError, match=f"has 1 symbols, {len(symbols)} values"):
            program.bind(symbols)


def test_symbols_are_integers(plan: Any, kernels: Any) -> None:
    chain(plan, kernels)
    program = plan.program()
    for symbols, error in (
        ((2.5,), TypeError),
        (("n",), TypeError),
        (7, TypeError),
        ((2**63,), OverflowError),
    ):
        with pytest.raises(error):
            program.bind(symbols)
    assert program.bind(np.array([3])).output_bytes == [24]


def test_read_only_outputs_are_refused(plan: Any, kernels: Any) -> None:
    chain(plan, kernels)
    array = np.zeros(2, np.int64)
    array.flags.writeable = False
    frozen = buffers.from_numpy(array, copy=False)
    bound = plan.program().bind((2,))
    with pytest.raises(ProgramError, match="output 0 is read-only"):
        bound.run([frozen, frozen], [frozen])


# ---- sizes ---------------------------------------------------------------------------------------

operands = st.one_of(st.integers(-20, 20), st.integers(-(2**63), LARGEST))


def reference(opcode: str, a: int, b: int) -> int | None:
    """The value by Python's unbounded integers; None where it is refused."""
    if opcode in ("//", "%"):
        if b == 0 or (a == -(2**63) and b == -1):
            return None
        return a // b if opcode == "//" else a % b
    functions = {"+": a + b, "-": a - b, "*": a * b, "max": max(a, b), "min": min(a, b)}
    value = functions[opcode]
    return value if -(2**63) <= value <= LARGEST else None


@given(opcode=st.sampled_from(["+", "-", "*", "//", "%", "max", "min"]), a=operands, b=operands)
def test_arithmetic(new_plan: Any, kernels: Any, opcode: str, a: int, b: int) -> None:
    plan = new_plan()
    left, right = plan.symbol(), plan.symbol()
    value = plan.expr(opcode, left, right)
    out = plan.buffer("output", plan.const(8))
    plan.call(kernels.show_sizes, plan.const(1), [out], [plan.const(1), value])
    expected = reference(opcode, a, b)
    program, result = plan.program(), Buffer(8)
    if expected is None:
        with pytest.raises(ProgramError, match="size expression 2 overflows or divides by zero"):
            program.bind((a, b))
        return
    program.bind((a, b)).run([], [result])
    assert values(result) == [expected]


@pytest.mark.parametrize(
    ("relation", "holding"),
    [
        ("==", [0]),
        ("!=", [-(2**63), -1, 1, LARGEST]),
        ("<", [-1, -(2**63)]),
        (">=", [0, 1, LARGEST]),
    ],
)
def test_guards(plan: Any, relation: str, holding: list[int]) -> None:
    plan.guard(relation, plan.symbol())
    program = plan.program()
    for value in (-(2**63), -1, 0, 1, LARGEST):
        if value in holding:
            program.bind((value,))
        else:
            with pytest.raises(
                GuardError, match=f"guard 0 does not hold: its expression is {value}"
            ):
                program.bind((value,))


def test_guards_speak_before_arithmetic(plan: Any) -> None:
    n = plan.symbol()
    plan.expr("//", plan.const(6), n)
    plan.guard("!=", n)
    program = plan.program()
    with pytest.raises(GuardError):
        program.bind((0,))
    program.bind((4,))


@pytest.mark.parametrize("what", ["tasks", "cost", "scratch", "bytes", "arena"])
def test_negative_sizes(plan: Any, kernels: Any, what: str) -> None:
    n, one = plan.symbol(), plan.const(1)
    named = {"tasks": one, "cost": one, "scratch": one, "bytes": one, "arena": one} | {what: n}
    out, kept = plan.buffer("output", named["bytes"]), plan.buffer("arena", named["arena"])
    cost, scratch = named["cost"], named["scratch"]
    plan.call(kernels.nothing, named["tasks"], [out, kept], cost=cost, scratch=scratch)
    program = plan.program()
    program.bind((0,))
    with pytest.raises(ProgramError, match="-5"):
        program.bind((-5,))


def test_sizes_beyond_memory(plan: Any, kernels: Any) -> None:
    size, n = plan.symbol(), plan.const(1)
    middle = plan.buffer("arena", size)
    plan.call(kernels.nothing, n, [middle, plan.buffer("arena", size)], scratch=plan.const(2**61))
    program = plan.program()
    with pytest.raises(ProgramError, match="too large"):
        program.bind((LARGEST - 7,))
    with pytest.raises(ProgramError, match="overflow"):
        program.bind((LARGEST - 200,))
    with pytest.raises((ProgramError, MemoryError), match="scratch"):
        program.bind((64,)).run([], [])


# ---- memory --------------------------------------------------------------------------------------


def test_arena_is_reused(plan: Any, kernels: Any) -> None:
    size = plan.expr("*", plan.symbol(), plan.const(8))
    one = plan.const(1)
    steps = [plan.buffer("arena", size, (i, min(i + 1, 7))) for i in range(8)]
    for i in range(8):
        plan.call(kernels.nothing, one, steps[max(i - 1, 0) : i + 1])
    bound = plan.program().bind((1000,))
    assert bound.unshared_bytes == 8 * 8000
    assert bound.arena_bytes == bound.live_bytes == 2 * 8000
    assert {bound.place(i) for i in steps} == {(0, 8000), (8000, 8000)}
    with pytest.raises(IndexError):
        bound.place(8)


def test_sharing_buffers(plan: Any, kernels: Any) -> None:
    """A buffer in another's memory: the larger size, the joint lifetime."""
    small, large, one = plan.const(100), plan.const(1000), plan.const(1)
    first = plan.buffer("arena", small, (0, 1))
    between = plan.buffer("arena", small, (1, 1))
    second = plan.buffer("arena", large, (2, 2), first)
    for used in ([first], [first, between], [second]):
        plan.call(kernels.nothing, one, used)
    bound = plan.program().bind(())
    assert bound.place(first)[0] == bound.place(second)[0]
    assert bound.arena_bytes == 1024 + 128
    offset = bound.place(between)[0]
    start = bound.place(first)[0]
    assert offset + 128 <= start or offset >= start + 1024


def test_many_sizes(plan: Any, kernels: Any) -> None:
    """More than are remembered, in orders that find them and that do not."""
    chain(plan, kernels)
    program = plan.program()
    sizes = list(range(1, 41))
    for n in [*sizes, *reversed(sizes), *sizes]:
        out = Buffer(8 * n)
        program.bind((n,)).run([ints(*range(n)), ints(*range(n))], [out])
        assert values(out) == [9 * i for i in range(n)]


def test_scratch(plan: Any, kernels: Any) -> None:
    size = plan.const(8 * 64)
    out = plan.buffer("output", size)
    cost = plan.const(1 << 30)
    plan.call(kernels.show_scratch, plan.const(64), [out], cost=cost, scratch=plan.const(1000))
    result = Buffer(8 * 64)
    plan.program().bind(()).run([], [result])
    addresses = set(values(result))
    assert all(a % 64 == 0 for a in addresses)
    assert all(abs(a - b) >= 1000 for a in addresses for b in addresses if a != b)


# ---- failures ------------------------------------------------------------------------------------


def gather(plan: Any, kernels: Any, *, commit: int, cost: int = 1 << 26) -> Any:
    """out = table[index], then state = state + state."""
    n = plan.const(1000)
    size, three = plan.const(8000), plan.const(24)
    table, index = plan.buffer("input", three), plan.buffer("input", size)
    state = plan.buffer("input", three)
    out, new_state = plan.buffer("output", size), plan.buffer("output", three, alias=state)
    price = plan.const(cost)
    sizes = [plan.const(3)]
    plan.call(kernels.gather, n, [table, index, out], sizes, cost=price, can_fail=True)
    plan.call(kernels.axpy, plan.const(3), [state, state, new_state], [plan.const(1)])
    plan.commit_call = commit
    return plan.program().bind(())


@pytest.mark.parametrize("cost", [0, 1 << 30])
def test_index_failure_before_commit(plan: Any, kernels: Any, cost: int) -> None:
    bound = gather(plan, kernels, commit=1, cost=cost)
    index = np.zeros(1000, np.int64)
    index[[300, 301, 999]] = [-4, 3, 17]
    state = ints(1, 2, 3)
    arguments = [ints(5, 6, 7), buffers.from_numpy(index), state]
    for _ in range(20):
        with pytest.raises(IndexFailure) as caught:
            bound.run(arguments, [Buffer(8000), state])
        failure = caught.value
        assert (failure.call, failure.element, failure.value) == (0, 300, -4)
        assert failure.args == (0, 300, -4, 3) and failure.extent == 3
        assert not failure.committed
    assert values(state) == [1, 2, 3]


def test_index_failure_after_commit(plan: Any, kernels: Any) -> None:
    bound = gather(plan, kernels, commit=0)
    state = ints(1, 2, 3)
    index = buffers.from_numpy(np.full(1000, 3))
    with pytest.raises(IndexFailure) as caught:
        bound.run([ints(5, 6, 7), index, state], [Buffer(8000), state])
    assert caught.value.committed
    assert values(state) == [2, 4, 6]


def test_nothing_is_committed_in_fresh_memory(plan: Any, kernels: Any) -> None:
    bound = gather(plan, kernels, commit=0)
    assert bound.donors == [-1, 2]
    state, index = ints(1, 2, 3), buffers.from_numpy(np.full(1000, 3))
    with pytest.raises(IndexFailure) as caught:
        bound.run([ints(5, 6, 7), index, state], [Buffer(8000), Buffer(24)])
    assert not caught.value.committed
    assert values(state) == [1, 2, 3]


def test_a_copy_in_place_is_nothing(plan: Any, kernels: Any) -> None:
    """The call is not made where it would only write what it has read."""
    size = plan.const(16)
    x, out = plan.buffer("input", size), plan.buffer("output", size, alias=0)
    plan.call(kernels.axpy, plan.const(2), [x, out], [plan.const(1)], copy=True)
    bound = plan.program().bind(())
    state = ints(1, 2)
    bound.run([state], [state])
    assert values(state) == [1, 2]


def test_no_failure(plan: Any, kernels: Any) -> None:
    bound = gather(plan, kernels, commit=1)
    out, state = Buffer(8000), ints(1, 2, 3)
    bound.run([ints(5, 6, 7), buffers.from_numpy(np.full(1000, 2)), state], [out, state])
    assert set(values(out)) == {7}
    assert values(state) == [2, 4, 6]


def test_profile(plan: Any, kernels: Any) -> None:
    out, one = plan.buffer("output", plan.const(8)), plan.const(1)
    for wait in (0, 2_000_000):
        plan.call(kernels.work_ns, one, [out], [plan.const(wait)])
    times = plan.program().bind(()).profile([], [ints(0)])
    assert len(times) == 2
    assert 0 <= times[0] < 2_000_000 <= times[1]


# ---- plans that are refused ----------------------------------------------------------------------


def edit(plan: Any, changes: dict[int, int]) -> bytes:
    """The plan's words with some replaced; negative positions count from the end."""
    words = plan.words()
    for position, value in changes.items():
        words[position] = value
    return struct.pack(f"<{len(words)}q", *words)


# The plan of `chain`: 16 words, 5 expressions and 2 zeros each call adds, 4 buffers, 2 calls.
REFUSED = [
    ({0: 0}, "does not begin with RABBETP1"),
    ({1: 2}, "version 2"),
    ({2: 5}, "its header says 5 words"),
    ({3: -1}, "count -1 in word 3"),
    ({4: 1 << 40}, "in word 4 is out of range"),
    ({4: 1 << 19}, "cannot hold what its header counts"),
    ({7: 1, 12: 1}, "lives from call 0 to 1 of 1"),
    ({8: 0}, "buffer 0 has number 0 of 0"),
    ({10: 1}, "it has 1 constants, 0 were given"),
    ({11: 2}, "it has 2 kernels, 1 were given"),
    ({12: 3}, "commit call 3 of 2 calls"),
    ({12: -1}, "commit call -1 of 2 calls"),
    ({15: 1}, "reserved words"),
    ({16: 9}, "expression 0 has opcode 9"),
    ({17: 1}, "expression 0 names symbol 1 of 1"),
    ({23: 2}, "operands 2 and 1, not earlier ones"),
    ({24: -1}, "operands 0 and -1, not earlier ones"),
]


@pytest.mark.parametrize(("changes", "text"), REFUSED)
def test_refused_words(plan: Any, kernels: Any, changes: dict[int, int], text: str) -> None:
    chain(plan, kernels)
    with pytest.raises(ProgramError, match=text):
        Program(edit(plan, changes), plan.kernels, [])


# Where records of `chain` start, to change one field of one of them.
BUFFERS = 16 + 3 * 8
CALLS = BUFFERS + 4 * 6
REFUSED_RECORDS = [
    (BUFFERS + 0, 4, "buffer 0 is of kind 4"),
    (BUFFERS + 1, 2, "buffer 0 has number 2 of 2"),
    (BUFFERS + 2, 99, "buffer 0 has size expression 99"),
    (BUFFERS + 5, 0, "shares memory with 0, not an earlier one"),
    (BUFFERS + 11, 0, "buffer 1 shares memory with 0, of another kind or number"),
    (BUFFERS + 13, 0, "arena buffer 2 has number 0"),
    (BUFFERS + 16, 2, "lives from call 0 to 2 of 2"),
    (BUFFERS + 15, 2, "lives from call 2 to 1"),
    (BUFFERS + 16, 0, "call 1 uses buffer 2, which lives from call 0 to 0"),
    (CALLS + 0, 1, "call 0 names kernel 1"),
    (CALLS + 1, -1, "call 0 names an expression out of range"),
    (CALLS + 2, 99, "call 0 names an expression out of range"),
    (CALLS + 3, 99, "call 0 names an expression out of range"),
    (CALLS + 4, 4, "call 0 has flags 4"),
    (CALLS + 5, -1, "call 0 has -1 buffers"),
    (CALLS + 5, 1 << 62, "call 0 has 4611686018427387904 buffers"),
    (CALLS + 6, 1 << 62, "and 4611686018427387904 sizes"),
    (CALLS + 7, 4, "call 0 names buffer 4"),
    (CALLS + 10, 99, "call 0 has size expression 99"),
]


@pytest.mark.parametrize(("position", "value", "text"), REFUSED_RECORDS)
def test_refused_records(plan: Any, kernels: Any, position: int, value: int, text: str) -> None:
    chain(plan, kernels)
    assert len(plan.exprs) == 7 or len(plan.exprs) == 8
    shift = 3 * (len(plan.exprs) - 8)
    with pytest.raises(ProgramError, match=text):
        Program(edit(plan, {position + shift: value}), plan.kernels, [])


def test_refused_lengths(plan: Any, kernels: Any) -> None:
    chain(plan, kernels)
    words = edit(plan, {})
    with pytest.raises(ProgramError, match="are not whole words"):
        Program(words[:-1], plan.kernels, [])
    with pytest.raises(ProgramError, match="fewer than a header"):
        Program(words[:64], plan.kernels, [])
    count = len(words) // 8
    longer = edit(plan, {2: count + 1}) + bytes(8)
    with pytest.raises(ProgramError, match="1 words follow its end"):
        Program(longer, plan.kernels, [])
    for cut in range(1, count - 16):
        with pytest.raises(ProgramError):
            Program(edit(plan, {2: count - cut})[: -8 * cut], plan.kernels, [])
    with pytest.raises(ProgramError, match="kernel 0 has no address"):
        Program(words, [0], [])


@given(st.data())
def test_random_changes(new_plan: Any, kernels: Any, data: st.DataObject) -> None:
    """Any words: an error, or a run of kernels that do nothing."""
    plan = new_plan()
    chain(plan, kernels)
    words = plan.words()
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(words) - 1))
        words[position] = data.draw(st.one_of(st.integers(-3, 12), operands))
    try:
        program = Program(struct.pack(f"<{len(words)}q", *words), [kernels.nothing], [])
        bound = program.bind((3,) * program.n_symbols)
    except (ProgramError, GuardError, MemoryError):
        return
    sizes = [*bound.input_bytes, *bound.output_bytes]
    if max([0, bound.arena_bytes, *sizes]) < 1 << 20 and len(sizes) < 100:
        bound.run([Buffer(n) for n in bound.input_bytes], [Buffer(n) for n in bound.output_bytes])


def test_numbers_of_a_plan_have_64_bits() -> None:
    plan = Plan(None)
    plan.expr(-1 << 63)
    plan.words()
    plan.expr(1 << 63)
    with pytest.raises(ShapeError, match="beyond 64 bits"):
        plan.words()
