"""What rewritten code calls where the original has `if`, `while`, `and`, `or`, `not` and calls.

A condition that is a tensor, while a call is recorded for export, becomes a recorded choice;
anything else is Python's own business.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from rabbet.base.errors import ExportError
from rabbet.export.jumps import PREFIX
from rabbet.export.merge import Undefined
from rabbet.export.regions import Regions, truth
from rabbet.export.variables import Carried, Reformed, Variables, copies, fill_forms, tensors
from rabbet.graph.value import Builder, lookup
from rabbet.recorder import current
from rabbet.tensor import Tensor
from rabbet.transform.decompose import PrimitiveBuilder

FAILING = ("gather", "scatter", "host", "control", "sort", "contract", "attention", "recurrent")
MOST_SPECULATED = 16  # ops of the right side of `and` that are computed whether needed or not


class Choices:
    """The functions, under the one name that rewritten code knows."""

    Undefined = Undefined
    of = Variables  # `of(...)` in rewritten code: what a statement knows of its variables
    callee: Callable[[Any], Any]  # set by rewrite.py, which makes the rewritten functions

    @staticmethod
    def read(value: Any) -> Any:
        """A variable that may have no value."""
        if isinstance(value, Undefined):
            value.used()
        return value

    @staticmethod
    def surely(flag: Any) -> bool:
        """True where a flag is set, whatever tensors say."""
        return flag is True

    @staticmethod
    def branch(
        test: Any,
        then: Callable[[], None],
        orelse: Callable[[], None],
        variables: Variables,
        fills: bool,
    ) -> None:
        """`if test: then() else: orelse()` for code that assigns `variables`."""
        regions = _recording(test)
        if regions is None:
            return then() if test else orelse()
        variables.allow()
        pred, before = truth(test), variables.get()
        starts = [copies(before) for _ in range(2)]
        ways, ends = [], []
        for start, way in zip(starts, (then, orelse), strict=True):
            with regions.inside(tensors(start)) as region:
                variables.put(start)
                way()
                ends.append(list(variables.get()))
            ways.append(region)
        fill_forms(*ends)
        if_true, if_false = map(variables.apart, ends)
        variables.check_forms(if_true, if_false)
        leaves, labels = (if_true.leaves, if_false.leaves), if_true.labels
        made = regions.choose(pred, ways[0], ways[1], *leaves, labels, fills)
        variables.put(variables.together(made, if_true.forms, before))

    @staticmethod
    def loop(test: Callable[[], Any], body: Callable[[], None], variables: Variables) -> None:
        """`while test(): body()`; from the first test that is a tensor on it is recorded."""
        while True:
            place = current().count
            going = test()
            regions = _recording(going)
            if regions is not None:
                break
            if not going:
                return
            body()
        regions.dropped.append((place, current().count))
        variables.allow()
        before = list(variables.get())
        for _ in range(len(variables.names) + 1):
            place = current().count
            carried = Carried(variables, before)
            start = carried.start
            flags = frozenset(n for n in start.labels if n.startswith(PREFIX))
            try:
                regions.iterate(
                    test, body, start.leaves, carried.get, carried.put, start.labels, flags
                )
                return
            except Reformed as found:
                regions.dropped.append((place, current().count))
                before = found.values
        raise ExportError("export: while: the variables never settle on one form")

    @staticmethod
    def both(is_test: bool, first: Any, *rest: Callable[[], Any]) -> Any:
        """a and b and ...: what comes after a false one is not computed."""
        for later in rest:
            regions = _recording(first)
            if regions is None:
                if not first:
                    return first
                first = later()
            else:
                first = _joined(regions, is_test, first, later, "logical_and")
        return first

    @staticmethod
    def any_of(is_test: bool, first: Any, *rest: Callable[[], Any]) -> Any:
        """a or b or ...."""
        for later in rest:
            regions = _recording(first)
            if regions is None:
                if first:
                    return first
                first = later()
            else:
                first = _joined(regions, is_test, first, later, "logical_or")
        return first

    @staticmethod
    def negated(value: Any) -> Any:
        """not a."""
        return not value if _recording(value) is None else lookup("logical_not")(truth(value))

    @staticmethod
    def pick(test: Any, then: Callable[[], Any], orelse: Callable[[], Any]) -> Any:
        """then() if test else orelse()."""
        regions = _recording(test)
        if regions is None:
            return then() if test else orelse()
        return regions.cond(truth(test), then, orelse, ())

    @staticmethod
    def chained(words: tuple[str, ...], left: Any, first: Any, *rest: Callable[[], Any]) -> Any:
        """a < b < c, each computed once."""
        kept = [first]

        def compare(word: str, later: Callable[[], Any]) -> Any:
            before = kept[-1]
            kept.append(later())
            return getattr(operator, word)(before, kept[-1])

        start = getattr(operator, words[0])(left, first)
        pairs = zip(words[1:], rest, strict=True)
        return Choices.both(True, start, *(lambda w=w, r=r: compare(w, r) for w, r in pairs))


def _recording(test: Any) -> Regions | None:
    """The recording that a condition belongs to; None where Python can decide."""
    if isinstance(test, Undefined):
        test.used()
    if not isinstance(test, Tensor) or current().interpreter is not None:
        return None
    found: Regions | None = getattr(current().capture, "regions", None)
    return found


def _joined(
    regions: Regions, is_test: bool, first: Tensor, later: Callable[[], Any], word: str
) -> Any:
    """`first and later()` or `first or later()` of tensors."""
    with regions.inside(()) as region:
        second = later()
    plain = isinstance(second, bool) or isinstance(second, Tensor) and _is_truth(second)
    if plain and _is_truth(first) and _is_harmless(region):
        return lookup(word)(first, second)
    regions.drop(region)

    def needed() -> Any:
        value = later()
        if not is_test:
            return value
        return truth(value) if isinstance(value, Tensor) else bool(value)

    is_and = word == "logical_and"

    def known() -> Any:
        return not is_and if is_test else first

    if is_and:
        return regions.cond(truth(first), needed, known, ())
    return regions.cond(truth(first), known, needed, ())


def _is_truth(x: Tensor) -> bool:
    return x.dtype.kind == "b" and x.shape == ()


def _is_harmless(region: Any) -> bool:
    """True where computing a region in vain costs little and cannot fail."""
    nodes = current().nodes[region.start : region.stop]
    if len(nodes) > MOST_SPECULATED:
        return False
    for node in nodes:
        builder: Builder = PrimitiveBuilder()
        if node.op.kind in FAILING:
            return False
        given = tuple(builder.input(n.specs[i]) for n, i in node.inputs)
        builder.apply(node.op, given, node.attrs, node.form)
        if any(call.op.kind in FAILING for call in builder.table.values()):
            return False
    return True
