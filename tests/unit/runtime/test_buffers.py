"""Buffers: memory, lifetime, borders with NumPy."""

import ctypes
import gc
import weakref

import numpy as np
import pytest

from rabbet.base import dtypes
from rabbet.runtime import _runtime, buffers
from rabbet.runtime._runtime import Buffer


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3)])
@pytest.mark.parametrize("copy", [True, False])
def test_round_trip(dtype: dtypes.DType, shape: tuple[int, ...], copy: bool) -> None:
    array = np.arange(int(np.prod(shape, dtype=int))).reshape(shape).astype(dtype.numpy)
    buffer = buffers.from_numpy(array, copy=copy)
    assert buffer.nbytes == array.nbytes
    assert buffer.foreign == (not copy)
    back = buffers.to_numpy(buffer, shape, dtype)
    assert back.dtype == array.dtype
    assert back.shape == shape
    assert back.tobytes() == array.tobytes()


def test_copy_is_apart_and_wrap_is_not() -> None:
    array = np.arange(6.0)
    copied, shared = buffers.from_numpy(array, copy=True), buffers.from_numpy(array, copy=False)
    array[2] = 99
    assert buffers.to_numpy(copied, (6,), dtypes.float64)[2] == 2
    assert buffers.to_numpy(shared, (6,), dtypes.float64)[2] == 99


def test_any_memory_order_is_copied_in_c_order() -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)[:, ::-1, ::2].T
    buffer = buffers.from_numpy(array, copy=True)
    assert np.array_equal(buffers.to_numpy(buffer, array.shape, dtypes.int16), array)
    with pytest.raises(ValueError, match="C-contiguous"):
        buffers.from_numpy(array, copy=False)


@pytest.mark.parametrize("array", [np.array([None, 1]), np.arange(3, dtype=">i4")])
def test_only_plain_memory(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no plain native memory"):
        buffers.from_numpy(array, copy=True)


def test_views_are_read_only_and_counted() -> None:
    buffer = buffers.from_numpy(np.arange(4, dtype=np.float32))
    view = buffers.to_numpy(buffer, (2, 2), dtypes.float32)
    part = view[1:]
    assert not view.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE|writeable"):
        view.flags.writeable = True
    with pytest.raises(TypeError, match="not writable"):
        (ctypes.c_char * buffer.nbytes).from_buffer(buffer)
    assert buffer.exports == 1
    del view
    assert buffer.exports == 1
    del part
    assert buffer.exports == 0


def test_view_keeps_the_memory() -> None:
    view = buffers.to_numpy(buffers.from_numpy(np.arange(1000)), (1000,), dtypes.int64)
    others = [Buffer(8000) for _ in range(4)]
    for other in others:
        other.fill_from(bytes(8000))
    assert np.array_equal(view, np.arange(1000))


def test_too_small() -> None:
    with pytest.raises(ValueError, match="needs 24 bytes, the buffer has 16"):
        buffers.to_numpy(Buffer(16), (3,), dtypes.float64)


def test_wrap_keeps_its_owner() -> None:
    array = np.arange(4.0)
    died = weakref.ref(array)
    buffer = buffers.from_numpy(array, copy=False)
    view = buffers.to_numpy(buffer, (4,), dtypes.float64)
    del array, buffer
    gc.collect()
    assert died() is not None
    assert view.tolist() == [0, 1, 2, 3]
    del view
    gc.collect()
    assert died() is None


def test_readonly_follows_the_array() -> None:
    array = np.arange(4.0)
    assert not buffers.from_numpy(array, copy=False).readonly
    array.flags.writeable = False
    frozen = buffers.from_numpy(array, copy=False)
    assert frozen.readonly
    with pytest.raises(BufferError, match="read-only"):
        frozen.fill_from(bytes(32))
    assert not buffers.from_numpy(array, copy=True).readonly


def test_fill_from() -> None:
    buffer = Buffer(4)
    buffer.fill_from(b"abcd")
    assert bytes(buffer) == b"abcd"
    buffer.fill_from(memoryview(buffer))
    assert bytes(buffer) == b"abcd"
    for wrong in (b"abc", b"abcde"):
        with pytest.raises(ValueError, match=f"{len(wrong)} bytes into a buffer of 4"):
            buffer.fill_from(wrong)
    with pytest.raises(ValueError, match="contiguous"):
        buffer.fill_from(np.arange(8, dtype=np.uint8)[::2])
    with pytest.raises(TypeError):
        buffer.fill_from(4)  # type: ignore[arg-type]


def test_large_fill() -> None:
    data = np.random.default_rng(0).integers(0, 255, 3 << 20, np.uint8)
    buffer = Buffer(data.nbytes)
    buffer.fill_from(data)
    assert np.array_equal(buffers.to_numpy(buffer, data.shape, dtypes.uint8), data)


@pytest.mark.parametrize("nbytes", [0, 1, 63, 64, 65, 4096, 5_000_000])
def test_alignment(nbytes: int) -> None:
    assert Buffer(nbytes).address % 64 == 0


def test_impossible_sizes() -> None:
    with pytest.raises(MemoryError, match="no memory for a buffer of"):
        Buffer(1 << 60)
    with pytest.raises(ValueError, match="-1 bytes"):
        Buffer(-1)
    with pytest.raises(ValueError, match="8 bytes at address 0"):
        Buffer.wrap(b"owner", 0, 8, False)


def test_freed_memory_is_used_again() -> None:
    buffer = Buffer(100_000)
    address = buffer.address
    del buffer
    cached = _runtime.cached_bytes()
    assert cached >= 100_000
    assert Buffer(100_000).address == address
    _runtime.release_memory()
    assert _runtime.cached_bytes() == 0


def test_live_bytes_go_back() -> None:
    before = _runtime.live_bytes()
    kept = [Buffer(1000) for _ in range(10)]
    assert _runtime.live_bytes() >= before + 10_000
    del kept
    assert _runtime.live_bytes() == before


def test_scalar() -> None:
    for number, dtype in (
        (True, dtypes.bool_),
        (-3, dtypes.int8),
        (2.5, dtypes.bfloat16),
        (1j, dtypes.complex64),
    ):
        buffer = buffers.scalar(number, dtype)
        assert buffer.nbytes == dtype.itemsize
        assert buffers.to_numpy(buffer, (), dtype).item() == number
    with pytest.raises(OverflowError):
        buffers.scalar(300, dtypes.uint8)
