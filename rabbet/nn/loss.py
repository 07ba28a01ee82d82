"""Losses as modules: functions whose options are kept as attributes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from rabbet.base.errors import RabbetError, ShapeError
from rabbet.base.shapes import show
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


def _check_weight(loss: Module, weight: Tensor | None, ignore_index: Any) -> None:
    """The mistake of giving the class what its modules want."""
    name = type(loss).__name__
    if isinstance(ignore_index, Tensor):
        raise TypeError(f"{name}: the class makes a loss first: {name}()(input, target)")
    if weight is not None and len(weight.shape) != 1:
        raise ShapeError(f"{name}: weight {show(weight.shape)} must be (C,), a number per class")


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
        _check_weight(self, weight, ignore_index)
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
        _check_weight(self, weight, ignore_index)
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


class HingeEmbeddingLoss(_Loss):
    """input where target is 1, max(0, margin - input) where it is -1."""

    function = functional.hinge_embedding_loss
    options = ("margin", "reduction")

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = margin


class SoftMarginLoss(_Loss):
    """log(1 + exp(-target * input)) for targets 1 and -1."""

    function = functional.soft_margin_loss


class MultiLabelMarginLoss(_Loss):
    """Margins between a row's own classes (up to the first negative number) and all others."""

    function = functional.multilabel_margin_loss


class MultiLabelSoftMarginLoss(_Loss):
    """The mean over classes of binary cross-entropies of logits."""

    function = functional.multilabel_soft_margin_loss
    options = ("weight", "reduction")

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)


class MultiMarginLoss(_Loss):
    """The mean over classes of max(0, margin - input[target] + input[other])^p."""

    function = functional.multi_margin_loss
    options = ("p", "margin", "weight", "reduction")

    def __init__(
        self,
        p: int = 1,
        margin: float = 1.0,
        weight: Tensor | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.p, self.margin = p, margin
        self.register_buffer("weight", weight)


class PoissonNLLLoss(_Loss):
    """exp(input) - target * input, or input - target * log(input + eps) without `log_input`."""

    function = functional.poisson_nll_loss
    options = ("log_input", "full", "eps", "reduction")

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        eps: float = 1e-8,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.log_input, self.full, self.eps = log_input, full, eps


class _WiderLoss(_Loss):
    """A loss of three tensors or more."""

    def forward(self, *inputs: Any) -> Tensor:
        given = {name: getattr(self, name) for name in self.options}
        return type(self).function(*inputs, **given)


class GaussianNLLLoss(_WiderLoss):
    """input, target, var -> half of log(var) + (input - target)^2 / var."""

    function = functional.gaussian_nll_loss
    options = ("full", "eps", "reduction")

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.full, self.eps = full, eps


class MarginRankingLoss(_WiderLoss):
    """input1, input2, target -> max(0, -target (input1 - input2) + margin)."""

    function = functional.margin_ranking_loss
    options = ("margin", "reduction")

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = margin


class CosineEmbeddingLoss(_WiderLoss):
    """input1, input2, target -> 1 - cosine for target 1, max(0, cosine - margin) for -1."""

    function = functional.cosine_embedding_loss
    options = ("margin", "reduction")

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = margin


class TripletMarginLoss(_WiderLoss):
    """anchor, positive, negative -> max(0, near distance - far distance + margin).

    Example:
        >>> nn.TripletMarginLoss()(rb.zeros((2, 3)), rb.zeros((2, 3)), rb.ones((2, 3))).shape
        ()
    """

    function = functional.triplet_margin_loss
    options = ("margin", "p", "eps", "swap", "reduction")

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.margin, self.p, self.eps, self.swap = margin, p, eps, swap


class TripletMarginWithDistanceLoss(_WiderLoss):
    """TripletMarginLoss with any distance: a function of two tensors, or a module."""

    function = functional.triplet_margin_with_distance_loss
    options = ("distance_function", "margin", "swap", "reduction")

    def __init__(
        self,
        *,
        distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.distance_function = distance_function
        self.margin, self.swap = margin, swap


class CTCLoss(_WiderLoss):
    """log_probs (T, N, C), targets, input_lengths, target_lengths -> the loss of all alignments."""

    function = functional.ctc_loss
    options = ("blank", "reduction", "zero_infinity")

    def __init__(
        self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False
    ) -> None:
        super().__init__(reduction)
        self.blank, self.zero_infinity = blank, zero_infinity
