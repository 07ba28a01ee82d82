"""The user's tensor: what it can do, how it is made, and what the recorder needs to know of it."""

from __future__ import annotations

import functools

import rabbet.ops  # noqa: F401  (declares the ops)
from rabbet import recorder
from rabbet.base.config import config
from rabbet.engine.backward import rule_of
from rabbet.engine.flush import failed, flush, value_of
from rabbet.engine.prepare import prepare
from rabbet.engine.programs import scalar_buffer
from rabbet.engine.recipes import learn
from rabbet.graph.value import lookup
from rabbet.tensor.create import (
    arange,
    asarray,
    empty,
    empty_like,
    eye,
    from_dlpack,
    full,
    full_like,
    linspace,
    logspace,
    ones,
    ones_like,
    tensor,
    zeros,
    zeros_like,
)
from rabbet.tensor.lift import functions, install_all
from rabbet.tensor.modes import (
    autocast,
    enable_grad,
    is_autocast_enabled,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from rabbet.tensor.tensor import Tensor, from_numpy

install_all()
recorder.configure(
    prepare=prepare,
    handle=Tensor,
    flush=flush,
    cast=lookup("cast"),
    eager=config.debug == "eager",
    scalar=scalar_buffer,
    failed=failed,
    value=value_of,
    learn=learn,
    rule=functools.partial(rule_of, Tensor),
    add=lookup("add"),
)

__all__ = [
    "Tensor",
    "arange",
    "asarray",
    "autocast",
    "empty",
    "empty_like",
    "enable_grad",
    "eye",
    "flush",
    "from_dlpack",
    "from_numpy",
    "full",
    "full_like",
    "functions",
    "is_autocast_enabled",
    "is_grad_enabled",
    "linspace",
    "logspace",
    "no_grad",
    "ones",
    "ones_like",
    "set_grad_enabled",
    "tensor",
    "value_of",
    "zeros",
    "zeros_like",
]
