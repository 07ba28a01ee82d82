"""The application: every route, every way a request can be wrong, and no 500 for any of them."""

import asyncio
import json
import random
from typing import Any

import numpy as np
import pytest

URL = "/v2/models/table/infer"
GOOD = {"index": [1, 3], "scale": [[1, 2, 3], [0.5, -1, 0]]}
PIECES = [b"[", b"]", b"9", b"null", b"-", b'"', b","]


@pytest.mark.parametrize(
    ("path", "status", "part"),
    [
        ("/v2", 200, {"name": "rabbet", "version": "0.0", "extensions": ["binary_tensor_data"]}),
        ("/v2/health/live", 200, {"live": True}),
        ("/v2/health/ready", 503, {"ready": False}),  # version 1 could not be loaded
        ("/v2/models/table/ready", 200, {"name": "table", "ready": True}),
        ("/v2/models/table/versions/2/ready", 200, {"ready": True}),
        ("/v2/models/table/versions/1/ready", 503, {"ready": False}),
        ("/v2/models/table/versions/1", 503, {}),
        ("/v2/models/chair", 404, {"error": "there is no model 'chair'"}),
        ("/v2/models/table/versions/3", 404, {}),
        ("/v2/models/table/versions/two", 404, {}),
        ("/v2/models/table/versions/%32", 404, {}),
        ("/v2/models/table/stats", 200, {"requests": 0, "batches": 0, "mean_batch": 0.0}),
        ("/v2/models", 404, {}),
        ("/v3", 404, {"error": "there is nothing at /v3"}),
    ],
)
def test_what_is_told(serve: Any, client: Any, path: str, status: int, part: dict) -> None:
    reply = serve(lambda app, _: client(app, "GET", path))
    assert reply.status == status
    assert reply.headers["content-type"] == "application/json"
    assert reply.json.items() >= part.items()
    assert status < 400 or path.endswith("ready") or "error" in reply.json


def test_metadata(serve: Any, client: Any) -> None:
    reply = serve(lambda app, _: client(app, "GET", "/v2/models/table"))
    assert reply.json == {
        "name": "table",
        "versions": ["1", "2"],
        "platform": "rabbet_rbt",
        "inputs": [
            {"name": "index", "datatype": "INT64", "shape": [-1]},
            {"name": "scale", "datatype": "FP32", "shape": [-1, 3]},
        ],
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "z", "datatype": "INT64", "shape": [-1]},
        ],
    }


def test_the_page_and_the_old_status(serve: Any, client: Any) -> None:
    page = serve(lambda app, _: client(app, "GET", "/"))
    assert page.status == 200 and "the file is damaged" in page.body.decode()
    old = serve(lambda app, _: client(app, "GET", "/v1/models/table")).json
    states = {entry["version"]: entry["state"] for entry in old["model_version_status"]}
    assert states == {"1": "END", "2": "AVAILABLE"}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", URL, "POST"), ("POST", "/v2", "GET, HEAD"), ("DELETE", "/", "GET, HEAD")],
)
def test_wrong_methods(serve: Any, client: Any, method: str, path: str, allowed: str) -> None:
    reply = serve(lambda app, _: client(app, method, path))
    assert reply.status == 405 and reply.headers["allow"] == allowed


def test_head_has_the_headers_alone(serve: Any, client: Any) -> None:
    reply = serve(lambda app, _: client(app, "HEAD", "/v2"))
    assert reply.status == 200 and reply.body == b"" and int(reply.headers["content-length"]) > 0


@pytest.mark.parametrize("chunks", [1, 5])
def test_infer(serve: Any, client: Any, body_of: Any, table: Any, chunks: int) -> None:
    body = {**body_of(**GOOD), "id": "seven"}
    reply = serve(lambda app, _: client(app, "POST", URL, body, chunks=chunks))
    expected = table.table[[1, 3]] * np.array(GOOD["scale"], np.float32)
    assert reply.status == 200
    assert {k: reply.json[k] for k in ("model_name", "model_version", "id")} == {
        "model_name": "table",
        "model_version": "2",
        "id": "seven",
    }
    y, z = reply.json["outputs"]
    assert (y["shape"], y["datatype"]) == ([2, 3], "FP32")
    assert np.array(y["data"], np.float32).tobytes() == expected.tobytes()
    assert z == {"name": "z", "datatype": "INT64", "shape": [2], "data": [2, 4]}


