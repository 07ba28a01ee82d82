"""The bundled data set: 1797 handwritten digits. DIGITS.md beside this file says whose they are."""

from __future__ import annotations

from importlib.resources import files
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from rabbet.data.dataset import ArrayDataset
from rabbet.data.order import shuffled

CLASSES = 10
_WHITE_TO_INK = 16  # pixel values run from 0 to 16, both included


def digits(split: float = 0.2, seed: int = 0) -> tuple[ArrayDataset, ArrayDataset]:
    """1797 images of handwritten digits, split into a training and a test set.

    Images are float32 (N, 1, 8, 8) from 0 to 1, labels int64 (N,) from 0 to 9. The split is
    stratified: every digit has the same share of the test set, give or take one image.

    Args:
        split: share of the images in the test set, 0 to 1.
        seed: the same seed gives the same split.

    Raises:
        ValueError: `split` is not between 0 and 1.

    Example:
        >>> train, test = digits(split=0.2, seed=0)
        >>> len(train), len(test), train.arrays[0].shape
        (1438, 359, (1438, 1, 8, 8))
    """
    if not 0 <= split <= 1:
        raise ValueError(f"digits: split={split} is not between 0 and 1")
    images, labels = _load()
    in_test = _choose_stratified(labels, split, seed)
    return (
        ArrayDataset(images[~in_test], labels[~in_test]),
        ArrayDataset(images[in_test], labels[in_test]),
    )


def _load() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    packed = BytesIO((files(__package__) / "digits.npz").read_bytes())
    with np.load(packed, allow_pickle=False) as archive:
        pixels, labels = archive["images"], archive["labels"]
    images = pixels.astype(np.float32)[:, None] / np.float32(_WHITE_TO_INK)  # (N, 1, 8, 8)
    return images, labels.astype(np.int64)


def _choose_stratified(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """Marks round(share * N) items, of each class as near its share as whole numbers allow."""
    order = shuffled(len(labels), seed)
    by_class = [order[labels[order] == digit] for digit in range(CLASSES)]
    wanted = np.array([share * len(members) for members in by_class])
    counts = np.floor(wanted).astype(np.int64)
    left_over = round(share * len(labels)) - int(counts.sum())
    # Classes that lost most by rounding down get what is left, lower digits first.
    counts[np.argsort(counts - wanted, kind="stable")[:left_over]] += 1
    chosen = np.zeros(len(labels), dtype=np.bool_)
    for members, count in zip(by_class, counts, strict=True):
        chosen[members[:count]] = True
    return chosen
