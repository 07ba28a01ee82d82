"""The ranks this process belongs to, and collectives on tensors."""

from __future__ import annotations

import numpy as np

from rabbet.base.errors import DTypeError, RabbetError
from rabbet.distributed import mpi
from rabbet.distributed.reduce import COMBINE, PIECE_BYTES, check_same, reduce_array
from rabbet.distributed.transport import SingleTransport, Transport
from rabbet.tensor import Tensor, asarray

_current: Transport | None = None


def init(transport: Transport | None = None) -> None:
    """Join the ranks that `mpiexec` has started; a process on its own is rank 0 of 1.

    A second call does nothing. Every other function calls it where that was not done. An error that
    ends one rank ends all of them.

    Args:
        transport: what connects the ranks, in place of MPI.

    Raises:
        MissingExtra: started by mpiexec, and mpi4py is not installed.
        RabbetError: mpiexec and mpi4py belong to different MPIs.

    Example:
        >>> rb.distributed.init()
        >>> rb.distributed.rank(), rb.distributed.size()
        (0, 1)
    """
    global _current
    if transport is not None:
        _current = transport
    elif _current is None:
        _current = mpi.MpiTransport() if mpi.is_launched() else SingleTransport()


def connection() -> Transport:
    """What connects this process with the other ranks."""
    init()
    assert _current is not None
    return _current


def rank() -> int:
    """The number of this process: 0 to size() - 1."""
    return connection().rank


def size() -> int:
    """How many processes were started together."""
    return connection().size


def barrier() -> None:
    """Wait until all ranks have come here."""
    connection().barrier()


def all_reduce(tensor: Tensor, op: str = "sum") -> Tensor:
    """The sum, mean, max or min over all ranks of a tensor that each of them has.

    A new tensor, with the same bits on all ranks: values are combined in the order of ranks. No
    gradient flows through it.

    Raises:
        ValueError: another op.
        DTypeError: a sum of bools, a mean of integers.
        RabbetError: shapes, dtypes or ops differ between ranks; raised on all of them.
    """
    tensor = asarray(tensor)
    if op not in COMBINE:
        raise ValueError(f"all_reduce: op is {op!r}, not one of {', '.join(COMBINE)}")
    kinds = {"sum": "iufc", "mean": "fc", "max": "biuf", "min": "biuf"}[op]
    if tensor.dtype.kind not in kinds:
        raise DTypeError(f"all_reduce: there is no {op} of {tensor.dtype.name}")
    group = connection()
    check_same(group, "all_reduce", (op, tensor.shape, tensor.dtype.name))
    return asarray(reduce_array(group, tensor.numpy(), op), copy=False)


def broadcast(tensor: Tensor, root: int = 0) -> Tensor:
    """The tensor that rank `root` has, on every rank; a new tensor.

    Raises RabbetError, on all ranks, for shapes or dtypes that differ, or an unknown rank.
    """
    tensor = asarray(tensor)
    group = connection()
    if not 0 <= root < group.size:
        raise RabbetError(f"broadcast: root is {root}; the ranks are 0 to {group.size - 1}")
    check_same(group, "broadcast", (root, tensor.shape, tensor.dtype.name))
    array = np.array(tensor.numpy(), order="C")
    broadcast_array(group, array, root)
    return asarray(array, copy=False)


def broadcast_array(group: Transport, array: np.ndarray, root: int) -> None:
    """Overwrite a contiguous array with that of rank `root`, a piece at a time."""
    flat = array.reshape(-1)
    step = max(1, PIECE_BYTES // flat.itemsize)
    for start in range(0, flat.size, step):
        group.broadcast(flat[start : start + step], root)
