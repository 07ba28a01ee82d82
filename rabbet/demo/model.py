"""The demo's network and its training."""

from __future__ import annotations

from typing import Any

from rabbet import nn, optim
from rabbet.data import ArrayDataset, digits
from rabbet.library.random import manual_seed
from rabbet.train import Trainer
from rabbet.train.callbacks import LearningRateScheduler

EPOCHS = 15
BATCH = 64


def make_model() -> nn.Module:
    """A small convolutional network for 8x8 images: (batch, 1, 8, 8) -> (batch, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 10),
    )


def train_model(
    seed: int = 0, epochs: int = EPOCHS, verbose: int = 1
) -> tuple[Any, Any, ArrayDataset]:
    """(model, history, held-out fifth) after training with the given seed."""
    manual_seed(seed)
    train, test = digits(split=0.2, seed=seed)
    model = make_model()
    steps = epochs * -(-len(train) // BATCH)
    optimizer = optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    trainer = Trainer(
        model,
        loss=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        metrics=["accuracy"],
        callbacks=[LearningRateScheduler(schedule, every="batch")],
        jit=True,
    )
    history = trainer.fit(
        train, epochs=epochs, batch_size=BATCH, seed=seed, validation_data=test, verbose=verbose
    )
    model.eval()
    return model, history, test
