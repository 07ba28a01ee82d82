"""Matrix products and convolutions alone: GFLOP/s, allocation of the result included."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rabbet.bench.workload import Arrays, Workload

BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Gemm:
    """a (m, k) @ b (k, n), both random; `constant`: b is known before and may be rearranged."""

    m: int
    n: int
    k: int
    dtype: str = "float32"
    constant: bool = False

    @property
    def kind(self) -> str:
        if self.dtype == "bfloat16":  # not every framework has it
            return "gemm_bfloat16"
        return "gemm_constant" if self.constant else "gemm"

    @property
    def flops(self) -> int:
        return 2 * self.m * self.n * self.k

    @property
    def read_bytes(self) -> int:
        return BYTES[self.dtype] * self.k * (self.m + self.n)

    @property
    def written_bytes(self) -> int:
        return BYTES[self.dtype] * self.m * self.n

    def inputs(self) -> Arrays:
        """a and b, float32 (to be cast to the dtype)."""
        rng = np.random.default_rng(0)
        return {
            "a": rng.standard_normal((self.m, self.k), np.float32),
            "b": rng.standard_normal((self.k, self.n), np.float32),
        }


@dataclass(frozen=True)
class Convolution:
    """A square convolution forward, padding kernel // 2, float32, random weights."""

    channels: int
    filters: int
    kernel: int
    side: int
    stride: int = 1
    groups: int = 1
    images: int = 8
    kind = "conv"

    @property
    def out(self) -> int:
        """Rows and columns of the result."""
        return (self.side + 2 * (self.kernel // 2) - self.kernel) // self.stride + 1

    @property
    def flops(self) -> int:
        taps = self.channels // self.groups * self.kernel**2
        return 2 * self.images * self.filters * self.out**2 * taps

    @property
    def read_bytes(self) -> int:
        weights = self.filters * self.channels // self.groups * self.kernel**2
        return 4 * (self.images * self.channels * self.side**2 + weights)

    @property
    def written_bytes(self) -> int:
        return 4 * self.images * self.filters * self.out**2

    def inputs(self) -> Arrays:
        """x (images, channels, side, side) and weight (filters, channels / groups, k, k)."""
        rng = np.random.default_rng(0)
        taps = self.channels // self.groups
        x = (self.images, self.channels, self.side, self.side)
        weight = (self.filters, taps, self.kernel, self.kernel)
        return {
            "x": rng.standard_normal(x, np.float32),
            "weight": rng.standard_normal(weight, np.float32),
        }


def _square(n: int, goal: float, share: float | None) -> Workload:
    about = f"float32 {n} x {n} @ {n} x {n}"
    return Workload(f"gemm_f32_{n}", "GFLOP/s", Gemm(n, n, n), "flops", about, goal, share)


def _constant(n: int) -> Workload:
    problem = Gemm(n, n, n, constant=True)
    about = f"float32 {n} x {n} @ {n} x {n}, the right one constant"
    return Workload(f"gemm_f32_{n}_constant", "GFLOP/s", problem, "flops", about)


def _conv(name: str, problem: Convolution, goal: float) -> Workload:
    p = problem
    about = (
        f"{p.channels} -> {p.filters} channels, {p.kernel} x {p.kernel}, stride {p.stride}, "
        f"{p.images} images of {p.side} x {p.side}" + (", depthwise" if p.groups > 1 else "")
    )
    return Workload(name, "GFLOP/s", p, "flops", about, goal)


WORKLOADS = [
    _square(256, 1.05, None),
    _square(1024, 1.0, 0.92),
    _square(2048, 1.0, 0.92),
    _constant(256),
    _constant(1024),
    _constant(2048),
    Workload(
        "gemm_bf16_1024",
        "GFLOP/s",
        Gemm(1024, 1024, 1024, "bfloat16"),
        "flops",
        "bfloat16 1024 x 1024 @ 1024 x 1024",
        1.0,
    ),
    _conv("conv_3_64_k7_224", Convolution(3, 64, 7, 224, 2), 1.05),
    _conv("conv_64_64_k3_56", Convolution(64, 64, 3, 56), 1.0),
    _conv("conv_128_128_k3_28", Convolution(128, 128, 3, 28), 1.0),
    _conv("conv_256_256_k3_14", Convolution(256, 256, 3, 14), 1.0),
    _conv("conv_512_512_k3_7", Convolution(512, 512, 3, 7), 1.0),
    _conv("conv_256_64_k1_56", Convolution(256, 64, 1, 56), 1.3),
    _conv("conv_512_2048_k1_7", Convolution(512, 2048, 1, 7), 1.05),
    _conv("conv_depthwise_128_k3_56", Convolution(128, 128, 3, 56, 1, 128), 1.1),
]
