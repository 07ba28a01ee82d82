"""The Open Inference Protocol v2: requests and answers of `infer`, as JSON with or without bytes.

With the header Inference-Header-Content-Length: N, the first N bytes of a body are JSON, and the
bytes of tensors follow in the order of the inputs that have `binary_data_size`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rabbet.serve.datatypes import (
    DATATYPES,
    NAMES,
    from_bytes,
    from_json,
    parse_shape,
    to_bytes,
    to_json,
)
from rabbet.serve.errors import malformed
from rabbet.serve.model import Model

LENGTH_HEADER = "inference-header-content-length"


@dataclass(frozen=True)
class InferRequest:
    """What a client asks: named arrays, and which outputs it wants in which form."""

    identity: str | None
    arrays: dict[str, np.ndarray]
    outputs: list[tuple[int, bool]]  # position among the model's outputs, and whether as bytes


@dataclass(frozen=True)
class Answer:
    """A status, a body and its headers."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def json_answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """An answer in JSON. NaN and infinities are the bare words NaN, Infinity and -Infinity."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return Answer(status, body, headers=tuple((headers or {}).items()))


def parse_json(text: bytes | memoryview) -> dict[str, Any]:
    """A JSON object; RequestError (400) with the place where it goes wrong."""
    try:
        value = json.loads(bytes(text))
    except RecursionError:
        raise malformed("the JSON is nested too deeply") from None
    except ValueError as error:  # also of bytes that are not UTF-8, and of endless numbers
        raise malformed(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise malformed("the JSON must be an object")
    return value


def parse_infer(model: Model, body: bytes, header_length: str | None) -> InferRequest:
    """The request in `body`; RequestError (400) names what is wrong with it."""
    head, tail = _split(body, header_length)
    request = parse_json(head)
    identity = request.get("id")
    if identity is not None and not isinstance(identity, str):
        raise malformed("id must be a string")
    parameters = _parameters(request, "the request")
    inputs = request.get("inputs")
    if not isinstance(inputs, list):
        raise malformed("inputs must be a list of tensors")
    arrays: dict[str, np.ndarray] = {}
    for entry in inputs:
        name, array, tail = _parse_input(entry, tail)
        if name in arrays:
            raise malformed(f"input {name!r} is given twice")
        arrays[name] = array
    if len(tail):
        raise malformed(f"{len(tail)} bytes follow the last tensor")
    all_binary = _flag(parameters, "binary_data_output", False)
    return InferRequest(identity, arrays, _parse_outputs(model, request, all_binary))


def write_infer(model: Model, request: InferRequest, results: Sequence[np.ndarray]) -> Answer:
    """The answer to `request`: JSON, followed by bytes where they were asked for."""
    outputs: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for position, is_binary in request.outputs:
        spec, array = model.outputs[position], results[position]
        entry: dict[str, Any] = {
            "name": spec.name,
            "datatype": NAMES[spec.dtype],
            "shape": list(array.shape),
        }
        if is_binary:
            tail.append(to_bytes(array))
            entry["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            entry["data"] = to_json(array)
        outputs.append(entry)
    value: dict[str, Any] = {"model_name": model.name, "model_version": str(model.version)}
    if request.identity is not None:
        value["id"] = request.identity
    answer = json_answer({**value, "outputs": outputs})
    if not any(is_binary for _, is_binary in request.outputs):
        return answer
    length = (("Inference-Header-Content-Length", str(len(answer.body))),)
    body = b"".join((answer.body, *tail))
    return Answer(200, body, "application/octet-stream", length)


def _split(body: bytes, header_length: str | None) -> tuple[memoryview, memoryview]:
    view = memoryview(body)
    if header_length is None:
        return view, view[len(view) :]
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 20):
        raise malformed("Inference-Header-Content-Length must be a number of bytes")
    length = int(header_length)
    if length > len(view):
        raise malformed(
            f"Inference-Header-Content-Length is {length}, the body has {len(view)} bytes"
        )
    return view[:length], view[length:]


def _parse_input(entry: Any, tail: memoryview) -> tuple[str, np.ndarray, memoryview]:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise malformed("each of inputs must be an object with a name")
    name: str = entry["name"]
    dtype = DATATYPES.get(entry["datatype"]) if isinstance(entry.get("datatype"), str) else None
    if dtype is None:
        known = ", ".join(DATATYPES)
        raise malformed(
            f"input {name!r}: datatype is {_shorten(entry.get('datatype'))}, not one of {known}"
        )
    shape = parse_shape(entry.get("shape"), name)
    size = _parameters(entry, f"input {name!r}").get("binary_data_size")
    if size is None:
        if "data" not in entry:
            raise malformed(f"input {name!r}: there is no data")
        return name, from_json(entry["data"], shape, dtype, name), tail
    if "data" in entry:
        raise malformed(f"input {name!r}: has both data and binary_data_size")
    if type(size) is not int or not 0 <= size <= len(tail):
        raise malformed(
            f"input {name!r}: binary_data_size is {_shorten(size)}, {len(tail)} bytes are left"
        )
    return name, from_bytes(tail[:size], shape, dtype, name), tail[size:]


def _parse_outputs(model: Model, request: dict[str, Any], binary: bool) -> list[tuple[int, bool]]:
    positions = {spec.name: position for position, spec in enumerate(model.outputs)}
    wanted = request.get("outputs")
    if wanted is None or wanted == []:
        return [(position, binary) for position in positions.values()]
    if not isinstance(wanted, list):
        raise malformed("outputs must be a list")
    chosen: list[tuple[int, bool]] = []
    for entry in wanted:
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or name not in positions:
            raise malformed(f"no output {_shorten(name)}; the outputs are {', '.join(positions)}")
        if positions[name] in (position for position, _ in chosen):
            raise malformed(f"output {name!r} is asked for twice")
        parameters = _parameters(entry, f"output {name!r}")
        chosen.append((positions[name], _flag(parameters, "binary_data", binary)))
    return chosen


def _parameters(holder: dict[str, Any], where: str) -> dict[str, Any]:
    value = holder.get("parameters", {})
    if not isinstance(value, dict):
        raise malformed(f"parameters of {where} must be an object")
    return value


def _flag(parameters: dict[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise malformed(f"{name} must be true or false")
    return value


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
