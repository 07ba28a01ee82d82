"""Ctrl-C anywhere in our own Python: a step of training is taken whole or not at all."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn

OURS = str(Path(rb.__file__).parent)

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is no signal here"),
    # Pressed while a generator is being closed, Ctrl-C is lost: the interpreter only tells of it.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Training:
    """A small model that always sees the same batch; its states follow from one another."""

    def __init__(self, jitted: bool) -> None:
        rb.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        self.optimizer = rb.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.x = rb.asarray(np.linspace(-1, 1, 15, dtype=np.float32).reshape(5, 3))
        self.take = rb.jit(self.step) if jitted else self.step

    def step(self) -> None:
        """Forward, backward, update."""
        self.optimizer.zero_grad()
        (self.model(self.x) ** 2).mean().backward()
        self.optimizer.step()

    def state(self) -> bytes:
        """Every parameter and every number the optimizer holds."""
        held = [p.detach() for p in self.model.parameters()]
        for entry in self.optimizer.state_dict()["state"].values():
            held += [v for _, v in sorted(entry.items())]
        return b"".join(np.asarray(v).tobytes() for v in held)


def interrupt_at(place: int) -> list[Any]:
    """Ctrl-C is pressed at that place of ours, counted from here: (the places left, the line).

    The places are those where the interpreter looks for signals: where a function of ours begins,
    and where one that it called and that is not Python's has come back.
    """
    left: list[Any] = [place, None]

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        ours = frame.f_code.co_filename.startswith(OURS)
        if ours and event in ("call", "c_return"):
            left[0] -= 1
            if left[0] == 0:
                left[1] = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                signal.raise_signal(signal.SIGINT)

    sys.setprofile(profile)
    return left


@pytest.mark.parametrize("jitted", [False, True])
def test_step_is_whole_or_not_taken(jitted: bool) -> None:
    """Every place of a step in turn, the compiling steps at first included."""
    trained, twin = Training(jitted), Training(jitted)
    place, taken, stopped = 1, 0, 0
    while True:
        before = twin.state()
        left = interrupt_at(place)
        try:
            trained.take()
        except KeyboardInterrupt:
            stopped += 1
        finally:
            sys.setprofile(None)
        assert rb.is_grad_enabled(), f"stopped at {left[1]}"
        state = trained.state()
        if state != before:
            twin.take()
            taken += 1
            assert state == twin.state(), f"stopped at {left[1]}: half a step"
        if left[0] > 0:
            break
        place += 1
    assert taken > 0
    assert stopped > (2 if jitted else 100)
