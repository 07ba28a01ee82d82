"""The records' FLOPs are right, and Rabbet runs every workload, at small sizes."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rabbet import nn
from rabbet.bench.frameworks import with_rabbet
from rabbet.bench.frameworks.running import digest
from rabbet.bench.workload import Workload
from rabbet.bench.workloads import ALL, choose
from rabbet.bench.workloads.images import Cnn, ResNet
from rabbet.bench.workloads.mlp import Mlp
from rabbet.bench.workloads.products import Convolution, Gemm
from rabbet.bench.workloads.sequences import Encoder, Gpt, GptDecode, Lstm
from rabbet.bench.workloads.small import Stream, Tiny, TinyAdds

SMALL: dict[str, dict[str, Any]] = {
    "Gemm": {"m": 3, "n": 5, "k": 4},
    "Convolution": {"images": 2, "side": 6},
    "Mlp": {"batch": 4, "widths": (6, 5, 3)},
    "Cnn": {"batch": 2, "side": 8, "filters": (2, 3, 4)},
    "ResNet": {"batch": 2, "side": 32, "depths": (1, 1), "widths": (2, 4), "classes": 3},
    "Gpt": {"batch": 2, "length": 5, "width": 8, "layers": 1, "heads": 2, "vocabulary": 7},
    "GptDecode": {"width": 8, "layers": 1, "heads": 2, "vocabulary": 7, "cache": 4, "first": 2},
    "Encoder": {"batch": 2, "length": 5, "width": 8, "layers": 1, "heads": 2},
    "Lstm": {"batch": 2, "length": 3, "features": 4, "width": 5, "classes": 3},
    "Tiny": {"elements": 3},
    "TinyAdds": {"count": 3, "elements": 2},
    "Stream": {"shape": (6, 5)},
}


def small(problem: Any) -> Any:
    """The same computation at sizes that take no time."""
    return replace(problem, **SMALL[type(problem).__name__])


WAYS = [
    pytest.param(workload, way, id=f"{workload.name}-{way}")
    for _, same in itertools.groupby(ALL, key=lambda w: (w.problem.kind, type(w.problem)))
    for workload in [next(same)]
    for way in with_rabbet.BUILDERS[workload.problem.kind]
]


@pytest.mark.parametrize(("workload", "way"), WAYS)
def test_rabbet_runs_every_workload(workload: Workload, way: str) -> None:
    if workload.name.startswith("lstm") and not hasattr(nn, "LSTM"):
        pytest.skip("there is no nn.LSTM yet")
    problem = small(workload.problem)
    running = with_rabbet.BUILDERS[problem.kind][way](problem)
    first, second = (digest(running.numbers(running.run(1))) for _ in range(2))
    assert np.isfinite(first).all() and np.isfinite(second).all()
    if not problem.kind.endswith("train"):
        assert first == second


def test_ways_agree_on_the_losses_of_training() -> None:
    problem = small(Gpt())
    losses = []
    for way in ("eager", "jit"):
        running = with_rabbet.BUILDERS["gpt_train"][way](problem)
        losses.append([float(running.numbers(running.run(1))) for _ in range(4)])
    assert losses[0] == losses[1] and losses[0][-1] < losses[0][0]


@pytest.mark.parametrize(
    ("problem", "flops"),
    [
        (Gemm(3, 5, 7), 2 * 3 * 5 * 7),
        (Convolution(4, 6, 3, 8, images=2), 2 * 2 * 6 * 64 * 4 * 9),
        (Convolution(4, 4, 3, 8, 2, 4, images=2), 2 * 2 * 4 * 16 * 9),
        (Mlp(2, (3, 5, 7)), 3 * 2 * 2 * (15 + 35) - 2 * 2 * 15),
        (Lstm(1, 2, 3, 4, 5), 3 * (2 * 2 * 16 * 7 + 2 * 20) - 2 * 2 * 16 * 3),
    ],
)
def test_flops_by_hand(problem: Any, flops: int) -> None:
    assert problem.flops == flops


@pytest.mark.parametrize(
    ("name", "gflops"),
    [  # published counts of multiply-adds, twice
        ("resnet50_infer_b1", 2 * 4.09),
        ("resnet18_train", 3 * 32 * 2 * 0.556),
        # 6 N per token and the causal half of attention, forward and twice backward
        ("gpt_train", 6 * 2048 * 3_211_264 / 1e9 + 3 * 4 * 2 * 16 * 128**2 * 256 / 1e9),
        ("transformer_encoder_infer_b1", 6 * (24 * 128 * 384**2 + 4 * 128**2 * 384) / 1e9),
    ],
)
def test_flops_of_the_networks(name: str, gflops: float) -> None:
    (workload,) = choose([name])
    assert workload.problem.flops / 1e9 == pytest.approx(gflops, rel=0.01)


def test_parameters_of_the_networks() -> None:
    def count(problem: Any) -> int:
        return sum(int(np.prod(w.shape)) for w in problem.weights() if w.trained)

    (resnet50,) = choose(["resnet50_infer_b1"])
    assert count(resnet50.problem) == 25_557_032  # as torchvision's
    assert count(ResNet(32, 32)) == 11_173_962  # the usual ResNet-18 for 32 x 32, ten classes
    assert count(Mlp(1)) == 784 * 256 + 256 * 128 + 128 * 10 + 256 + 128 + 10
    assert count(Cnn()) > 0 and count(Encoder(1)) == 6 * (12 * 384**2 + 13 * 384)


def test_decoding_reads_every_matrix_for_every_token() -> None:
    problem = GptDecode(width=4, layers=1, heads=1, vocabulary=3, cache=4, first=2)
    matrices, seen = 12 * 16 + 12, 3 + 4
    assert problem.read_bytes == 4 * (2 * matrices + 2 * seen * 4)
    assert problem.flops == 2 * 2 * matrices + 4 * seen * 4


def test_bytes_of_a_stream() -> None:
    assert Stream("softmax", (8, 4)).read_bytes == Stream("softmax", (8, 4)).written_bytes == 128
    assert Stream("sum0", (8, 4)).written_bytes == 16
    assert Tiny("chain").flops == 80 and TinyAdds().flops == 800


def test_figures() -> None:
    by_name = {w.name: w for w in ALL}
    assert len(by_name) == len(ALL)
    assert by_name["gemm_f32_1024"].figure(2 * 1024**3 / 1e11) == pytest.approx(100)
    assert by_name["mlp_train_b64"].figure(0.002) == pytest.approx(2)
    assert by_name["gpt_decode"].figure(2.0) == 64
    assert by_name["tiny_adds"].figure(1e-4) == pytest.approx(1)
    assert by_name["softmax"].figure(2 * 4 * 4096 * 1024 / 50e9) == pytest.approx(50)


def test_choosing_by_pattern() -> None:
    assert [w.name for w in choose(["mlp*"])] == ["mlp_train_b64", "mlp_train_b512"]
    assert choose([]) == ALL
    with pytest.raises(ValueError, match="no workload is called 'mpl'"):
        choose(["mpl"])
