"""L-BFGS: a quasi-Newton method for functions that can be computed again, with a closure.

Two-loop recursion and strong Wolfe line search after J. Nocedal and S. Wright, "Numerical
Optimization", 2006, algorithms 7.4, 3.5 and 3.6. Every step reads values: it decides by them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rabbet.base.errors import RabbetError
from rabbet.optim.optimizer import Optimizer
from rabbet.tensor import Tensor, asarray, enable_grad, functions, no_grad

CURVATURE = 1e-10  # of a pair (s, y) that is kept
ARMIJO, WOLFE = 1e-4, 0.9
TRIALS = 25  # of one line search


class _Point(NamedTuple):
    """A place on the line, with the loss, its gradient and its slope along the direction."""

    t: float
    loss: float
    gradient: Tensor
    slope: float


class LBFGS(Optimizer):
    """Newton's steps with a curvature that is learnt from the last `history_size` steps.

    `step(closure)` calls the closure, which clears gradients, computes the loss, calls backward()
    and returns the loss, up to `max_eval` times (max_iter * 5 / 4 unless told) in up to `max_iter`
    steps, and returns the first loss. `line_search_fn`: None (steps of lr) or "strong_wolfe".
    One group of parameters.

    Example:
        >>> w = nn.Parameter(rb.asarray([3.0, -2.0]))
        >>> opt = optim.LBFGS([w], line_search_fn="strong_wolfe")
        >>> def closure():
        ...     opt.zero_grad()
        ...     loss = ((w - rb.asarray([1.0, 5.0])) ** 2).sum()
        ...     loss.backward()
        ...     return loss
        >>> first = opt.step(closure); w.numpy().round(4).tolist()
        [1.0, 5.0]
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        if line_search_fn not in (None, "strong_wolfe"):
            raise ValueError(
                f"LBFGS: line_search_fn={line_search_fn!r} must be None or 'strong_wolfe'"
            )
        defaults = dict(
            lr=lr,
            max_iter=max_iter,
            max_eval=max_iter * 5 // 4 if max_eval is None else max_eval,
            tolerance_grad=tolerance_grad,
            tolerance_change=tolerance_change,
            history_size=history_size,
            line_search_fn=line_search_fn,
        )
        super().__init__(params, defaults)
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS: all parameters must be in one group")
        self._pairs: list[tuple[Tensor, Tensor]] = []  # steps, and changes of the gradient
        self._direction: Tensor | None = None
        self._gradient: Tensor | None = None
        self._size = 1.0
        self._steps = 0

    # ---- the parameters as one vector ----------------------------------------------------------

    def _flat(self, gradients: bool) -> Tensor:
        parts = []
        for p in self.param_groups[0]["params"]:
            x = p.grad if gradients else p.detach()
            parts.append((functions["zeros_like"](p.detach()) if x is None else x).reshape((-1,)))
        return functions["concat"](parts)

    def _place(self, x: Tensor) -> None:
        start = 0
        with no_grad():
            for p in self.param_groups[0]["params"]:
                p.copy_(x[start : start + p.numel()].reshape(p.shape))
                start += p.numel()

    # ---- a step --------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Several Newton steps, with `closure()` computing loss and gradients at each."""
        if closure is None:
            raise RabbetError("LBFGS.step: needs a closure that computes the loss and backward()")
        given: Callable[[], Any] = closure
        calls = 0

        def at(x: Tensor) -> tuple[float, Tensor]:
            nonlocal calls
            calls += 1
            self._place(x)
            with enable_grad():
                found = given()
            return float(found), self._flat(True).detach()

        with enable_grad():
            first = given()
        calls += 1
        loss, gradient = float(first), self._flat(True).detach()
        group = self.param_groups[0]
        if _largest(gradient) <= group["tolerance_grad"]:
            return first
        for number in range(group["max_iter"]):
            direction = self._next_direction(gradient)
            slope = float((gradient * direction).sum())
            if slope > -group["tolerance_change"]:
                break
            lr = float(group["lr"])
            start = min(1.0, 1.0 / float(abs(gradient).sum())) * lr if self._steps == 1 else lr
            x, before = self._flat(False), loss
            room = group["max_eval"] - calls
            if group["line_search_fn"] is None:
                self._size = start
                self._place(x + direction * start)
                if room > 0 and number + 1 < group["max_iter"]:
                    loss, gradient = at(x + direction * start)
            else:
                here = _Point(0.0, loss, gradient, slope)
                line = functools.partial(_along, at, x, direction)
                found = _strong_wolfe(line, here, direction, start)
                self._size, loss, gradient = found.t, found.loss, found.gradient
                self._place(x + direction * found.t)
            moved = _largest(direction) * abs(self._size)
            if (
                calls >= group["max_eval"]
                or _largest(gradient) <= group["tolerance_grad"]
                or moved <= group["tolerance_change"]
                or abs(loss - before) < group["tolerance_change"]
            ):
                break
        return first

    def _next_direction(self, gradient: Tensor) -> Tensor:
        """Minus the gradient times the inverse curvature that the pairs imply."""
        self._steps += 1
        if self._gradient is not None and self._direction is not None:
            change, step = gradient - self._gradient, self._direction * self._size
            if float((change * step).sum()) > CURVATURE:
                self._pairs = [*self._pairs, (step, change)][
                    -self.param_groups[0]["history_size"] :
                ]
        self._gradient = gradient
        q = -gradient
        shares = []
        for s, y in reversed(self._pairs):
            share = (s * q).sum() / (y * s).sum()
            shares.append(share)
            q = q - y * share
        if self._pairs:
            s, y = self._pairs[-1]
            q = q * ((y * s).sum() / (y * y).sum())
        for (s, y), share in zip(self._pairs, reversed(shares), strict=True):
            q = q + s * (share - (y * q).sum() / (y * s).sum())
        self._direction = q
        return q

    # ---- saved states --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Hyper-parameters, and the history as lists of vectors."""
        own = {
            **{"steps": self._steps, "size": self._size},
            **{"direction": self._direction, "gradient": self._gradient},
            **{"pairs": [list(pair) for pair in self._pairs]},
        }
        return {**super().state_dict(), "history": own}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        super().load_state_dict(state_dict)
        own = state_dict.get("history", {"steps": 0, "size": 1.0, "pairs": []})
        self._steps, self._size = int(own["steps"]), float(own["size"])
        self._direction, self._gradient = (
            None if own.get(name) is None else asarray(own[name])
            for name in ("direction", "gradient")
        )
        self._pairs = [(asarray(s), asarray(y)) for s, y in own["pairs"]]


