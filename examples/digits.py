"""Ten lines: train a small convolutional network on handwritten digits, and look at it.

Run: python examples/digits.py
"""

from __future__ import annotations

import rabbet as rb
from rabbet import nn
from rabbet.data import digits


def make_model() -> nn.Module:
    """(N, 1, 8, 8) -> scores (N, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(16 * 4 * 4, 10),
    )


def main(epochs: int = 15) -> float:
    """Train, print what was reached, and return the accuracy on the test set."""
    rb.manual_seed(0)
    train, test = digits(split=0.2, seed=0)
    model = make_model()
    trainer = rb.Trainer(
        model,
        loss=nn.CrossEntropyLoss(),
        optimizer=rb.optim.AdamW(model.parameters(), lr=3e-3),
        metrics=["accuracy"],
    )
    trainer.fit(train, epochs=epochs, batch_size=64, validation_data=test)
    found = trainer.evaluate(test)
    print(f"{len(test)} images not seen in training: {found['accuracy']:.1%} right")
    guesses = trainer.predict(test).argmax(axis=1).tolist()
    print("the first ten:", guesses[:10], "are", test.arrays[1][:10].tolist())
    return found["accuracy"]


if __name__ == "__main__":
    main()
