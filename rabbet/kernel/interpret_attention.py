"""What attention kernels mean: tiles of queries and keys, sums in the order of compiled code."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from rabbet.base.dtypes import int64
from rabbet.expr.expr import Expr, acc, const, select, var
from rabbet.expr.interpret import evaluate
from rabbet.kernel import attention
from rabbet.kernel.loops import (
    ATTENTION_STEP,
    ATTENTION_TILE,
    AttentionGradientKernel,
    AttentionKernel,
    Scores,
    Store,
)
from rabbet.kernel.points import Array, Grid, multiply_add


class Attention:
    """All queries of all heads at once; axes are batch, heads, queries, keys, features, values."""

    def __init__(
        self, scores: Scores, buffers: Sequence[Array], sizes: Sequence[int], fused: bool
    ) -> None:
        self.scores, self.buffers, self.sizes, self.fused = scores, buffers, sizes, fused
        s = scores
        self.extents = (*s.batch, s.heads, s.queries, s.keys, s.features, s.values)
        self.lead = len(s.batch)
        grid = Grid(self.extents, buffers, sizes, fused)
        self.shape = (math.prod(grid.shape[: self.lead]), *grid.shape[self.lead :])

    def grid(self, axes: str) -> Grid:
        """The batch axes and some of h, l, s, e, v; the others have one point."""
        one = const(1, int64)
        kept = [e if a in axes else one for a, e in zip("hlsev", self._own(), strict=True)]
        return Grid((*self.scores.batch, *kept), self.buffers, self.sizes, self.fused)

    def _own(self) -> tuple[Expr, ...]:
        return self.extents[self.lead :]

    def read(self, e: Expr, axes: str, accs: Array | None = None) -> Array:
        """An expression as an array with the axes b, h, l, s, e, v, those not named of size 1."""
        grid = self.grid(axes)
        if accs is not None:
            grid.accs[0] = accs.reshape(grid.shape)
        return grid.full(e).reshape(-1, *grid.shape[self.lead :])

    def store(self, stores: Sequence[Store], axes: str, number: int, values: Array) -> None:
        """Run stores with the values as acc(number)."""
        grid = self.grid(axes)
        grid.accs[number] = values.reshape(grid.shape)
        grid.store(stores)

    def apply(self, rule: Callable[..., Expr], *arrays: Array) -> Array:
        """A rule of `kernel/attention.py` on arrays."""
        dtype = self.scores.query.dtype
        e = rule(*(acc(n, dtype) for n in range(len(arrays))))
        return evaluate([e], lambda leaf: arrays[cast("int", leaf.value)], fused=self.fused)[0]

    def chain(self, a: Array, b: Array, axis: int) -> Array:
        """Sum of a * b along an axis (kept with size 1), products in order from 0."""
        a, b = np.broadcast_arrays(a, b)
        total = np.zeros_like(np.take(a, [], axis).sum(axis, keepdims=True))
        for n in range(a.shape[axis]):
            total = multiply_add(a.take([n], axis), b.take([n], axis), total, self.fused)
        return total

    def all_scores(self) -> Array:
        """Every score, (b, h, l, s, 1, 1)."""
        s = self.scores
        products = self.chain(self.read(s.query, "hle"), self.read(s.key, "se"), 4)
        score = s.score
        if s.causal:
            seen = var(self.lead + 2) <= var(self.lead + 1)
            score = select(seen, score, const(-math.inf, score.dtype))
        return self.read(score, "hls", products)

    def tiles(self, extent: int) -> list[slice]:
        """Tiles of queries or keys."""
        return [slice(n, n + ATTENTION_TILE) for n in range(0, extent, ATTENTION_TILE)]

    def seeing(self, keys: slice) -> slice:
        """The queries whose tiles see this tile of keys."""
        return slice(keys.start if self.scores.causal else 0, None)

    def forward(self, kernel: AttentionKernel) -> None:
        """An AttentionKernel."""
        score, value = self.all_scores(), self.read(kernel.value, "sv")
        b, h, queries, keys, _, values = self.shape
        top = np.full((b, h, queries, 1, 1, 1), -math.inf, score.dtype)
        total, result = np.zeros_like(top), np.zeros((b, h, queries, 1, 1, values), score.dtype)
        for tile in self.tiles(keys):
            rows = self.seeing(tile)
            part, old = score[:, :, rows, tile], top[:, :, rows]
            new = old
            for n in range(part.shape[3]):
                new = self.apply(attention.larger, new, part[:, :, :, n : n + 1])
            over = self.apply(attention.base, new)
            p = self.apply(attention.weight, part, over)
            shrink = self.apply(attention.weight, old, over)
            added = self._weighted(p, value[:, :, :, tile])
            summed = self._by_groups(p)
            if tile.start:
                summed = multiply_add(total[:, :, rows], shrink, summed, self.fused)
                added = multiply_add(result[:, :, rows], shrink, added, self.fused)
            top[:, :, rows], total[:, :, rows], result[:, :, rows] = new, summed, added
        self.store(kernel.row_stores, "hl", 1, self.apply(attention.logarithm, top, total))
        self.store(kernel.stores, "hlv", 0, result * self.apply(attention.inverse, total))

    def _weighted(self, p: Array, value: Array) -> Array:
        """Sum of weight * value over a tile's keys, for the queries from its first key on if they
        are causal.
        """
        if not self.scores.causal:
            return self.chain(p, value, 3)
        total = np.zeros((*p.shape[:3], 1, 1, value.shape[5]), p.dtype)
        for n in range(p.shape[3]):
            seen = (slice(None), slice(None), slice(n - n % ATTENTION_STEP, None))
            given = p[seen][:, :, :, n : n + 1], value[:, :, :, n : n + 1]
            total[seen] = multiply_add(*given, total[seen], self.fused)
        return total

    def _by_groups(self, p: Array) -> Array:
        total = np.zeros_like(p[:, :, :, :1])
        for first in range(0, p.shape[3], attention.GROUP):
            group = [p[:, :, :, n : n + 1] for n in range(first, first + attention.GROUP)]
            a, b, c, d = (g if g.shape[3] else np.zeros_like(total) for g in group)
            total = total + ((a + b) + (c + d))
        return total

    def gradient(self, kernel: AttentionGradientKernel) -> None:
        """An AttentionGradientKernel."""
        score, value = self.all_scores(), self.read(kernel.value, "sv")
        query, key = self.read(self.scores.query, "hle"), self.read(self.scores.key, "se")
        gradient = self.read(kernel.gradient, "hlv")
        p = self.apply(attention.weight, score, self.read(kernel.total, "hl"))
        along = self.chain(value, gradient, 5)
        d = self.apply(attention.slope, p, along, self.read(kernel.drop, "hl"))
        b, h, queries, keys, features, values = self.shape
        of_query = np.zeros((b, h, queries, 1, features, 1), score.dtype)
        of_key = np.zeros((b, 1, 1, keys, features, 1), score.dtype)
        of_value = np.zeros((b, 1, 1, keys, 1, values), score.dtype)
        for head in range(h):
            one = slice(head, head + 1)
            for rows in self.tiles(queries):
                for tile in self.tiles(keys):
                    if self.scores.causal and tile.start > rows.start:
                        continue
                    here = (slice(None), one, rows, tile)
                    at_keys = (slice(None), slice(None), slice(None), tile)
                    added = self.chain(d[here], key[at_keys], 3)
                    of_query[:, one, rows] = of_query[:, one, rows] + added if tile.start else added
                    of_key[at_keys] += self.chain(d[here], query[:, one, rows], 2)
                    of_value[at_keys] += self.chain(p[here], gradient[:, one, rows], 2)
        self.store(kernel.query_stores, "hle", 0, of_query)
        self.store(kernel.key_stores, "se", 0, of_key)
        self.store(kernel.value_stores, "sv", 0, of_value)