def test_binary_in_and_out(serve: Any, client: Any, table: Any) -> None:
    index, scale = np.array([2], np.int64), np.array([[1, 2, 3]], np.float32)
    head = {
        "inputs": [
            {"name": "scale", "shape": [1, 3], "datatype": "FP32"},
            {"name": "index", "shape": [1], "datatype": "INT64", "data": [2]},
        ],
        "outputs": [{"name": "z"}, {"name": "y", "parameters": {"binary_data": True}}],
    }
    head["inputs"][0]["parameters"] = {"binary_data_size": 12}
    text = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    reply = serve(lambda app, _: client(app, "POST", URL, text + scale.tobytes(), headers))
    length = int(reply.headers["inference-header-content-length"])
    answer = json.loads(reply.body[:length])
    assert reply.headers["content-type"] == "application/octet-stream"
    assert answer["outputs"][0] == {"name": "z", "datatype": "INT64", "shape": [1], "data": [3]}
    assert answer["outputs"][1]["parameters"] == {"binary_data_size": 12}
    assert reply.body[length:] == (table.table[index] * scale).tobytes()


def test_all_outputs_as_bytes(serve: Any, client: Any, body_of: Any) -> None:
    body = {**body_of(**GOOD), "parameters": {"binary_data_output": True}}
    reply = serve(lambda app, _: client(app, "POST", URL, body))
    length = int(reply.headers["inference-header-content-length"])
    assert len(reply.body) - length == 2 * 3 * 4 + 2 * 8


def break_body(body: dict, how: str) -> Any:
    first, second = body["inputs"]
    match how:
        case "no object":
            return [1]
        case "not JSON":
            return b'{"inputs": ['
        case "not text":
            return b"\xff\xfe{}"
        case "deep":
            return b'{"inputs":' + b"[" * 100_000
        case "no inputs":
            return {}
        case "input is a number":
            return {"inputs": [3]}
        case "missing":
            return {"inputs": [first]}
        case "unknown":
            return {"inputs": [first, second, {**first, "name": "other"}]}
        case "twice":
            return {"inputs": [first, first, second]}
        case "dtype":
            return {"inputs": [{**first, "datatype": "INT32"}, second]}
        case "unknown dtype":
            return {"inputs": [{**first, "datatype": "BYTES"}, second]}
        case "dtype is a list":
            return {"inputs": [{**first, "datatype": ["INT64"]}, second]}
        case "shape":
            return {"inputs": [first, {**second, "shape": [3, 2]}]}
        case "rank":
            return {"inputs": [first, {**second, "shape": [6]}]}
        case "batches differ":
            return {"inputs": [{**first, "shape": [1], "data": [0]}, second]}
        case "no data":
            return {"inputs": [{**first, "data": None}, second]}
        case "id":
            return {**body, "id": 7}
        case "output":
            return {**body, "outputs": [{"name": "w"}]}
        case "output twice":
            return {**body, "outputs": [{"name": "y"}, {"name": "y"}]}
        case "parameters":
            return {**body, "parameters": []}
        case "binary size":
            return {"inputs": [{**first, "data": [], "parameters": {"binary_data_size": 9}}]}
        case "value":
            return {"inputs": [{**first, "data": [1, 9]}, second]}
        case "huge and empty":
            return {
                "inputs": [
                    {**first, "shape": [0], "data": []},
                    {**second, "shape": [0, 2**31 - 1], "data": []},
                ]
            }
    raise AssertionError(how)


@pytest.mark.parametrize(
    "how",
    [
        *("no object", "not JSON", "not text", "deep", "no inputs", "input is a number"),
        *("missing", "unknown", "twice", "dtype", "unknown dtype", "dtype is a list", "shape"),
        *("rank", "batches differ", "no data", "id", "output", "output twice", "parameters"),
        *("binary size", "value", "huge and empty"),
    ],
)
def test_a_wrong_request_is_told_why(serve: Any, client: Any, body_of: Any, how: str) -> None:
    reply = serve(lambda app, _: client(app, "POST", URL, break_body(body_of(**GOOD), how)))
    assert reply.status == 400 and len(reply.json["error"]) > 10, reply.body


@pytest.mark.parametrize("length", ["-1", "x", "9" * 30, "100000", "²"])
def test_a_wrong_header_length(serve: Any, client: Any, body_of: Any, length: str) -> None:
    headers = {"Inference-Header-Content-Length": length}
    reply = serve(lambda app, _: client(app, "POST", URL, body_of(**GOOD), headers))
    assert reply.status == 400


def test_bytes_left_over(serve: Any, client: Any, body_of: Any) -> None:
    text = json.dumps(body_of(**GOOD)).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    reply = serve(lambda app, _: client(app, "POST", URL, text + b"more", headers))
    assert reply.status == 400 and "4 bytes follow" in reply.json["error"]