def _along(at: Callable[[Tensor], Any], x: Tensor, direction: Tensor, t: float) -> Any:
    return at(x + direction * t)


def _largest(x: Tensor) -> float:
    return float(abs(x).max()) if x.numel() else 0.0


def _cubic(low: _Point, high: _Point) -> float:
    """The minimum of the cubic through two points, kept off both ends; else the middle."""
    d1 = low.slope + high.slope - 3 * (low.loss - high.loss) / (low.t - high.t)
    square = d1 * d1 - low.slope * high.slope
    first, last = sorted((low.t, high.t))
    if square < 0 or not math.isfinite(square):
        return (first + last) / 2
    d2 = math.copysign(math.sqrt(square), high.t - low.t)
    below = high.slope - low.slope + 2 * d2
    t = high.t - (high.t - low.t) * (high.slope + d2 - d1) / below if below else first
    margin = 0.1 * (last - first)
    return min(max(t, first + margin), last - margin)


def _strong_wolfe(
    at: Callable[[float], tuple[float, Tensor]], start: _Point, direction: Tensor, t: float
) -> _Point:
    """A point where the loss fell enough and the slope is small enough, or the best one tried."""

    def point(t: float) -> _Point:
        loss, gradient = at(t)
        return _Point(t, loss, gradient, float((gradient * direction).sum()))

    def is_high(p: _Point, low: _Point) -> bool:
        return not p.loss <= start.loss + ARMIJO * p.t * start.slope or p.loss >= low.loss

    def is_flat(p: _Point) -> bool:
        return abs(p.slope) <= -WOLFE * start.slope

    low, high, left = start, None, TRIALS
    while high is None and left:  # go on until the minimum is behind
        new, left = point(t), left - 1
        if is_high(new, low) and (new.t != low.t):
            high = new
        elif is_flat(new):
            return new
        elif new.slope >= 0:
            low, high = new, low
        else:
            low, t = new, t * 2
    while high is not None and left and abs(high.t - low.t) * _largest(direction) > 1e-9:
        new, left = point(_cubic(low, high)), left - 1
        if is_high(new, low):
            high = new
        elif is_flat(new):
            return new
        else:
            high = low if new.slope * (high.t - low.t) >= 0 else high
            low = new
    return low
