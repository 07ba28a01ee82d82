"""What the hardening tests run: small programs of every kind, with sizes that fit no vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import rabbet as rb
from rabbet import nn

F = nn.functional


def make(shape: Sequence[int], seed: int = 0) -> Any:
    """Normal numbers, float32."""
    return rb.tensor(np.random.default_rng(seed).normal(size=tuple(shape)).astype(np.float32))


def read(values: Sequence[Any]) -> None:
    """Compute all values as one segment."""
    rb.flush()
    assert all(v.numpy().size >= 0 for v in values)


def mlp() -> None:
    """Training steps of a small network; the third has another batch size."""
    rb.manual_seed(1)
    model = nn.Sequential(nn.Linear(37, 65), nn.GELU(), nn.Linear(65, 33), nn.Tanh())
    head = nn.Linear(33, 10)
    opt = rb.optim.AdamW([*model.parameters(), *head.parameters()], lr=1e-2)
    for step, n in enumerate((19, 19, 23)):
        y = rb.tensor(np.arange(n) % 10)
        loss = F.cross_entropy(head(model(make((n, 37), step))), y)
        opt.zero_grad()
        loss.backward()
        opt.step()


def convolutional() -> None:
    """Training steps of a convolutional network with dropout."""
    rb.manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(1, 9, 3, padding=1),
        nn.BatchNorm2d(9),
        nn.ReLU(),
        nn.Conv2d(9, 13, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(13 * 2 * 2, 10),
    )
    opt = rb.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(2):
        loss = F.cross_entropy(model(make((5, 1, 9, 8), step)), rb.tensor(np.arange(5)))
        opt.zero_grad()
        loss.backward()
        opt.step()


def norms() -> None:
    """Softmax and normalisations of odd rows, forward and backward."""
    for width in (1, 5, 17, 67, 131):
        x = make((7, width), width)
        x.requires_grad = True
        weight = make((width,), 3)
        y = F.layer_norm(x, (width,), weight, weight) * rb.softmax(x, axis=-1)
        z = rb.log_softmax(y, axis=0) + rb.logsumexp(x, axis=1, keepdims=True)
        (z * z).sum().backward()
        read([x.grad, z])


def indexing() -> None:
    """take, scatter, embedding and writes by index, with their gradients."""
    x = make((11, 13))
    x.requires_grad = True
    rows = rb.tensor(np.array([0, 3, 3, 10, -1, 7]))
    table = F.embedding(rows.reshape((2, 3)) % 11, x)
    taken = rb.take(x, rows, axis=0) + rb.take(x, rows, axis=1)[:6, :1]
    (table.sum() + (taken * taken).sum()).backward()
    y = x.detach() * 2
    y[rows] = make((6, 13), 4)
    y[1:9:3, ::-2] = 5.0
    added = rb.index_add(y, 0, rows, make((6, 13), 5))
    along = rb.take_along_axis(y, rb.tensor(np.argsort(y.numpy(), 1)), axis=1)
    read([x.grad, y, added, along, rb.one_hot(rows % 11, num_classes=11), x[:, rows]])


def reductions() -> None:
    """Every reduction over every set of axes, of sizes on both sides of the vector's."""
    for shape in ((3, 5, 37), (2, 70, 3), (129,), (1, 1, 1), (4, 0, 3)):
        x = make(shape, 6)
        found = []
        for axes in subsets(len(shape)):
            if 0 not in [shape[a] for a in axes]:
                found += [rb.max(x, axis=axes), rb.min(x, axis=axes)]
            found += [
                rb.sum(x, axis=axes),
                rb.prod(x, axis=axes),
                rb.mean(x.astype(rb.float64), axis=axes),
            ]
            found += [rb.any(x > 1, axis=axes), rb.all(x < 1, axis=axes)]
            found += [rb.sum((x * 100).astype(rb.int32), axis=axes)]
        if 0 not in shape:
            found += [f(x, axis=a) for a in range(len(shape)) for f in (rb.argmax, rb.argmin)]
        read([*found, rb.cumulative_sum(x.reshape((-1,)))])


def subsets(n: int) -> list[tuple[int, ...]]:
    """Every non-empty set of axes below n."""
    return [tuple(a for a in range(n) if bits >> a & 1) for bits in range(1, 1 << n)]


