"""save and load: trees of tensors and plain values in safetensors files; never pickle.

Tensors are stored under the path that leads to them ("model.0.weight"), so a saved `state_dict` is
a file that every reader of safetensors understands. The containers around them, and plain values,
are JSON in the file's metadata.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import save_file

from rabbet.base import dtypes
from rabbet.base.errors import DTypeError, FormatError, RabbetError
from rabbet.base.files import replacing
from rabbet.tensor import Tensor, asarray

STRUCTURE = "rabbet.structure"
VERSION = 1
_NUMPY = {
    "BOOL": dtypes.bool_,
    "I8": dtypes.int8,
    "I16": dtypes.int16,
    "I32": dtypes.int32,
    "I64": dtypes.int64,
    "U8": dtypes.uint8,
    "U16": dtypes.uint16,
    "U32": dtypes.uint32,
    "U64": dtypes.uint64,
    "F16": dtypes.float16,
    "BF16": dtypes.bfloat16,
    "F32": dtypes.float32,
    "F64": dtypes.float64,
    "C64": dtypes.complex64,
}
_STORED = set(_NUMPY.values())


def save(obj: Any, path: str | os.PathLike[str]) -> None:
    """Write a tree of dicts, lists, tuples, tensors, arrays, numbers and text to one file.

    The file is written whole or not at all: what was there before stays until then. Raises
    RabbetError for anything else in the tree: save a module's `state_dict()`, not the module.

    Example:
        >>> rb.save({"model": model.state_dict(), "epoch": 3}, "last.safetensors")
    """
    arrays: dict[str, NDArray[Any]] = {}
    tree = _encode(obj, (), arrays)
    text = json.dumps({"version": VERSION, "tree": tree}, allow_nan=False)
    with replacing(Path(path), synced=True) as temporary:
        save_file(arrays, str(temporary), metadata={STRUCTURE: text})


def load(path: str | os.PathLike[str]) -> Any:
    """Read what `save` wrote; any other safetensors file gives a dict of tensors.

    Tensors and arrays come back as tensors without gradients. Raises FormatError for a file that is
    damaged or something else, OSError for one that cannot be read. Nothing in a file is ever run.

    Example:
        >>> _ = model.load_state_dict(rb.load("last.safetensors")["model"])
    """
    name = os.fspath(path)
    data = Path(path).read_bytes()
    try:
        entries = safetensors.deserialize(data)
        with safetensors.safe_open(name, framework="np") as file:
            metadata = file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise FormatError(f"{name}: this is no safetensors file: {error}") from None
    tensors = {key: _to_tensor(name, key, entry) for key, entry in entries}
    if STRUCTURE not in metadata:
        return tensors
    try:
        return _decode_file(json.loads(metadata[STRUCTURE]), tensors)
    except FormatError as error:
        raise FormatError(f"{name}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{name}: its structure is not readable: {error}") from None


# ---- writing -----------------------------------------------------------------------------------


def _encode(obj: Any, path: tuple[str, ...], arrays: dict[str, NDArray[Any]]) -> Any:
    """The JSON form of a tree; tensors go to `arrays`."""
    if isinstance(obj, Tensor | np.ndarray):
        return {"tensor": _store(obj, path, arrays)}
    if isinstance(obj, np.generic):
        obj = obj.item()
    if obj is None or type(obj) in (bool, int, str):
        return obj
    if type(obj) is float:
        return obj if math.isfinite(obj) else {"float": str(obj)}
    if isinstance(obj, Mapping):
        return {
            "dict": [[_key(k, path), _encode(v, (*path, str(k)), arrays)] for k, v in obj.items()]
        }
    if type(obj) in (list, tuple):
        kind = "list" if type(obj) is list else "tuple"
        return {kind: [_encode(v, (*path, str(i)), arrays) for i, v in enumerate(obj)]}
    where = f" at {'.'.join(path)!r}" if path else ""
    if callable(getattr(obj, "state_dict", None)):
        raise RabbetError(
            f"save: a {type(obj).__name__}{where} is code and values; save its values: "
            "rb.save(model.state_dict(), path)"
        )
    raise RabbetError(
        f"save: cannot store {type(obj).__name__}{where}; there are tensors, arrays, numbers, "
        "text, None, and dicts, lists and tuples of them"
    )


def _store(obj: Any, path: tuple[str, ...], arrays: dict[str, NDArray[Any]]) -> str:
    array = np.asarray(obj.numpy() if isinstance(obj, Tensor) else obj, order="C")
    try:
        dtype = dtypes.dtype_of(array.dtype)
    except DTypeError:
        dtype = None
    if dtype not in _STORED:
        raise RabbetError(f"save: {'.'.join(path)!r} is {array.dtype}, which files cannot hold")
    wanted = name = ".".join(path) or "tensor"
    number = 2
    while name in arrays:  # {"a": {"b": t}, "a.b": u}
        name, number = f"{wanted}#{number}", number + 1
    arrays[name] = array
    return name


def _key(key: Any, path: tuple[str, ...]) -> Any:
    if key is None or type(key) in (bool, int, str):
        return key
    where = f" at {'.'.join(path)!r}" if path else ""
    raise RabbetError(
        f"save: a key of a dict{where} is a {type(key).__name__}, not text or a number"
    )


# ---- reading -----------------------------------------------------------------------------------


def _to_tensor(file: str, key: str, entry: Mapping[str, Any]) -> Tensor:
    dtype = _NUMPY.get(entry["dtype"])
    if dtype is None:
        raise FormatError(
            f"{file}: {key} has the dtype {entry['dtype']}, which Rabbet does not hold"
        )
    array = np.frombuffer(entry["data"], dtype.numpy).reshape(entry["shape"])
    return asarray(array, copy=False)  # the memory is a copy of the file's, and ours alone


def _decode_file(content: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(content, dict) or set(content) != {"version", "tree"}:
        raise FormatError("its structure must have a version and a tree")
    if content["version"] != VERSION:
        raise FormatError(
            f"version {content['version']!r} is not known; this reads version {VERSION}"
        )
    return _decode(content["tree"], tensors)


def _decode(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    if not isinstance(tree, dict) or len(tree) != 1:
        raise FormatError(f"its structure has an entry of an unknown form: {str(tree)[:60]}")
    ((kind, value),) = tree.items()
    if kind == "tensor" and isinstance(value, str):
        if value not in tensors:
            raise FormatError(f"its structure names a tensor {value!r} that it does not hold")
        return tensors[value]
    if kind == "float" and value in ("nan", "inf", "-inf"):
        return float(value)
    if kind in ("list", "tuple") and isinstance(value, list):
        items = [_decode(v, tensors) for v in value]
        return items if kind == "list" else tuple(items)
    if kind == "dict" and isinstance(value, list):
        return dict(_decode_item(item, tensors) for item in value)
    raise FormatError(f"its structure has an entry of an unknown form: {str(tree)[:60]}")


def _decode_item(item: Any, tensors: dict[str, Tensor]) -> tuple[Any, Any]:
    if not isinstance(item, list) or len(item) != 2 or isinstance(item[0], list | dict | float):
        raise FormatError(f"its structure has a dict with a bad item: {str(item)[:60]}")
    return item[0], _decode(item[1], tensors)
