"""The last step of every loss: from one loss per element to the loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.ops.checks import need_choice
from rabbet.ops.reductions import mean, sum_

REDUCTIONS = ("none", "mean", "sum")


def reduce_loss(name: str, loss: Any, reduction: str) -> Any:
    """The mean or the sum of all elements, or the elements as they are."""
    need_choice(name, "reduction", reduction, REDUCTIONS)
    if reduction == "none":
        return loss
    return mean(loss) if reduction == "mean" else sum_(loss)


def reduce_array(loss: np.ndarray, reduction: str) -> np.ndarray:
    """The same for references."""
    return loss if reduction == "none" else getattr(np, reduction)(loss)
