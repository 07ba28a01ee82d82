"""Programs as people write them, with `if` and `while` on the values of tensors: plain source, to
be exported as it stands. Each takes a float32 vector of three elements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import rabbet as rb
from rabbet import nn

W = rb.tensor([[0.5, -0.25, 1.0], [0.125, 0.75, -0.5], [-1.0, 0.25, 0.5]])


def early_return(x: Any) -> Any:
    if x.sum() > 0:
        return x * 2
    y = x + 1
    return y


def number_by_branch(x: Any) -> Any:
    scale = 1.0
    if x.sum() > 0:
        scale = 2.5
    elif x.max() > 2:
        scale = 0.5
    return x * scale


def break_continue_else(x: Any) -> Any:
    i = 0
    while (x * x).sum() < 1000:
        x = x * 1.5
        i += 1
        if i > 7:
            break
        if x.max() > 5:
            continue
        x = x + 0.25
    else:
        x = x - 1
    return x, i


def for_with_break(x: Any) -> Any:
    for k in range(6):
        if x[0] > 3:
            break
        x = x + k
        if x[1] < 0 and x[2] < 0 or not x[0] < 1:
            continue
        x = x * 2 if 0 < x[1] < 3 else x * 3
    return x


def return_from_a_loop(x: Any) -> Any:
    while True:
        y = x * 2
        if y.sum() > 10:
            return y, x
        if y.sum() < -10:
            return x, y
        x = x + x.sum() + 0.1


def newton(x: Any) -> Any:
    target = rb.abs(x).sum() + 1
    root = target
    while rb.abs(root * root - target) > 1e-3 * target:
        root = (root + target / root) / 2
    return root


def collatz(x: Any) -> Any:
    n = rb.abs(x).sum().astype("int64") + 1
    steps = 0
    while n != 1:
        if n % 2 == 0:
            n = n // 2
        else:
            n = 3 * n + 1
        steps += 1
    return steps


def nested_loops(x: Any) -> Any:
    total = x.sum() * 0
    i = 0
    while i < 3 and total < 20:
        inner = x
        while rb.abs(inner).max() > 1:
            inner = inner / 2
            total = total + 1
        total = total + inner.sum()
        i = i + 1
    return total


def three_ways(x: Any) -> Any:
    m = x.max()
    if m > 3:
        kind, y = 2, x - m
    elif m > 0:
        kind, y = 1, x / m
    else:
        kind, y = 0, -x
    if kind == 1:
        y = y @ W
    return y, kind


def helper(x: Any, t: Any) -> Any:
    if t > 0:
        return x
    return -x


def calls_a_helper(x: Any) -> Any:
    y = helper(x, x[0])
    return helper(y, y.sum()) + helper(x, 1)


def elements(x: Any) -> Any:
    y = x + 0
    if y[0] > 0:
        y[1] = 7
        if y[2] > 0:
            y[2] += y[0]
    else:
        y += 1
    return y


def index_while_inside(x: Any) -> Any:
    i = rb.tensor(0)
    while i < 3 and x[i] > -1:
        i = i + 1
    return i


def ternaries(x: Any) -> Any:
    a = x[0] if x[0] > x[1] else x[1]
    b = a if a > x[2] else x[2]
    return b, (x[0] or x[1]) if x.sum() > 0 else b


def pairs(x: Any) -> Any:
    state = (x, x.sum())
    while state[1] < 50 and rb.abs(state[0]).max() > 0.01:
        low, high = state
        if low.min() < 0:
            state = (rb.abs(low), high + 1)
        else:
            state = (low * 1.5, high + low.sum())
    return {"a": state[0], "b": state[1]}


def bisect(x: Any) -> Any:
    low, high = rb.tensor(-20.0), rb.tensor(20.0)
    for _ in range(12):
        middle = (low + high) / 2
        if (middle * middle * middle + x[0] - middle * x[1] * 0) > 0:
            high = middle
        else:
            low = middle
    return low


def clipped_steps(x: Any) -> Any:
    steps = 0
    done = False
    while not done:
        norm = rb.sqrt((x * x).sum())
        if norm < 1:
            done = True
        elif steps >= 10:
            return x, -1
        else:
            x = x * 0.7
            steps += 1
    return x, steps


def with_closure(x: Any) -> Any:
    limit = 4

    def too_large(v: Any) -> Any:
        if rb.abs(v).max() > limit:
            return True
        return v.sum() > limit

    while too_large(x):
        x = x / 2 - 0.125
    return x


def booleans(x: Any) -> Any:
    up = x[0] > x[1]
    down = x[1] > x[2]
    if up and down:
        return rb.tensor(1)
    if up or down:
        return rb.tensor(2)
    if not (up or down) and x[0] < 0:
        return rb.tensor(3)
    return rb.tensor(4)


class Gate(nn.Module):
    """A layer that runs as often as its input asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        with rb.no_grad():
            self.layer.weight.copy_(W)
            self.layer.bias.copy_(rb.tensor([0.25, -0.5, 0.125]))

    def forward(self, x: Any) -> Any:
        n = 0
        while rb.abs(x).sum() < 40 and n < 5:
            x = self.step(x)
            n += 1
        return x, n

    def step(self, x: Any) -> Any:
        if x.max() > 4:
            return self.layer(x) * 3
        else:
            return self.layer(x) + 1


class Halting(Gate):
    """The same with something of its own before and after."""

    def forward(self, x: Any) -> Any:
        if x[0] < -4:
            x = x + 8
        x, n = super().forward(x)
        if n == 0:
            return x, -1
        return x, n


PROGRAMS: list[Callable[..., Any]] = [
    *(early_return, number_by_branch, break_continue_else, for_with_break, return_from_a_loop),
    *(newton, collatz, nested_loops, three_ways, calls_a_helper, elements, index_while_inside),
    *(ternaries, pairs, bisect, clipped_steps, with_closure, booleans, Gate(), Halting()),
]


def everything(x: Any) -> Any:
    """The result of every program, so that one library holds them all."""
    return (
        early_return(x),
        number_by_branch(x),
        break_continue_else(x),
        for_with_break(x),
        return_from_a_loop(x),
        newton(x),
        collatz(x),
        nested_loops(x),
        three_ways(x),
        calls_a_helper(x),
        elements(x),
        index_while_inside(x),
        ternaries(x),
        pairs(x),
        bisect(x),
        clipped_steps(x),
        with_closure(x),
        booleans(x),
        PROGRAMS[18](x),
        PROGRAMS[19](x),
    )
