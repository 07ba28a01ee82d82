"""The op library: importing it registers every op and gives graph Values their operators."""

from rabbet.graph.value import Value
from rabbet.ops import (
    activation,
    arithmetic,
    attention,
    compare,
    contract,
    conv,
    convolution,
    create,
    functions,
    index,
    joining,
    loss,
    movement,
    moves,
    network,
    norm,
    pool,
    random,
    ranges,
    reduce,
    special,
    trigonometry,
)
from rabbet.ops.operators import attach

attach(Value)

__all__ = [
    "activation",
    "arithmetic",
    "attention",
    "compare",
    "contract",
    "conv",
    "convolution",
    "create",
    "functions",
    "index",
    "joining",
    "loss",
    "movement",
    "moves",
    "network",
    "norm",
    "pool",
    "random",
    "ranges",
    "reduce",
    "special",
    "trigonometry",
]
