"""Sequences of several lengths as one tensor (PyTorch's `nn.utils.rnn`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from rabbet.base.errors import RabbetError, ShapeError
from rabbet.base.shapes import show
from rabbet.tensor import Tensor, asarray, from_numpy, functions


def pad_sequence(
    sequences: Sequence[Any],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Sequences (length, ...) side by side, the shorter ones filled up: (longest, batch, ...).

    With `batch_first` (batch, longest, ...). Raises ShapeError where further sizes differ.

    >>> pad_sequence([rb.ones(2), rb.ones(3)], batch_first=True).tolist()
    [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]
    """
    parts = [asarray(s) for s in sequences]
    if not parts or any(not p.ndim or p.shape[1:] != parts[0].shape[1:] for p in parts):
        listed = ", ".join(show(p.shape) for p in parts)
        raise ShapeError(f"pad_sequence: {listed}: sequences that differ in axis 0 alone needed")
    if padding_side not in ("right", "left"):
        raise ValueError(f"pad_sequence: padding_side={padding_side!r} must be 'right' or 'left'")
    longest = max(p.shape[0] for p in parts)
    filled = []
    for p in parts:
        missing = (longest - p.shape[0], *(0,) * (p.ndim - 1))
        none = (0,) * p.ndim
        low, high = (none, missing) if padding_side == "right" else (missing, none)
        filled.append(functions["pad"](p, low, high, none, padding_value))
    return functions["stack"](filled, 0 if batch_first else 1)


