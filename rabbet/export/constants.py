"""The constant memory of a native library: weights, and those that products read in panels.

A weight that every version reads in panels alone is not in the library a second time. Panels are
made here, by the meaning of the kernels that pack them: the target may be another machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import numpy as np

from rabbet.export.layout import ALIGNMENT, pack_weights
from rabbet.export.read import ProgramFile
from rabbet.export.versions import Compilation
from rabbet.kernel import interpret
from rabbet.runtime.compile import PackPlan

Key: TypeAlias = tuple[Any, ...]


@dataclass(eq=False)
class Constants:
    """Blocks of memory, each at its offset, and for each version those that follow its inputs.

    The number behind the last block stands for memory that no call reads.
    """

    blocks: list[memoryview] = field(default_factory=list)
    given: list[list[int]] = field(default_factory=list)

    @property
    def offsets(self) -> list[int]:
        """Where each block starts."""
        return pack_weights([len(b) for b in self.blocks])[0]

    def chunks(self) -> list[memoryview]:
        """All bytes in order: the blocks and what aligns them."""
        found: list[memoryview] = []
        for block in self.blocks:
            found += [block, memoryview(bytes(-len(block) % ALIGNMENT))]
        return found

    def add(self, block: memoryview) -> int:
        """The number of a new block."""
        self.blocks.append(block)
        return len(self.blocks) - 1


def constants_of(file: ProgramFile, versions: Sequence[Compilation]) -> Constants:
    """What the library of these versions must hold."""
    found = Constants()
    read = sorted(set().union(*(v.read for v in versions)))
    weights = {n: found.add(file.bytes_of(file.program.weights[n])) for n in read}
    panels: dict[Key, int] = {}
    for pack in (p for v in versions for p in v.packs):
        if _key(pack) not in panels:
            panels[_key(pack)] = found.add(_panels(file, pack))
    unread = len(found.blocks)
    for version in versions:
        numbers = [weights.get(n, unread) for n in version.weights]
        found.given.append([*numbers, *(panels[_key(pack)] for pack in version.packs)])
    return found


def _key(pack: PackPlan) -> Key:
    return (pack.kernel, *pack.constants, *pack.sizes)


def _panels(file: ProgramFile, pack: PackPlan) -> memoryview:
    *read, written = pack.kernel.operands
    arrays = [
        file.array(file.program.weights[n]).reshape(-1).view(operand.dtype.numpy)
        for n, operand in zip(pack.constants, read, strict=True)
    ]
    elements = math.prod(cast("tuple[int, ...]", pack.compiled.outputs[0].shape))
    made = np.zeros(elements, written.dtype.numpy)
    interpret.run(pack.kernel, [*arrays, made], cast("list[int]", pack.sizes))
    return memoryview(made.view("u1").data)
