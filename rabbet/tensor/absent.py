"""PyTorch's names that are spelled otherwise here: the error says how (SEMANTICS 22)."""

from __future__ import annotations

METHODS = {
    "cuda": "there is only the device 'cpu'",
    "t": "use .T",
    "mm": "use x @ y",
    "bmm": "use x @ y",
    "mv": "use x @ y",
    "dot": "use x @ y",
    "cumsum": "use rb.cumulative_sum(x, axis=...)",
    "data": "use .detach()",
    "type": "use .astype(dtype)",
    "masked_select": "use x[mask]",
}
FUNCTIONS = {
    **{name: METHODS[name] for name in ("mm", "bmm", "mv", "dot", "cumsum")},
    "compile": "repeated code is compiled by itself; rb.jit leaves the Python out too",
    "inference_mode": "use rb.no_grad()",
    "masked_select": "use x[mask]",
    "cuda": "there is only the device 'cpu'",
}


def message(owner: str, name: str, known: dict[str, str]) -> str:
    """What an AttributeError says of a name that is not there."""
    hint = known.get(name)
    return f"{owner} has no attribute {name!r}" + (f"; {hint}" if hint else "")
