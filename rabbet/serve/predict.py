"""The older `predict` requests: nested lists, by row (`instances`) or by input (`inputs`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rabbet.serve.datatypes import from_nested
from rabbet.serve.errors import malformed
from rabbet.serve.model import Model, TensorSpec
from rabbet.serve.protocol import Answer, json_answer, parse_json


def parse_predict(model: Model, body: bytes) -> tuple[dict[str, np.ndarray], bool]:
    """Named arrays, and whether they came by row; RequestError (400) names what is wrong."""
    request = parse_json(body)
    if request.get("signature_name", "serving_default") != "serving_default":
        raise malformed("signature_name: a model has one entry point, serving_default")
    by_row = "instances" in request
    if by_row == ("inputs" in request):
        raise malformed("give either instances (by row) or inputs (by input)")
    if by_row:
        return _parse_rows(model, request["instances"]), True
    return _parse_columns(model, request["inputs"]), False


def write_predict(model: Model, results: Sequence[np.ndarray], by_row: bool) -> Answer:
    """The answer: one prediction for each instance, or the outputs by name."""
    columns = {
        spec.name: array.tolist() for spec, array in zip(model.outputs, results, strict=True)
    }
    if not by_row:
        only = len(columns) == 1
        return json_answer({"outputs": next(iter(columns.values())) if only else columns})
    if any(not array.shape for array in results):
        raise malformed(f"{model.name}: an output has no axis of instances; ask with inputs")
    if len({array.shape[0] for array in results}) != 1:
        raise malformed(f"{model.name}: the outputs differ in their first size; ask with inputs")
    if len(columns) == 1:
        return json_answer({"predictions": next(iter(columns.values()))})
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return json_answer({"predictions": rows})


def _parse_rows(model: Model, instances: Any) -> dict[str, np.ndarray]:
    if not isinstance(instances, list) or not instances:
        raise malformed("instances must be a list with at least one item")
    names = [spec.name for spec in model.inputs]
    named = all(isinstance(row, dict) for row in instances)
    if not named:
        if len(names) != 1:
            raise malformed(f"each instance must be an object with {', '.join(names)}")
        return {names[0]: _parse(model.inputs[0], instances)}
    for row in instances:
        if set(row) != set(names):
            raise malformed(
                f"each instance must have {', '.join(names)}; one has {', '.join(row) or 'nothing'}"
            )
    return {spec.name: _parse(spec, [row[spec.name] for row in instances]) for spec in model.inputs}


def _parse_columns(model: Model, inputs: Any) -> dict[str, np.ndarray]:
    specs = {spec.name: spec for spec in model.inputs}
    if not isinstance(inputs, dict):
        if len(specs) != 1:
            raise malformed(f"inputs must be an object with {', '.join(specs)}")
        inputs = {next(iter(specs)): inputs}
    for name in inputs:
        if name not in specs:
            raise malformed(f"no input {name!r}; the inputs are {', '.join(specs)}")
    return {name: _parse(specs[name], value) for name, value in inputs.items()}


def _parse(spec: TensorSpec, data: Any) -> np.ndarray:
    return from_nested(data, spec.dtype, spec.name)
