"""The one file that knows MPI: a Transport over a communicator, and whether there is one."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Any

import numpy as np

from rabbet.base.errors import RabbetError
from rabbet.base.optional import require
from rabbet.distributed.transport import Transport

# Set by mpiexec for each rank: MPICH and Intel MPI, Open MPI, and launchers that speak PMIx.
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
_RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK")


def is_launched() -> bool:
    """True in a process that mpiexec has started."""
    return any(name in os.environ for name in _RANKS)


class MpiTransport(Transport):
    """All ranks that were started together.

    Raises MissingExtra without mpi4py, and RabbetError where mpiexec belongs to another MPI than
    mpi4py: every process would then take itself for the only one.
    """

    def __init__(self) -> None:
        self._mpi = require("mpi4py.MPI", "distributed")
        self._world = self._mpi.COMM_WORLD.Dup()  # so that a program's own messages stay apart
        self.rank: int = self._world.Get_rank()
        self.size: int = self._world.Get_size()
        expected = [int(os.environ[name]) for name in _SIZES if name in os.environ]
        if expected and expected[0] != self.size:
            raise RabbetError(
                f"mpiexec started {expected[0]} processes, mpi4py sees {self.size}: they belong to "
                'different MPIs; use the mpiexec that came with pip install "rabbet[distributed]"'
            )
        if self.size > 1:
            _end_all_on_errors(self._world)
            self._share_cores()

    def _share_cores(self) -> None:
        """Divide the cores among the ranks of this machine, unless the user has said how many."""
        local = self._world.Split_type(self._mpi.COMM_TYPE_SHARED)
        cores = _own_cores()
        sharing = sum(bool(cores & others) for others in local.allgather(cores))
        local.Free()
        # Read when the first program runs; ranks that have computed before keep what they have.
        os.environ.setdefault("RABBET_NUM_THREADS", str(max(1, len(cores) // sharing)))

    def barrier(self) -> None:
        self._world.Barrier()

    def gather_values(self, value: Any) -> list[Any]:
        found: list[Any] = self._world.allgather(value)
        return found

    def exchange(self, parts: list[np.ndarray]) -> list[np.ndarray]:
        sent = np.concatenate([_bytes(part) for part in parts])
        counts = [part.nbytes for part in parts]
        mine = counts[self.rank]
        received = np.empty(mine * self.size, np.uint8)
        byte = self._mpi.BYTE
        self._world.Alltoallv(
            [sent, (counts, _starts(counts)), byte],
            [received, ([mine] * self.size, _starts([mine] * self.size)), byte],
        )
        dtype = parts[0].dtype
        return [piece.view(dtype) for piece in np.split(received, self.size)]

    def gather_parts(self, part: np.ndarray, lengths: list[int]) -> np.ndarray:
        counts = [length * part.itemsize for length in lengths]
        received = np.empty(sum(counts), np.uint8)
        byte = self._mpi.BYTE
        self._world.Allgatherv([_bytes(part), byte], [received, (counts, _starts(counts)), byte])
        return received.view(part.dtype)

    def broadcast(self, array: np.ndarray, root: int) -> None:
        self._world.Bcast([_bytes(array), self._mpi.BYTE], root=root)


def _own_cores() -> frozenset[int]:
    """The cores this process may use; all where the system does not say."""
    affinity = getattr(os, "sched_getaffinity", None)
    return frozenset(affinity(0) if affinity is not None else range(os.cpu_count() or 1))


def _bytes(array: np.ndarray) -> np.ndarray:
    """The memory of a contiguous array; types that MPI has never heard of travel as bytes."""
    return array.reshape(-1).view(np.uint8)


def _starts(counts: list[int]) -> list[int]:
    return [0, *np.cumsum(counts[:-1]).tolist()]


def _end_all_on_errors(world: Any) -> None:
    """An error that ends one rank ends all: the others would wait for it for ever."""
    before = sys.excepthook

    def end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        before(kind, error, trace)
        sys.stdout.flush()
        sys.stderr.flush()
        world.Abort(1)

    sys.excepthook = end