@pytest.mark.parametrize("seed", range(4))
def test_damaged_requests_never_end_in_500(
    serve: Any, client: Any, body_of: Any, seed: int
) -> None:
    random_ = random.Random(seed)
    text = json.dumps(body_of(**GOOD)).encode()

    async def scenario(app: Any, _: Any) -> set[int]:
        seen = set()
        for _ in range(150):
            data = bytearray(text)
            for _ in range(random_.randint(1, 4)):
                place = random_.randrange(len(data))
                choice = random_.random()
                if choice < 0.4:
                    data[place] = random_.randrange(256)
                elif choice < 0.7:
                    del data[place : place + random_.randint(1, 9)]
                else:
                    data[place:place] = random_.choice(
                        [b"[", b"]", b"9", b"null", b"-", b'"', b","]
                    )
            reply = await client(app, "POST", URL, bytes(data))
            assert reply.status in (200, 400), (bytes(data), reply.body)
            seen.add(reply.status)
        return seen

    assert 400 in serve(scenario)


def test_too_large(serve: Any, client: Any, body_of: Any) -> None:
    async def scenario(app: Any, _: Any) -> list[int]:
        declared = await client(app, "POST", URL, body_of(**GOOD))
        chunked = await client(app, "POST", URL, body_of(**GOOD), {"content-length": ""}, 20)
        return [declared.status, chunked.status, app._pending_bytes]

    assert serve(scenario, max_body_bytes=100) == [413, 413, 0]
    assert serve(scenario, max_pending_bytes=100) == [503, 503, 0]


def test_a_slow_client_is_not_waited_for(serve: Any) -> None:
    sent: list[Any] = []

    async def scenario(app: Any, _: Any) -> None:
        async def receive() -> Any:
            await asyncio.sleep(10)

        async def send(message: Any) -> None:
            sent.append(message)

        await app({"type": "http", "method": "POST", "path": URL, "headers": []}, receive, send)

    serve(scenario, body_timeout_s=0.01)
    assert sent[0]["status"] == 408


def test_compressed_bodies_are_refused(serve: Any, client: Any) -> None:
    headers = {"content-encoding": "gzip"}
    assert serve(lambda app, _: client(app, "POST", URL, b"", headers)).status == 415


def test_a_fault_of_ours_is_500_and_says_nothing(
    serve: Any, client: Any, body_of: Any, table: Any, caplog: Any
) -> None:
    def fail(values: Any) -> Any:
        raise ZeroDivisionError("secret")

    table.run = fail
    reply = serve(lambda app, _: client(app, "POST", URL, body_of(**GOOD)))
    assert reply.status == 500 and b"secret" not in reply.body and "secret" in caplog.text


PREDICT = "/v1/models/table:predict"


def test_predict_by_row(serve: Any, client: Any, table: Any) -> None:
    rows = [{"index": 1, "scale": [1, 2, 3]}, {"index": 0, "scale": [1, 1, 1]}]
    reply = serve(lambda app, _: client(app, "POST", PREDICT, {"instances": rows}))
    expected = table.table[[1, 0]] * np.array([[1, 2, 3], [1, 1, 1]], np.float32)
    assert [row["z"] for row in reply.json["predictions"]] == [2, 1]
    assert [row["y"] for row in reply.json["predictions"]] == expected.tolist()


def test_predict_by_input(serve: Any, client: Any) -> None:
    body = {"inputs": {"index": [1], "scale": [[0, 0, 0]]}}
    path = "/v1/models/table/versions/2:predict"
    reply = serve(lambda app, _: client(app, "POST", path, body))
    assert reply.json == {"outputs": {"y": [[0.0, 0.0, 0.0]], "z": [2]}}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"instances": [], "inputs": []},
        {"instances": []},
        {"instances": 3},
        {"instances": [1]},
        {"instances": [{"index": 1}]},
        {"instances": [{"index": 1, "scale": [1, 2, 3], "more": 1}]},
        {"instances": [{"index": 1, "scale": [1, 2, 3]}, {"index": 1, "scale": [1, 2]}]},
        {"instances": [{"index": 1.5, "scale": [1, 2, 3]}]},
        {"inputs": {"index": [1]}},
        {"inputs": {"index": [1], "scale": [[1, 2, 3]], "more": 2}},
        {"inputs": [1]},
        {"inputs": {"index": 1, "scale": [[1, 2, 3]]}},
        {"inputs": {"index": [1], "scale": [[1, 2, 3]]}, "signature_name": "train"},
    ],
)
def test_wrong_predictions_are_told_why(serve: Any, client: Any, body: Any) -> None:
    reply = serve(lambda app, _: client(app, "POST", PREDICT, body))
    assert reply.status == 400 and reply.json["error"]
