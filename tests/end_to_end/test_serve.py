"""A model that was exported, served by a process of its own, and asked by many at once."""

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn

pytest.importorskip("uvicorn", reason='needs uvicorn: pip install "rabbet[serve]"')

SERVE = """
import sys
import rabbet as rb
from rabbet import serve
serve.main(sys.argv[1], port=0, load=rb.load_program, version=rb.__version__)
print("ended", flush=True)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    rb.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64, 10)),
    ).eval()
    words = nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 3)).eval()
    for name, version in (("digits", 1), ("digits", 2), ("words", 1)):
        (folder / name / str(version)).mkdir(parents=True)
    for version in (1, 2):
        path = folder / "digits" / str(version) / "model.rbt"
        rb.export(net, (rb.zeros((2, 1, 8, 8)),), path, dynamic={"x": {0: "batch"}})
    example = (rb.zeros((2, 5), dtype="int64"),)
    dynamic = {"x": {0: "batch", 1: "length"}}
    rb.export(words, example, folder / "words" / "1" / "model.rbt", dynamic=dynamic)
    return folder


class Server:
    """The process, and connections to it."""

    def __init__(self, models: Path) -> None:
        command = [sys.executable, "-c", SERVE, str(models)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                return
        raise AssertionError(f"the server did not start: {self.lines}")

    def ask(self, method: str, path: str, body: Any = None, headers: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        connection.request(method, path, data, headers or {})
        reply = connection.getresponse()
        text = reply.read()
        connection.close()
        return reply.status, text, reply.headers


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    running = Server(models)
    yield running
    running.process.kill()
    running.process.communicate()


def test_it_says_what_it_serves(server: Server) -> None:
    assert [line.split() for line in server.lines[:3]] == [
        ["digits", "version", "1", "ready"],
        ["digits", "version", "2", "ready"],
        ["words", "version", "1", "ready"],
    ]
    assert server.ask("GET", "/v2/health/ready")[0] == 200
    status, text, _ = server.ask("GET", "/v2/models/digits")
    assert status == 200 and json.loads(text)["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [-1, 1, 8, 8]}
    ]


def infer_binary(server: Server, model: str, x: np.ndarray, datatype: str) -> np.ndarray:
    head = {
        "inputs": [{"name": "x", "shape": x.shape, "datatype": datatype}],
        "parameters": {"binary_data_output": True},
    }
    head["inputs"][0]["parameters"] = {"binary_data_size": x.nbytes}  # type: ignore[index]
    text = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    status, reply, answered = server.ask(
        "POST", f"/v2/models/{model}/infer", text + x.tobytes(), headers
    )
    assert status == 200, reply
    length = int(answered["Inference-Header-Content-Length"])
    shape = json.loads(reply[:length])["outputs"][0]["shape"]
    return np.frombuffer(reply[length:], np.float32).reshape(shape)


def test_many_at_once_get_the_bits_of_single_calls(server: Server, models: Path) -> None:
    program = rb.load_program(models / "digits" / "2" / "model.rbt")
    rng = np.random.default_rng(3)
    images = [rng.standard_normal((1 + i % 4, 1, 8, 8)).astype(np.float32) for i in range(120)]
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda x: infer_binary(server, "digits", x, "FP32"), images))
    for x, y in zip(images, found, strict=True):
        assert y.tobytes() == program(x).numpy().tobytes()
    told = json.loads(server.ask("GET", "/v2/models/digits/stats")[1])
    assert told["requests"] == 120 and told["batches"] <= 120 and told["joins"] is True


@pytest.mark.slow
def test_sixty_four_clients_share_batches(server: Server, models: Path) -> None:
    """64 clients at once: the bits of single calls, and more than four requests a batch."""
    program = rb.load_program(models / "digits" / "2" / "model.rbt")
    rng = np.random.default_rng(7)
    images = [rng.standard_normal((1, 1, 8, 8)).astype(np.float32) for _ in range(64)]
    before = json.loads(server.ask("GET", "/v2/models/digits/stats")[1])
    ready = threading.Barrier(64)

    def client(x: np.ndarray) -> list[bytes]:
        ready.wait()
        return [infer_binary(server, "digits", x, "FP32").tobytes() for _ in range(10)]

    with ThreadPoolExecutor(64) as pool:
        found = list(pool.map(client, images))
    for x, answers in zip(images, found, strict=True):
        assert set(answers) == {program(x).numpy().tobytes()}
    told = json.loads(server.ask("GET", "/v2/models/digits/stats")[1])
    requests = told["requests"] - before["requests"]
    assert requests == 640 and requests / (told["batches"] - before["batches"]) > 4


def test_json_is_exact_too(server: Server, models: Path) -> None:
    x = np.random.default_rng(4).standard_normal((2, 1, 8, 8)).astype(np.float32)
    body = {"inputs": [{"name": "x", "shape": x.shape, "datatype": "FP32", "data": x.tolist()}]}
    status, text, _ = server.ask("POST", "/v2/models/digits/versions/1/infer", body)
    expected = rb.load_program(models / "digits" / "1" / "model.rbt")(x).numpy()
    assert status == 200
    found = np.array(json.loads(text)["outputs"][0]["data"], np.float32).reshape(2, 10)
    assert found.tobytes() == expected.tobytes()
    status, text, _ = server.ask("POST", "/v1/models/digits:predict", {"instances": x.tolist()})
    assert status == 200
    found = np.array(json.loads(text)["predictions"], np.float32)
    assert found.tobytes() == expected.tobytes()


def test_an_index_out_of_range_is_the_clients_fault(server: Server) -> None:
    good = np.arange(6).reshape(2, 3)
    assert infer_binary(server, "words", good, "INT64").shape == (2, 3, 3)
    body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "INT64", "data": [3, 11]}]}
    status, text, _ = server.ask("POST", "/v2/models/words/infer", body)
    assert status == 400 and b"11" in text
    body["inputs"][0].update(shape=[0, 2], data=[])
    status, text, _ = server.ask("POST", "/v2/models/words/infer", body)
    assert status in (200, 400)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v2/models/digits/infer", b"{", 400),
        ("/v2/models/digits/infer", {"inputs": []}, 400),
        ("/v2/models/chairs/infer", {"inputs": []}, 404),
        ("/v2/models/digits/versions/7/infer", {"inputs": []}, 404),
        ("/v2/models/digits", {}, 405),
        ("/v1/models/digits:predict", {"instances": [[1.0]]}, 400),
    ],
)
def test_wrong_requests(server: Server, path: str, body: Any, status: int) -> None:
    found, text, _ = server.ask("POST", path, body)
    assert found == status and "error" in json.loads(text)


def test_too_large_is_refused_before_it_is_sent(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("POST", "/v2/models/digits/infer")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_a_signal_ends_it_and_loses_no_request(models: Path) -> None:
    server = Server(models)
    body = json.dumps({"instances": np.ones((1, 1, 8, 8)).tolist()}).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("POST", "/v1/models/digits:predict")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:10])
    time.sleep(0.3)  # the server has begun to read
    server.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 30
    with pytest.raises(ConnectionError):  # it takes nothing new
        while time.monotonic() < deadline:
            server.ask("GET", "/v2")
            time.sleep(0.05)
    connection.send(body[10:])
    reply = connection.getresponse()
    assert reply.status == 200 and len(json.loads(reply.read())["predictions"][0]) == 10
    connection.close()
    rest, _ = server.process.communicate(timeout=30)
    assert server.process.returncode == 0 and "ended" in rest
