"""Stop a training and go on from its checkpoint: the result is the same, bit for bit.

Run: python examples/resume.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import rabbet as rb
from rabbet import nn
from rabbet.data import digits
from rabbet.train import ModelCheckpoint


def make_trainer(seed: int) -> rb.Trainer:
    """A trainer with a model and an optimizer, all drawn from `seed`."""
    rb.manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 10)
    )
    optimizer = rb.optim.AdamW(model.parameters(), lr=2e-3)
    return rb.Trainer(model, nn.CrossEntropyLoss(), optimizer, metrics=["accuracy"])


def main(epochs: int = 4) -> bool:
    """Train in one go, and in two halves; True if both give the same model."""
    train, _ = digits()
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"batch_size": 64, "epochs": epochs, "verbose": 2}
        files = str(Path(folder) / "epoch-{epoch}.safetensors")

        whole = make_trainer(seed=0)
        whole.fit(train, callbacks=[ModelCheckpoint(files)], **options)

        print("again, from the middle:")
        resumed = make_trainer(seed=1)  # other weights: all of them come from the file
        resumed.load_state_dict(rb.load(files.format(epoch=epochs // 2)))
        resumed.fit(train, initial_epoch=resumed.epoch, **options)
    pairs = zip(whole.model.parameters(), resumed.model.parameters(), strict=True)
    is_same = all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs)
    print("the same bits:", is_same)
    return is_same


if __name__ == "__main__":
    if not main():
        raise SystemExit("the resumed training differs")
