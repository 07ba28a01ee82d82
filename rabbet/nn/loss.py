"""Losses as modules: functions whose options are kept as attributes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from rabbet.base.errors import RabbetError
from rabbet.nn import functional
from rabbet.nn.module import Module
from rabbet.tensor import Tensor


class _Loss(Module):
    """input, target -> 0-d loss, or one per element with reduction="none"."""

    function: ClassVar[Callable[..., Any]]
    options: ClassVar[tuple[str, ...]] = ("reduction",)
    reductions: ClassVar[tuple[str, ...]] = ("mean", "sum", "none")

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in self.reductions:
            raise RabbetError(
                f"{type(self).__name__}: reduction={reduction!r} must be one of {self.reductions}"
            )
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        given = {name: getattr(self, name) for name in self.options}
        return type(self).function(input, target, **given)

    def extra_repr(self) -> str:
        plain = [name for name in self.options if not isinstance(getattr(self, name), Tensor)]
        return ", ".join(f"{n}={getattr(self, n)!r}" for n in plain if getattr(self, n) is not None)


class MSELoss(_Loss):
    """Mean of squared differences."""

    function = functional.mse_loss


class L1Loss(_Loss):
    """Mean of absolute differences."""

    function = functional.l1_loss


class SmoothL1Loss(_Loss):
    """Squared difference / (2 beta) below beta, |difference| - beta / 2 above."""

    function = functional.smooth_l1_loss
    options = ("reduction", "beta")

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta


class HuberLoss(_Loss):
    """Half the squared difference below delta, delta (|difference| - delta / 2) above."""

    function = functional.huber_loss
    options = ("reduction", "delta")

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta


class KLDivLoss(_Loss):
    """target * (log target - input), for log-probabilities `input`."""

    function = functional.kl_div
    options = ("reduction", "log_target")
    reductions = ("mean", "sum", "none", "batchmean")

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction)
        self.log_target = log_target


class CrossEntropyLoss(_Loss):
    """Cross-entropy of logits (N, C, ...) against class numbers or probabilities.

    Example:
        >>> nn.CrossEntropyLoss()(rb.zeros((2, 3)), rb.asarray([0, 2])).shape
        ()
    """

    function = functional.cross_entropy
    options = ("weight", "ignore_index", "reduction", "label_smoothing")

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing


class NLLLoss(_Loss):
    """Negative log-likelihood of class numbers, given log-probabilities (N, C, ...)."""

    function = functional.nll_loss
    options = ("weight", "ignore_index", "reduction")

    def __init__(
        self, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index


class BCELoss(_Loss):
    """Binary cross-entropy of probabilities; BCEWithLogitsLoss is more exact."""

    function = functional.binary_cross_entropy
    options = ("weight", "reduction")

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)


class BCEWithLogitsLoss(_Loss):
    """Binary cross-entropy of sigmoid(input), from the logits."""

    function = functional.binary_cross_entropy_with_logits
    options = ("weight", "reduction", "pos_weight")

    def __init__(
        self,
        weight: Tensor | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
    ) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)
