"""Networks over sequences: a GPT trained, run and decoded, an encoder, an LSTM trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rabbet.bench.workload import Arrays, Weight, Workload, draw, elements, linear, norm

ADAM_ARRAYS = 3  # the parameter and two moments


def block_weights(name: str, width: int, hidden: int) -> list[Weight]:
    """One transformer layer: norms, the packed projection, the way out, the MLP."""
    return [
        *norm(f"{name}.norm1", width),
        *linear(f"{name}.qkv", width, 3 * width),
        *linear(f"{name}.proj", width, width),
        *norm(f"{name}.norm2", width),
        *linear(f"{name}.up", width, hidden),
        *linear(f"{name}.down", hidden, width),
    ]


@dataclass(frozen=True)
class Gpt:
    """Learned positions, pre-norm, causal attention, GELU (tanh) MLP four times as wide, final
    norm, an untied head without bias. Training: cross-entropy, AdamW with rate 3e-4."""

    batch: int = 16
    length: int = 128
    width: int = 256
    layers: int = 4
    heads: int = 8
    vocabulary: int = 256
    is_training: bool = True
    rate: float = 3e-4

    @property
    def kind(self) -> str:
        return "gpt_train" if self.is_training else "gpt_forward"

    @property
    def flops(self) -> int:
        tokens = self.batch * self.length
        weights = 12 * self.width**2 * self.layers + self.width * self.vocabulary
        # Two products per layer; a causal one needs half of each.
        attention = self.layers * 2 * self.batch * self.length**2 * self.width
        return (3 if self.is_training else 1) * (2 * tokens * weights + attention)

    @property
    def read_bytes(self) -> int:
        copies = ADAM_ARRAYS if self.is_training else 1
        return 4 * copies * elements(self.weights()) + 8 * self.batch * self.length

    @property
    def written_bytes(self) -> int:
        if self.is_training:
            return 4 * ADAM_ARRAYS * elements(self.weights())
        return 4 * self.batch * self.length * self.vocabulary

    def weights(self) -> list[Weight]:
        found = [
            Weight("tokens.weight", (self.vocabulary, self.width)),
            Weight("positions.weight", (self.length, self.width)),
        ]
        for i in range(self.layers):
            found += block_weights(f"blocks.{i}", self.width, 4 * self.width)
        found += norm("norm", self.width)
        return found + linear("head", self.width, self.vocabulary, bias=False)

    def start(self) -> Arrays:
        """What the parameters start with."""
        return draw(self.weights())

    def inputs(self) -> Arrays:
        """int64 x and y (batch, length): tokens and the ones that follow."""
        shape = (self.batch, self.length + 1)
        tokens = np.random.default_rng(1).integers(0, self.vocabulary, shape)
        return {"x": tokens[:, :-1].copy(), "y": tokens[:, 1:].copy()}


@dataclass(frozen=True)
class GptDecode:
    """One token at a time, greedily, with a cache of keys and values, the first half filled."""

    width: int = 768
    layers: int = 12
    heads: int = 12
    vocabulary: int = 256
    cache: int = 256
    first: int = 128  # the position of the first token of a call; a call fills the cache
    kind = "gpt_decode"

    @property
    def steps(self) -> int:
        """Tokens of one call."""
        return self.cache - self.first

    @property
    def _matrices(self) -> int:
        return 12 * self.width**2 * self.layers + self.width * self.vocabulary

    @property
    def _seen(self) -> int:
        """Positions attended to in all steps of a call."""
        return sum(range(self.first + 1, self.cache + 1))

    @property
    def flops(self) -> int:
        return 2 * self.steps * self._matrices + 4 * self._seen * self.width * self.layers

    @property
    def read_bytes(self) -> int:
        # Every matrix once for each token, and the keys and values so far.
        return 4 * (self.steps * self._matrices + 2 * self._seen * self.width * self.layers)

    @property
    def written_bytes(self) -> int:
        return 4 * self.steps * 2 * self.width * self.layers

    def weights(self) -> list[Weight]:
        found = [
            Weight("tokens.weight", (self.vocabulary, self.width)),
            Weight("positions.weight", (self.cache, self.width)),
        ]
        for i in range(self.layers):
            found += block_weights(f"blocks.{i}", self.width, 4 * self.width)
        found += norm("norm", self.width)
        return found + linear("head", self.width, self.vocabulary, bias=False)

    def start(self) -> Arrays:
        """What the parameters start with."""
        return draw(self.weights())

    def inputs(self) -> Arrays:
        """keys and values (layers, heads, cache, width / heads), and the first token."""
        rng = np.random.default_rng(1)
        shape = (self.layers, self.heads, self.cache, self.width // self.heads)
        found = {name: rng.standard_normal(shape, np.float32) for name in ("keys", "values")}
        for array in found.values():
            array[:, :, self.first :] = 0
        return {**found, "token": np.array(1)}


@dataclass(frozen=True)
class Encoder:
    """Post-norm transformer layers with GELU (erf), without embedding: (batch, length, width)."""

    batch: int
    length: int = 128
    width: int = 384
    layers: int = 6
    heads: int = 12
    kind = "encoder_infer"

    @property
    def flops(self) -> int:
        tokens = self.batch * self.length
        attention = 2 * 2 * self.batch * self.length**2 * self.width
        return self.layers * (2 * tokens * 12 * self.width**2 + attention)

    @property
    def read_bytes(self) -> int:
        return 4 * (elements(self.weights()) + self.batch * self.length * self.width)

    @property
    def written_bytes(self) -> int:
        return 4 * self.batch * self.length * self.width

    def weights(self) -> list[Weight]:
        names = [f"blocks.{i}" for i in range(self.layers)]
        return [w for name in names for w in block_weights(name, self.width, 4 * self.width)]

    def start(self) -> Arrays:
        """What the parameters start with."""
        return draw(self.weights())

    def inputs(self) -> Arrays:
        """x (batch, length, width)."""
        shape = (self.batch, self.length, self.width)
        return {"x": np.random.default_rng(1).standard_normal(shape, np.float32)}


@dataclass(frozen=True)
class Lstm:
    """One LSTM layer, a linear layer on its last step, cross-entropy, Adam with rate 1e-3."""

    batch: int = 32
    length: int = 64
    features: int = 64
    width: int = 256
    classes: int = 10
    rate: float = 1e-3
    kind = "lstm_train"

    @property
    def flops(self) -> int:
        tokens = self.batch * self.length
        inward = 2 * tokens * 4 * self.width * self.features
        inside = 2 * tokens * 4 * self.width * self.width
        head = 2 * self.batch * self.width * self.classes
        return 3 * (inward + inside + head) - inward  # the input needs no gradient

    @property
    def read_bytes(self) -> int:
        arrays = ADAM_ARRAYS * elements(self.weights())
        return 4 * (arrays + self.batch * self.length * self.features)

    @property
    def written_bytes(self) -> int:
        return 4 * ADAM_ARRAYS * elements(self.weights())

    def weights(self) -> list[Weight]:
        gates = 4 * self.width
        return [
            Weight("lstm.weight_ih_l0", (gates, self.features)),
            Weight("lstm.weight_hh_l0", (gates, self.width)),
            Weight("lstm.bias_ih_l0", (gates,), "zero"),
            Weight("lstm.bias_hh_l0", (gates,), "zero"),
            *linear("head", self.width, self.classes),
        ]

    def start(self) -> Arrays:
        """What the parameters start with."""
        return draw(self.weights())

    def inputs(self) -> Arrays:
        """x (batch, length, features) and int64 y (batch,)."""
        rng = np.random.default_rng(1)
        return {
            "x": rng.standard_normal((self.batch, self.length, self.features), np.float32),
            "y": rng.integers(0, self.classes, self.batch),
        }


def _encoder(batch: int) -> Workload:
    about = f"6 post-norm layers, width 384, 128 positions, batch {batch}"
    name = f"transformer_encoder_infer_b{batch}"
    return Workload(name, "ms", Encoder(batch), "flops", about, 1.05)


WORKLOADS = [
    Workload(
        "gpt_train", "ms", Gpt(), "flops", "GPT, 4 layers of 256, 16 x 128 tokens, AdamW", 1.3
    ),
    Workload("lstm_train", "ms", Lstm(), "flops", "LSTM 64 -> 256, 64 steps, batch 32, Adam", 1.25),
    Workload(
        "gpt_forward",
        "ms",
        Gpt(is_training=False),
        "flops",
        "the same GPT, 16 x 128 tokens forward",
        1.15,
    ),
    _encoder(1),
    _encoder(8),
    Workload(
        "gpt_decode",
        "tokens/s",
        GptDecode(),
        "bytes",
        "GPT, 12 layers of 768, one token at a time with a cache of 256",
        1.3,
        items=GptDecode().steps,
    ),
]