def unpad_sequence(padded: Tensor, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The sequences of `pad_sequence` again, from their lengths.

    >>> [s.tolist() for s in unpad_sequence(rb.ones((2, 3)), [1, 3], batch_first=True)]
    [[1.0], [1.0, 1.0, 1.0]]
    """
    rows = padded if batch_first else functions["swapaxes"](padded, 0, 1)
    counts = [int(n) for n in (lengths.tolist() if hasattr(lengths, "tolist") else lengths)]
    return [rows[i, :n] for i, n in enumerate(counts)]


# ---- packed --------------------------------------------------------------------------------------


class PackedSequence(NamedTuple):
    """Sequences of several lengths without filling, step after step, longest sequence first.

    `data` (all elements, ...) holds the first elements of all sequences, then the second of those
    that have one, ...; `batch_sizes` says of how many. Sequence i of the user is number
    `unsorted_indices[i]` in it, and number j in it is the user's `sorted_indices[j]`; both are None
    where the order is the same. Recurrent layers take it and give one.
    """

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None

    def lengths(self) -> np.ndarray:
        """How long each sequence is, longest first."""
        sizes = self.batch_sizes.numpy()
        return (np.arange(sizes[0] if sizes.size else 0)[:, None] < sizes).sum(1)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """The same with `data.to(...)`."""
        return self._replace(data=self.data.to(*args, **kwargs))


def _elements(lengths: np.ndarray, order: np.ndarray, steps: int) -> np.ndarray:
    """Where the packed elements lie in a (batch, steps) rectangle, as numbers of elements."""
    inside = np.arange(steps)[:, None] < lengths[order]
    step, sequence = np.nonzero(inside)
    return order[sequence] * steps + step


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """A padded batch (steps, batch, ...), or (batch, steps, ...) with `batch_first`, packed.

    `lengths` are at least 1. With `enforce_sorted` they must not rise; else sequences are sorted,
    and recurrent layers give states back in the order they came. Reads the lengths.

    >>> x = rb.asarray([[1.0, 2.0], [3.0, 0.0]])
    >>> packed = pack_padded_sequence(x, [2, 1], batch_first=True)
    >>> packed.data.tolist(), packed.batch_sizes.tolist()
    ([1.0, 3.0, 2.0], [2, 1])
    """
    rows = input if batch_first else functions["swapaxes"](input, 0, 1)
    counts = asarray(lengths).numpy().astype(np.int64)
    batch, steps = rows.shape[:2]
    if counts.shape != (batch,) or (batch and (counts.min() < 1 or counts.max() > steps)):
        raise ShapeError(
            f"pack_padded_sequence: lengths {counts.tolist()} must be {batch} numbers "
            f"from 1 to {steps}"
        )
    order = np.argsort(-counts, kind="stable")
    if enforce_sorted and (order != np.arange(batch)).any():
        raise RabbetError(
            f"pack_padded_sequence: lengths {counts.tolist()} rise; sort the sequences, longest "
            "first, or say enforce_sorted=False"
        )
    flat = functions["reshape"](rows, (batch * steps, *rows.shape[2:]))
    longest = int(counts.max(initial=0))
    places = _elements(counts, order, steps)
    sizes = (np.arange(longest)[:, None] < counts).sum(1)
    orders = (None, None) if enforce_sorted else (from_numpy(order), from_numpy(np.argsort(order)))
    return PackedSequence(
        functions["take"](flat, from_numpy(places), 0), from_numpy(sizes), *orders
    )


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """What was packed as a padded batch again, and the lengths, in the order of the user.

    With `total_length` there are so many steps, at least as many as the longest sequence has.

    >>> packed = pack_sequence([rb.ones(2), rb.ones(1)])
    >>> [t.tolist() for t in pad_packed_sequence(packed, batch_first=True)]
    [[[1.0, 1.0], [1.0, 0.0]], [2, 1]]
    """
    lengths = sequence.lengths()
    longest = int(lengths.max(initial=0))
    steps = longest if total_length is None else total_length
    if steps < longest:
        raise ShapeError(f"pad_packed_sequence: total_length={steps}, the longest has {longest}")
    batch, data = len(lengths), sequence.data
    order = np.arange(batch)
    if sequence.unsorted_indices is not None:
        order = sequence.unsorted_indices.numpy()
    # Where each element of the rectangle is in the packed data; behind it one that is padding.
    inverse = np.full(batch * steps, data.shape[0])
    inverse[_elements(lengths, np.arange(batch), steps)] = np.arange(data.shape[0])
    places = inverse.reshape(batch, steps)[order]
    padding = functions["full"](asarray(padding_value, dtype=data.dtype), (1, *data.shape[1:]))
    found = functions["take"](functions["concat"]([data, padding], 0), from_numpy(places), 0)
    if not batch_first:
        found = functions["swapaxes"](found, 0, 1)
    return found, from_numpy(lengths[order])


def pack_sequence(sequences: Sequence[Any], enforce_sorted: bool = True) -> PackedSequence:
    """Sequences (length, ...) packed, as by `pad_sequence` and `pack_padded_sequence`.

    >>> pack_sequence([rb.ones(3), rb.ones(1)]).batch_sizes.tolist()
    [2, 1, 1]
    """
    parts = [asarray(s) for s in sequences]
    lengths = [p.shape[0] for p in parts]
    return pack_padded_sequence(pad_sequence(parts), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(sequence: PackedSequence) -> list[Tensor]:
    """The sequences of `pack_sequence` again.

    >>> [s.tolist() for s in unpack_sequence(pack_sequence([rb.ones(2), rb.ones(1)]))]
    [[1.0, 1.0], [1.0]]
    """
    padded, lengths = pad_packed_sequence(sequence, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)


def turned(x: Tensor, lengths: Tensor) -> Tensor:
    """Each sequence of (steps, batch, features) from its end to its start; what follows stays."""
    step = functions["unsqueeze"](asarray(np.arange(x.shape[0])), 1)
    back = functions["where"](step < lengths, lengths - 1 - step, step)
    index = functions["expand"](functions["unsqueeze"](back, 2), x.shape)
    return functions["take_along_axis"](x, index, 0)


def at_ends(x: Tensor, lengths: Tensor) -> Tensor:
    """The last element of each sequence: (steps, batch, features) -> (batch, features)."""
    index = functions["expand"]((lengths - 1).reshape((1, -1, 1)), (1, *x.shape[1:]))
    return functions["take_along_axis"](x, index, 0)[0]