def matrices() -> None:
    """Products of odd matrices: long sums, single rows, batches, transposes, float64."""
    for m, n, k in ((1, 1, 1), (1, 77, 300), (65, 1, 33), (13, 49, 259), (70, 66, 5), (3, 0, 4)):
        a, b = make((m, k), 7), make((k, n), 8)
        turned = rb.matmul(make((k, m), 9).T, make((n, k), 10).T)
        batch = rb.matmul(make((2, 3, m, k), 11), make((3, k, n), 12))
        double = rb.matmul(a.astype(rb.float64), b.astype(rb.float64))
        fused = rb.relu(a @ b + make((n,), 13)) * 2
        read([a @ b, turned, batch, double, fused])
    read(
        [
            rb.einsum("bij,bkj->ik", make((3, 5, 7)), make((3, 9, 7), 1)),
            rb.outer(make((5,)), make((9,))),
        ]
    )


def movements() -> None:
    """Index maps of every kind, alone and followed by arithmetic."""
    x = make((5, 7, 9))
    moved = [
        x.permute((2, 0, 1)),
        rb.flip(x, axis=(0, 2)),
        rb.roll(x, 3, axis=1),
        x[::2, 1:-1, ::-3],
    ]
    moved += [rb.cat([x, x[:2], x * 2], axis=0), rb.stack([x, x], axis=-1), rb.tile(x, (2, 1, 3))]
    moved += [rb.triu(x[0]), rb.diagonal(x[:, :5]), F.pad(x, (1, 2, 0, 3)), x.reshape((45, 7)).T]
    moved += [rb.repeat(x, 3, axis=1), rb.expand(x[:, :1], (5, 4, 9)), rb.eye(7, 9) * x[0]]
    read([y for m in moved for y in (m, m * 2 + 1)])


def functions() -> None:
    """The math functions, casts, comparisons and random draws, on odd lengths."""
    rb.manual_seed(3)
    names = (
        "exp log sqrt tanh erf sin cos tan expm1 log1p sigmoid gelu rsqrt floor round lgamma erfinv"
    )
    for length in (1, 7, 31, 133):
        x = make((length,), 14) * 3
        values = [getattr(rb, n)(x) for n in names.split()]
        values += [
            rb.pow(abs(x), 2.5),
            rb.atan2(x, x + 1),
            rb.remainder(x, 0.7),
            rb.where(x > 0, x, -x),
        ]
        for dtype in (rb.float64, rb.int8, rb.uint16, rb.int64, rb.bool):
            values.append((abs(x) * 9).astype(dtype))
        values += [rb.exp(x.astype(rb.float64)), rb.rand((length,)), rb.randn((length, 3))]
        values += [(x * 50).astype(rb.int32) // 7, (x * 50).astype(rb.int32) >> 2]
        read(values)


def convolutions() -> None:
    """Convolutions and pooling with strides, gaps, groups; their gradients; attention."""
    x, w = make((2, 6, 11, 10)), make((8, 3, 3, 2), 1)
    x.requires_grad = w.requires_grad = True
    y = F.conv2d(x, w, stride=(2, 1), padding=(1, 2), dilation=(2, 1), groups=2)
    depthwise = F.conv2d(x, make((6, 1, 3, 3), 2), groups=6)
    turned = F.conv_transpose2d(x, make((6, 5, 3, 3), 3), stride=2)
    pooled = F.avg_pool2d(x, 3, stride=2) + F.max_pool2d(x, 3, stride=2)
    total = (y * y).sum() + depthwise.sum() + (turned * turned).sum() + (pooled * pooled).sum()
    total.backward()
    read([x.grad, w.grad, y, turned, F.conv1d(make((2, 3, 17)), make((4, 3, 5), 4))])
    q = make((2, 3, 9, 7))
    q.requires_grad = True
    F.scaled_dot_product_attention(q, q * 2, q + 1, is_causal=True).sum().backward()
    read([q.grad])


WORKLOADS: dict[str, Callable[[], None]] = {
    f.__name__: f
    for f in (
        *(mlp, convolutional, norms, indexing, reductions),
        *(matrices, movements, functions, convolutions),
    )
}
