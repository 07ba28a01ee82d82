"""One declaration for signals, images and volumes: conv1d, conv2d and conv3d of one function."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from rabbet.graph.op import Op, op

_AXES = {1: "L", 2: "HW", 3: "DHW"}


def op_by_rank(
    name: str,
    *,
    reference: Callable[..., Any],
    samples: Callable[[int], Any],
    gradient: Callable[..., Any] | None = None,
    **fields: Any,
) -> Callable[[Callable[..., Any]], tuple[Op, Op, Op]]:
    """Declare a composite and its siblings for 1, 2 and 3 spatial axes, none of them methods.

    The function, `reference`, `samples` and `gradient` take the rank first; else all is as in `op`.
    In the name and the documentation `<n>` is the rank, and other things in angle brackets stand
    there once per axis, `L` for its letter: "(N, C, <L'>)" is "(N, C, H', W')" for images.
    """

    def declare(function: Callable[..., Any]) -> tuple[Op, Op, Op]:
        def of(rank: int) -> Op:
            body: Any = partial(function, rank)
            body.__name__ = spelled(name, rank)
            body.__doc__ = spelled(function.__doc__ or "", rank)
            body.__module__ = function.__module__
            meaning = {"reference": partial(reference, rank), "samples": partial(samples, rank)}
            made = op("composite", method=None, **meaning, **fields)(body)
            if gradient is not None:
                made.gradient(partial(gradient, rank))
            return made

        return of(1), of(2), of(3)

    return declare


def spelled(text: str, rank: int) -> str:
    """`text` with what it says in angle brackets written out for `rank` axes."""

    def written(found: re.Match[str]) -> str:
        if found[1] == "n":
            return str(rank)
        return ", ".join(found[1].replace("L", letter) for letter in _AXES[rank])

    return re.sub(r"<([\w']+)>", written, text)
