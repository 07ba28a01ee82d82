"""PyTorch's names that are spelled otherwise here: the error says how (SEMANTICS 22)."""

from __future__ import annotations

METHODS = {
    "solve": "use rb.linalg.solve(a, b)",
    "matrix_rank": "use rb.linalg.matrix_rank(x)",
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
    **{
        n: f"use rb.nn.functional.{n}"
        for n in (
            *("batch_norm", "bilinear", "celu", "channel_shuffle", "cosine_similarity"),
            *("ctc_loss", "dropout", "embedding_bag", "hardshrink", "margin_ranking_loss"),
            *("pairwise_distance", "pixel_shuffle", "pixel_unshuffle", "poisson_nll_loss"),
            *("prelu", "threshold", "triplet_margin_loss"),
        )
    },
    "solve": "use rb.linalg.solve(a, b)",
    "inv": "use rb.linalg.inv(x), or rb.inverse",
    "pinv": "use rb.linalg.pinv(x), or rb.pinverse",
    "lstsq": "use rb.linalg.lstsq(a, b)",
    "pad": "use rb.nn.functional.pad",
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
    "compile": "repeated code is compiled by itself; rb.jit leaves the Python out too",
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
