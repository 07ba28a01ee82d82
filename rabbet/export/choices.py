"""What rewritten code calls where the original has `if`, `while`, `and`, `or`, `not` and calls.

A condition that is a tensor, while a call is recorded for export, becomes a recorded choice;
anything else is Python's own business.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from rabbet.base import tree
from rabbet.base.errors import ExportError
from rabbet.export.jumps import PREFIX
from rabbet.export.merge import Undefined, same_value
from rabbet.export.regions import Regions, truth
from rabbet.graph.value import Builder, lookup
from rabbet.recorder import current
from rabbet.tensor import Tensor, site
from rabbet.transform.decompose import PrimitiveBuilder

FAILING = ("gather", "scatter", "host", "control", "sort", "contract", "attention", "recurrent")
MOST_SPECULATED = 16  # ops of the right side of `and` that are computed whether needed or not

Get = Callable[[], tuple[Any, ...]]
Put = Callable[[Sequence[Any]], None]


class Choices:
    """The functions, under the one name that rewritten code knows."""

    Undefined = Undefined
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
        get: Get,
        put: Put,
        names: tuple[str, ...],
        live: tuple[bool, ...],
        items: tuple[bool, ...],
        forbidden: str,
        fills: bool,
    ) -> None:
        """`if test: then() else: orelse()` for code that assigns the variables `names`."""
        regions = _recording(test)
        if regions is None:
            return then() if test else orelse()
        _allow("if", forbidden, get(), names, items)
        pred, before = truth(test), get()
        copies = [_copies(before) for _ in range(2)]
        with regions.inside(_tensors(copies[0])) as first:
            put(copies[0])
            then()
            if_true = list(get())
        with regions.inside(_tensors(copies[1])) as second:
            put(copies[1])
            orelse()
            if_false = list(get())
        _fill_forms(if_true, if_false)
        leaves, forms, labels = _taken_apart(if_true, names, live)
        others, other_forms, _ = _taken_apart(if_false, names, live)
        _same_forms(names, live, forms, other_forms, "if")
        made = regions.choose(pred, first, second, leaves, others, labels, fills)
        put(_put_together(made, forms, before, names, live))

    @staticmethod
    def loop(
        test: Callable[[], Any],
        body: Callable[[], None],
        get: Get,
        put: Put,
        names: tuple[str, ...],
        live: tuple[bool, ...],
        items: tuple[bool, ...],
        forbidden: str,
    ) -> None:
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
        _allow("while", forbidden, get(), names, items)
        before = list(get())
        for _ in range(len(names) + 1):
            place = current().count
            variables = _Variables(get, put, names, live, before)
            flags = frozenset(n for n in variables.labels if n.startswith(PREFIX))
            try:
                regions.iterate(
                    test,
                    body,
                    variables.leaves,
                    variables.get_leaves,
                    variables.put_leaves,
                    variables.labels,
                    flags,
                )
                return
            except _Reformed as found:
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


def _allow(
    word: str,
    forbidden: str,
    values: Sequence[Any],
    names: Sequence[str],
    items: Sequence[bool],
) -> None:
    """Refuse what a recorded branch cannot do."""
    for name, value, changed in zip(names, values, items, strict=True):
        if changed and not isinstance(value, Tensor):
            forbidden = forbidden or f"assigning an element of {name!r}, which is no tensor,"
    if forbidden:
        explicit = "rb.cond(condition, f, g, *operands)"
        if word == "while":
            explicit = "rb.while_loop(condition, body, start)"
        raise ExportError(
            f"export: {forbidden} under `{word}` with a tensor as its condition cannot be exported;"
            f" compute new values there only, or write {explicit}"
            f"\n  at {site.describe(site.user_site())}"
        )


def _copies(values: Sequence[Any]) -> list[Any]:
    """The same values in handles of their own, which may be updated in place."""

    def copy(x: Any) -> Any:
        return Tensor(x._node, x._index) if isinstance(x, Tensor) else x

    return [tree.map_leaves(copy, v, registered=False) for v in values]


def _tensors(values: Sequence[Any]) -> list[Any]:
    return [x for x in tree.flatten(list(values), registered=False)[0] if isinstance(x, Tensor)]


class _Reformed(Exception):
    """A variable without a value before a loop has a tree of values after it: start with those."""

    def __init__(self, values: list[Any]) -> None:
        super().__init__()
        self.values = values


class _Variables:
    """The variables of a loop as leaves."""

    def __init__(
        self,
        get: Get,
        put: Put,
        names: Sequence[str],
        live: Sequence[bool],
        before: Sequence[Any],
    ) -> None:
        self.get, self.put, self.names, self.live = get, put, names, live
        self.before = before
        put(_copies(before))
        self.leaves, self.forms, self.labels = _taken_apart(get(), names, live)

    def get_leaves(self) -> list[Any]:
        """The leaves now; _Reformed where a variable has got a tree since."""
        ended, wider = list(self.get()), list(self.before)
        _fill_forms(wider, ended)
        found, now, _ = _taken_apart(ended, self.names, self.live)
        if _taken_apart(wider, self.names, self.live)[1] != self.forms:
            raise _Reformed(wider)
        _same_forms(self.names, self.live, self.forms, now, "while")
        return found

    def put_leaves(self, values: Sequence[Any]) -> None:
        """Give the variables these leaves."""
        self.put(_put_together(values, self.forms, self.before, self.names, self.live))


def _fill_forms(some: list[Any], others: list[Any]) -> None:
    """Where a variable has no value in one list and a tree in the other: a tree of no values."""
    for mine, theirs in ((some, others), (others, some)):
        for i, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            if isinstance(a, Undefined) and not isinstance(b, Undefined):
                leaves, form = tree.flatten(b, registered=False)
                mine[i] = tree.unflatten(form, [a] * len(leaves))


def _taken_apart(
    values: Sequence[Any], names: Sequence[str], live: Sequence[bool]
) -> tuple[list[Any], list[tree.Structure], list[str]]:
    """The leaves of the variables that are read later, the form of each, a name for each leaf."""
    leaves: list[Any] = []
    forms, labels = [], []
    for name, value, is_read in zip(names, values, live, strict=True):
        if not is_read:
            continue
        found, form = tree.flatten(value, registered=False)
        leaves += found
        forms.append(form)
        labels += [name] if form.kind is None else [f"{name}, part {i}" for i in range(len(found))]
    return leaves, forms, labels


def _put_together(
    leaves: Sequence[Any],
    forms: Sequence[tree.Structure],
    before: Sequence[Any],
    names: Sequence[str],
    live: Sequence[bool],
) -> list[Any]:
    rest, shapes = iter(leaves), iter(forms)
    made = []
    for name, is_read, old in zip(names, live, before, strict=True):
        if not is_read:
            made.append(Undefined(name, "nothing read it"))
            continue
        form = next(shapes)
        count = _leaves_of(form)
        value = tree.unflatten(form, [next(rest) for _ in range(count)])
        made.append(old if same_value(value, old) else value)
    return made


def _leaves_of(form: tree.Structure) -> int:
    return 1 if form.kind is None else sum(map(_leaves_of, form.children))


def _same_forms(
    names: Sequence[str],
    live: Sequence[bool],
    one: Sequence[tree.Structure],
    other: Sequence[tree.Structure],
    word: str = "if",
) -> None:
    read = [n for n, is_read in zip(names, live, strict=True) if is_read]
    for name, a, b in zip(read, one, other, strict=True):
        if a != b:
            shown = "the result" if name.startswith(PREFIX) else name
            raise ExportError(
                f"export: {shown!r} has different forms (of tuples, lists, dicts) in the ways "
                f"through an `{word}` over tensors"
                f"\n  at {site.describe(site.user_site())}"
            )


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
