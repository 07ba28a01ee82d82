"""The variables that a rewritten `if` or `while` assigns, as the leaves that a recording sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rabbet.base import tree
from rabbet.base.errors import ExportError
from rabbet.engine import site
from rabbet.export.jumps import PREFIX
from rabbet.export.merge import Undefined, same_value
from rabbet.tensor import Tensor

EXPLICIT = {
    "if": "rb.cond(condition, f, g, *operands)",
    "while": "rb.while_loop(condition, body, start)",
}


@dataclass(frozen=True)
class Leaves:
    """The values of variables taken apart: the form of each that is read later, a label a leaf."""

    leaves: list[Any]
    forms: list[tree.Structure]
    labels: list[str]


@dataclass(frozen=True)
class Variables:
    """What the rewriter knows of one statement (`word`): how its variables are read and given
    values, which of them are read later, of which elements are assigned, and what in it cannot
    depend on a tensor ("": nothing).
    """

    word: str
    get: Callable[[], tuple[Any, ...]]
    put: Callable[[Sequence[Any]], None]
    names: tuple[str, ...]
    live: tuple[bool, ...]
    items: tuple[bool, ...]
    forbidden: str

    def allow(self) -> None:
        """Refuse what a recorded branch cannot do."""
        forbidden = self.forbidden
        for name, value, changed in zip(self.names, self.get(), self.items, strict=True):
            if changed and not isinstance(value, Tensor):
                forbidden = forbidden or f"assigning an element of {name!r}, which is no tensor,"
        if forbidden:
            raise ExportError(
                f"export: {forbidden} under `{self.word}` with a tensor as its condition cannot be "
                "exported; compute new values there only, or write "
                f"{EXPLICIT[self.word]}\n  at {site.describe(site.user_site())}"
            )

    def apart(self, values: Sequence[Any]) -> Leaves:
        """The leaves of those that are read later."""
        found = Leaves([], [], [])
        for name, value, is_read in zip(self.names, values, self.live, strict=True):
            if not is_read:
                continue
            leaves, form = tree.flatten(value, registered=False)
            found.leaves.extend(leaves)
            found.forms.append(form)
            parts = [f"{name}, part {i}" for i in range(len(leaves))]
            found.labels.extend([name] if form.kind is None else parts)
        return found

    def together(
        self, leaves: Sequence[Any], forms: Sequence[tree.Structure], before: Sequence[Any]
    ) -> list[Any]:
        """The values that have these leaves; `before` where that is the same."""
        rest, shapes = iter(leaves), iter(forms)
        made = []
        for name, is_read, old in zip(self.names, self.live, before, strict=True):
            if not is_read:
                made.append(Undefined(name, "nothing read it"))
                continue
            form = next(shapes)
            value = tree.unflatten(form, [next(rest) for _ in tree.held_leaves(form)])
            made.append(old if same_value(value, old) else value)
        return made

    def check_forms(self, one: Leaves, other: Leaves) -> None:
        """ExportError where a variable has another form in one way than in the other."""
        read = [n for n, is_read in zip(self.names, self.live, strict=True) if is_read]
        for name, a, b in zip(read, one.forms, other.forms, strict=True):
            if a != b:
                shown = "the result" if name.startswith(PREFIX) else name
                raise ExportError(
                    f"export: {shown!r} has different forms (of tuples, lists, dicts) in the ways "
                    f"through an `{self.word}` over tensors"
                    f"\n  at {site.describe(site.user_site())}"
                )


class Reformed(Exception):
    """A variable without a value before a loop has a tree of values after it: start with those."""

    def __init__(self, values: list[Any]) -> None:
        super().__init__()
        self.values = values


class Carried:
    """The variables of a loop while it is recorded, started with the values `before`."""

    def __init__(self, variables: Variables, before: Sequence[Any]) -> None:
        self.variables = variables
        self.before = before
        variables.put(copies(before))
        self.start = variables.apart(variables.get())

    def get(self) -> list[Any]:
        """The leaves now; Reformed where a variable has got a tree since."""
        ended, wider = list(self.variables.get()), list(self.before)
        fill_forms(wider, ended)
        now = self.variables.apart(ended)
        if self.variables.apart(wider).forms != self.start.forms:
            raise Reformed(wider)
        self.variables.check_forms(self.start, now)
        return now.leaves

    def put(self, leaves: Sequence[Any]) -> None:
        """Give the variables these leaves."""
        self.variables.put(self.variables.together(leaves, self.start.forms, self.before))


def copies(values: Sequence[Any]) -> list[Any]:
    """The same values in handles of their own, which may be updated in place."""

    def copy(x: Any) -> Any:
        return Tensor(x._node, x._index) if isinstance(x, Tensor) else x

    return [tree.map_leaves(copy, v, registered=False) for v in values]


def tensors(values: Sequence[Any]) -> list[Any]:
    """The tensors among the leaves."""
    return [x for x in tree.flatten(list(values), registered=False)[0] if isinstance(x, Tensor)]


def fill_forms(some: list[Any], others: list[Any]) -> None:
    """Where a variable has no value in one list and a tree in the other: a tree of no values."""
    for mine, theirs in ((some, others), (others, some)):
        for i, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            if isinstance(a, Undefined) and not isinstance(b, Undefined):
                leaves, form = tree.flatten(b, registered=False)
                mine[i] = tree.unflatten(form, [a] * len(leaves))
