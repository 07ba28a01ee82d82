"""One step of greedy decoding with a cache, once for Rabbet and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rabbet.bench.workloads.sequences import GptDecode

# q (heads, size), keys and values (heads, cache, size), position -> (heads, size)
Attend = Callable[[Any, Any, Any, Any], Any]


def decoder(
    functional: Any, weights: dict[str, Any], problem: GptDecode, attend: Attend
) -> Callable[..., tuple[Any, Any]]:
    """step(token, position, *caches): the next token and its logits.

    `caches` are the keys of every layer, then the values, each (heads, cache, width / heads);
    the step writes position's. `functional` has linear, gelu and layer_norm.
    """
    width, heads, layers = problem.width, problem.heads, problem.layers

    def linear(x: Any, name: str) -> Any:
        return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x: Any, name: str) -> Any:
        scale, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return functional.layer_norm(x, (width,), scale, shift)

    def step(token: Any, position: Any, *caches: Any) -> tuple[Any, Any]:
        x = weights["tokens.weight"][token] + weights["positions.weight"][position]
        x = x.reshape((1, width))
        for i in range(layers):
            name, keys, values = f"blocks.{i}", caches[i], caches[layers + i]
            packed = linear(norm(x, f"{name}.norm1"), f"{name}.qkv")
            qkv = packed.reshape((3, heads, width // heads))
            keys[:, position] = qkv[1]
            values[:, position] = qkv[2]
            seen = attend(qkv[0], keys, values, position).reshape((1, width))
            x = x + linear(seen, f"{name}.proj")
            hidden = linear(norm(x, f"{name}.norm2"), f"{name}.up")
            x = x + linear(functional.gelu(hidden, approximate="tanh"), f"{name}.down")
        logits = functional.linear(norm(x, "norm"), weights["head.weight"])[0]
        return logits.argmax(-1), logits

    return step


def attend_masked(functional: Any, places: Any) -> Attend:
    """Attention over the whole cache, later positions masked; `places` is 0, 1, ..., cache - 1."""

    def attend(q: Any, keys: Any, values: Any, position: Any) -> Any:
        return functional.scaled_dot_product_attention(
            q[:, None], keys, values, attn_mask=(places <= position)[None, None]
        )

    return attend
