"""GradScaler: losses times a factor, so that small gradients survive float16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self
from weakref import WeakKeyDictionary

from rabbet.base import dtypes, tree
from rabbet.base.errors import RabbetError
from rabbet.optim.optimizer import Optimizer
from rabbet.tensor import Tensor, asarray, functions, no_grad

_STATE = ("growth_factor", "backoff_factor", "growth_interval")


class GradScaler:
    """Scales losses, and what follows from them, as PyTorch's `torch.amp.GradScaler` does.

    `scale(loss).backward()`, then `step(optimizer)`, which divides the gradients by the factor and
    leaves out the optimizer's step where one is infinite or NaN, then `update()`: the factor times
    `backoff_factor` after such a step, times `growth_factor` after `growth_interval` good ones.
    `unscale_(optimizer)` before `step` for what must see true gradients, such as clipping. Whether
    a step is left out is read from the gradients, so `rb.jit` records both ways.

    >>> w = rb.tensor([1.0, 2.0], requires_grad=True)
    >>> optimizer, scaler = rb.optim.SGD([w], lr=0.5), rb.GradScaler(init_scale=1024.0)
    >>> with rb.autocast(rb.float16):
    ...     loss = rb.vecdot(w, w)
    >>> scaler.scale(loss).backward()
    >>> scaler.step(optimizer); scaler.update(); w
    tensor([0., 0.], requires_grad=True)
    """

    def __init__(
        self,
        device: str = "cpu",
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        if growth_factor <= 1 or not 0 < backoff_factor < 1 or growth_interval < 1:
            raise ValueError(
                f"GradScaler: growth_factor={growth_factor} must be above 1, "
                f"backoff_factor={backoff_factor} between 0 and 1, "
                f"growth_interval={growth_interval} at least 1"
            )
        self.growth_factor, self.backoff_factor = float(growth_factor), float(backoff_factor)
        self.growth_interval, self._enabled = int(growth_interval), bool(enabled)
        self._scale = asarray(float(init_scale), dtype=dtypes.float32, device=device)
        self._good = asarray(0, dtype=dtypes.int32, device=device)  # steps since it changed
        # Of every optimizer since the last update: were all gradients finite?
        self._finite: WeakKeyDictionary[Optimizer, Tensor] = WeakKeyDictionary()
        self._stepped: WeakKeyDictionary[Optimizer, bool] = WeakKeyDictionary()

    def is_enabled(self) -> bool:
        """Whether it does anything at all."""
        return self._enabled

    def get_scale(self) -> float:
        """The factor now; 1.0 where it is not enabled."""
        return float(self._scale.item()) if self._enabled else 1.0

    def scale(self, outputs: Any) -> Any:
        """A tensor, or every tensor of a tree, times the factor."""
        if not self._enabled:
            return outputs
        return tree.map_leaves(
            lambda x: x * self._scale.astype(x.dtype) if isinstance(x, Tensor) else x, outputs
        )

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients of the optimizer's parameters by the factor, once per step."""
        if not self._enabled:
            return
        if optimizer in self._finite:
            raise RabbetError(
                "GradScaler: unscale_() was called for this optimizer since the last update()"
            )
        finite = asarray(True)
        with no_grad():
            share = 1.0 / self._scale
            for p in _with_gradients(optimizer):
                if p.dtype is dtypes.float16:
                    raise RabbetError(
                        "GradScaler: a parameter is float16; keep parameters in float32, "
                        "rb.autocast casts what ops read"
                    )
                p.grad = p.grad * share.astype(p.dtype)
                finite = functions["logical_and"](finite, functions["isfinite"](p.grad).all())
        self._finite[optimizer] = finite

    def step(self, optimizer: Optimizer) -> Any:
        """`optimizer.step()`, left out where a gradient is infinite or NaN (None then)."""
        if not self._enabled:
            return optimizer.step()
        if optimizer in self._stepped:
            raise RabbetError(
                "GradScaler: step() was called for this optimizer since the last update()"
            )
        if optimizer not in self._finite:
            self.unscale_(optimizer)
        self._stepped[optimizer] = True
        return optimizer.step() if bool(self._finite[optimizer]) else None

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """The factor of the next step (see above), or `new_scale`. After all `step`s of a turn."""
        if not self._enabled:
            return
        if new_scale is None and not self._finite:
            raise RabbetError("GradScaler: update() needs a step() or unscale_() before it")
        where = functions["where"]
        with no_grad():
            if new_scale is not None:
                self._scale.copy_(asarray(new_scale, dtype=dtypes.float32))
            else:
                finite, *others = self._finite.values()
                for other in others:
                    finite = functions["logical_and"](finite, other)
                good = where(finite, self._good + 1, 0)
                grows = good >= self.growth_interval
                larger = where(grows, self._scale * self.growth_factor, self._scale)
                # As in PyTorch it grows no further than float32 goes.
                larger = where(functions["isfinite"](larger), larger, self._scale)
                self._scale.copy_(where(finite, larger, self._scale * self.backoff_factor))
                self._good.copy_(where(grows, 0, good))
        self._finite.clear()
        self._stepped.clear()

    def state_dict(self) -> dict[str, Any]:
        """What it takes to go on, under PyTorch's names; {} where it is not enabled."""
        if not self._enabled:
            return {}
        numbers = {name: getattr(self, name) for name in _STATE}
        return {"scale": self.get_scale(), **numbers, "_growth_tracker": int(self._good.item())}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Self:
        """Go on from a saved state; RabbetError, with nothing changed, where parts miss."""
        if not self._enabled:
            return self
        missing = [n for n in ("scale", *_STATE, "_growth_tracker") if n not in state_dict]
        if missing:
            raise RabbetError(f"GradScaler: the state has no {missing[0]!r}")
        for name in _STATE:
            setattr(self, name, type(getattr(self, name))(state_dict[name]))
        with no_grad():
            self._scale.copy_(float(state_dict["scale"]))
            self._good.copy_(int(state_dict["_growth_tracker"]))
        return self


def _with_gradients(optimizer: Optimizer) -> list[Tensor]:
    groups = optimizer.param_groups
    return [p for group in groups for p in group["params"] if p.grad is not None]
