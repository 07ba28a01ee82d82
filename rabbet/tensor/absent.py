"""PyTorch's names that are spelled otherwise here: the error says how (SEMANTICS 22)."""

from __future__ import annotations

LINEAR_ALGEBRA = {
    **{
        n: f"use rb.linalg.{n}(x)"
        for n in ("cholesky", "det", "inv", "matrix_power", "matrix_rank")
    },
    **{n: f"use rb.linalg.{n}(x)" for n in ("pinv", "qr", "slogdet", "solve", "svd")},
    "inverse": "use rb.linalg.inv(x)",
    "pinverse": "use rb.linalg.pinv(x)",
    "logdet": "use rb.linalg.logdet(x)",
    **{n: f"use rb.linalg.{n}(...)" for n in ("lstsq", "matrix_exp")},
    "norm": "use rb.linalg.vector_norm(x, ord=...) or matrix_norm",
}
METHODS = {
    **LINEAR_ALGEBRA,
    "cuda": "there is only the device 'cpu'",
    "data": "use .detach()",
    "values": "x.max(axis) is the largest values alone, x.argmax(axis) their places; "
    "rb.sort and rb.argsort likewise",
    "indices": "x.argmax(axis) gives the places of the largest values, rb.argsort those of all",
    "type": "use .astype(dtype)",
    "stride": "tensors are values: only the compiler knows how they lie in memory",
    "as_strided": "use indexing, or rb.nn.functional.unfold",
    "share_memory_": "tensors are values: send x.numpy()",
    "resize_": "use .reshape(shape), or make a new tensor",
}
FUNCTIONS = {
    "pad": "use rb.nn.functional.pad",
    "device": "a device is its name, 'cpu'",
    "float": "use rb.float32",
    "double": "use rb.float64",
    "half": "use rb.float16",
    "int": "use rb.int32",
    "long": "use rb.int64",
    "random": "numbers are rb.rand, rb.randn, rb.randint; the seed is rb.manual_seed",
    "set_seed": "use rb.manual_seed",
    "seed": "use rb.manual_seed",
    "utils": "datasets and loaders are in rb.data",
    "FloatTensor": "use rb.tensor(data, dtype=rb.float32)",
    "LongTensor": "use rb.tensor(data, dtype=rb.int64)",
    **LINEAR_ALGEBRA,
    "compile": "repeated code is compiled by itself; rb.jit leaves the Python out too",
    "inference_mode": "use rb.no_grad()",
    "set_grad_enabled": "use rb.no_grad() and rb.enable_grad(), which end where they began",
    "cuda": "there is only the device 'cpu'",
    "set_default_dtype": "give dtype= where tensors are made",
    "set_num_threads": "set RABBET_NUM_THREADS before the start",
    "as_strided": "use indexing, or rb.nn.functional.unfold",
    "from_file": "use numpy.memmap and rb.asarray",
}


def message(owner: str, name: str, known: dict[str, str]) -> str:
    """What an AttributeError says of a name that is not there."""
    hint = known.get(name)
    return f"{owner} has no attribute {name!r}" + (f"; {hint}" if hint else "")
