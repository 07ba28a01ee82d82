"""The demo's picture: sample images with predictions, and the training curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rabbet.base.optional import require

SHOWN = 24


def draw(
    path: Path, images: np.ndarray, truth: np.ndarray, labels: np.ndarray, history: Any
) -> None:
    """Write `path` (PNG). Wrong predictions come first, in red. Raises MissingExtra without
    matplotlib.
    """
    require("matplotlib", "plot")
    figures = require("matplotlib.figure", "plot")
    figure = figures.Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(3, 2))
    wrong = np.flatnonzero(labels != truth)
    right_ones = np.flatnonzero(labels == truth)
    chosen = [*wrong[: SHOWN // 4], *right_ones][:SHOWN]
    left.suptitle("held-out digits and what the model says")
    for axes, i in zip(left.subplots(4, 6).flat, chosen, strict=True):
        axes.imshow(images[i, 0], cmap="gray_r", interpolation="nearest")
        good = labels[i] == truth[i]
        says = str(labels[i]) if good else f"{labels[i]} (is {truth[i]})"
        axes.set_title(says, fontsize=9, color="tab:green" if good else "tab:red")
        axes.set_axis_off()
    axes = right.subplots()
    epochs = range(1, len(history.history["loss"]) + 1)
    axes.plot(epochs, history.history["loss"], label="training loss")
    axes.plot(epochs, history.history["val_loss"], label="held-out loss")
    axes.set_xlabel("epoch")
    axes.set_ylabel("cross-entropy")
    axes.set_ylim(bottom=0)
    accuracy = axes.twinx()
    accuracy.plot(epochs, history.history["val_accuracy"], "k--", label="held-out accuracy")
    accuracy.set_ylim(0.8, 1.0)
    accuracy.set_ylabel("accuracy")
    lines = [*axes.get_lines(), *accuracy.get_lines()]
    axes.legend(lines, [line.get_label() for line in lines], loc="center right")
    figure.savefig(path, dpi=110)
