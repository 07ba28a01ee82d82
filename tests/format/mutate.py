"""Program files with something wrong in them, their hashes made right again."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

from rabbet.export import layout

JUNK: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 7, 64, 1 << 31, (1 << 31) - 1, 1 << 40, 1 << 62, 1 << 63),
    *(-(1 << 62), 10**30, 0.0, 1.5, -0.5, 1e300, "", "x", "n", "t", "float32", "int8", "bool"),
    *("bfloat16", "complex64", "\u0000", "*/", "a" * 600, [], {}, [0], [[]], {"float": "nan"}),
    *({"size": "n"}, {"size": ["*", "n", 1 << 40]}, {"size": ["//", "n", 0]}, {"dtype": "float64"}),
    *(["+", "n", 1], ["-", "n", 1], ["*", "n", "n"], ["//", 1, "n"], ["%", "t", 0], {"float": 3}),
    *(["input", 0], ["weight", 0], ["call", 0, 0], ["call", 99, 0], ["number", "float32", 1.0]),
    *({"complex": [1.0, {"float": "nan"}]}, {"complex": [1, 2]}, {"complex": [[], 0.0]}),
    ["number", "complex64", {"complex": [0.5, -0.0]}],
]


def parts(data: bytes) -> tuple[Any, bytes]:
    """The graph and the weights of a file."""
    header = layout.read_header(data[: layout.HEADER_BYTES], len(data))
    graph = data[layout.HEADER_BYTES : layout.HEADER_BYTES + header.graph_bytes]
    return json.loads(graph), data[header.weights_offset :]


def assemble(graph: Any, weights: bytes) -> bytes:
    """A file of these parts with the right header; `graph` may be any JSON value, or bytes."""
    text = graph if isinstance(graph, bytes) else json.dumps(graph).encode()
    version = 1 if b'"bodies"' not in text else 3 if b'"complex"' in text else 2
    header = layout.make_header(text, len(weights), version)
    padding = bytes(layout.aligned(len(header) + len(text)) - len(header) - len(text))
    return header + text + padding + weights


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything in a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else ()
    for key, inner in enumerate(value) if isinstance(value, list) else items:
        yield from places(inner, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """What lies at a path."""
    for key in path:
        value = value[key]
    return value


def mutate(graph: Any, chance: random.Random) -> Any:
    """A copy with one to three things changed."""
    graph = copy.deepcopy(graph)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        every = list(places(graph))[1:]
        if not every:
            return graph
        *home, key = chance.choice(every)
        container = at(graph, tuple(home))
        _change(container, key, chance, graph, every)
    return graph


def _change(container: Any, key: Any, chance: random.Random, graph: Any, every: Any) -> None:
    old = container[key]
    kind = chance.randrange(7)
    if kind == 0:
        del container[key]
    elif kind == 1:
        container[key] = copy.deepcopy(at(graph, chance.choice(every)))
    elif kind == 2 and isinstance(container, list):
        container.insert(key, copy.deepcopy(old))
    elif kind == 3 and isinstance(old, int) and not isinstance(old, bool):
        container[key] = old + chance.choice((-3, -2, -1, 1, 2, 3, 64, 1 << 33, -(1 << 33)))
    elif kind == 4 and isinstance(container, list) and len(container) > 1:
        other = chance.randrange(len(container))
        container[key], container[other] = container[other], old
    elif kind == 5 and isinstance(container, dict):
        container[str(chance.randrange(3))] = container.pop(key)
    else:
        container[key] = copy.deepcopy(chance.choice(JUNK))
