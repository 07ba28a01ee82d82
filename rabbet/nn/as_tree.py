"""Modules as containers: parameters and buffers are the leaves, all the rest is the frame.

A module put together again is another object with the same attributes; hooks and whatever else the
attributes hold are shared with the first one. A tensor or a part that stands in several places is
one leaf, and stands in the same places again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rabbet.base.tree import Registered
from rabbet.nn.parameter import Parameter
from rabbet.recorder import current

Names = tuple[tuple[str, int | None], ...]  # name -> number of the leaf or part, None for nothing
HOMES = ("_parameters", "_buffers", "_modules")
PLAIN = (bool, int, float, complex, str, bytes)


class Part(NamedTuple):
    """One module without its tensors."""

    kind: type
    parameters: Names
    buffers: Names
    modules: Names
    attributes: dict[str, Any]
    seen: dict[str, Any]  # the attributes with a copy of each container, as it was


class Frame:
    """A module and its parts, the outermost first; equal where no tensor makes the difference."""

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts
        self.names = tuple((p.kind, p.parameters, p.buffers, p.modules) for p in parts)

    def __hash__(self) -> int:
        return hash(self.names)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frame) or self.names != other.names:
            return False
        return all(_same(a.seen, b.seen) for a, b in zip(self.parts, other.parts, strict=True))


def _same(a: Any, b: Any) -> bool:
    """True where two attributes mean the same: equal plain values, containers of such, or one
    object.
    """
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(v, b[k]) for k, v in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return isinstance(a, (*PLAIN, set, frozenset)) and bool(a == b)


def _take(module: Any) -> tuple[list[Any], list[bool], Frame]:
    leaves: list[Any] = []
    held: list[bool] = []
    numbers: dict[int, int] = {}
    if current().capture is not None:
        for m in module.modules():
            m.training  # noqa: B018 (reported: a replay must find the mode that the copy gets now)
    parts = {id(m): n for n, m in enumerate(module.modules())}

    def number(t: Any, is_held: bool) -> int | None:
        if t is None:
            return None
        if id(t) not in numbers:
            numbers[id(t)] = len(leaves)
            leaves.append(t)
            held.append(is_held)
        return numbers[id(t)]

    def part(m: Any) -> Part:
        attributes = {k: v for k, v in vars(m).items() if k not in HOMES}
        return Part(
            type(m),
            tuple((name, number(t, _is_frozen(t))) for name, t in m._parameters.items()),
            tuple((name, number(t, True)) for name, t in m._buffers.items()),
            tuple((k, None if v is None else parts[id(v)]) for k, v in m._modules.items()),
            attributes,
            {k: v.copy() if type(v) in (dict, list, set) else v for k, v in attributes.items()},
        )

    frame = Frame([part(m) for m in module.modules()])
    return leaves, held, frame


def _is_frozen(t: Any) -> bool:
    """True for a parameter that was told not to collect gradients."""
    return isinstance(t, Parameter) and not t.requires_grad


def _make(frame: Frame, leaves: list[Any]) -> Any:
    made: list[Any] = [object.__new__(p.kind) for p in frame.parts]
    for module, part in zip(made, frame.parts, strict=True):
        homes = zip(HOMES, (part.parameters, part.buffers, part.modules), strict=True)
        own = vars(module)
        own.update(part.attributes)
        for home, names in homes:
            known: list[Any] = made if home == "_modules" else leaves
            own[home] = {name: None if n is None else known[n] for name, n in names}
    capture = current().capture
    if capture is not None:
        capture.made_modules(made)
    return made[0]


MODULES = Registered(_take, _make, lambda module: list(module.modules()))
