"""Real processes, started by mpiexec."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.distributed

COLLECTIVES = """
import ml_dtypes
import numpy as np
import rabbet as rb
from rabbet import distributed, nn
from rabbet.base.errors import RabbetError
from rabbet.distributed import group, reduce

distributed.init()
r, n = distributed.rank(), distributed.size()
assert n == 3
reduce.PIECE_BYTES = group.PIECE_BYTES = 4096  # several pieces
for dtype in ("float32", "float64", "int64", "uint8"):
    arrays = [np.random.default_rng(i).integers(0, 50, (7, 301)).astype(dtype) for i in range(n)]
    made = distributed.all_reduce(rb.asarray(arrays[r])).numpy()
    assert made.tobytes() == ((arrays[0] + arrays[1]) + arrays[2]).tobytes(), dtype
    assert distributed.broadcast(rb.asarray(arrays[r]), 1).numpy().tobytes() == arrays[1].tobytes()
halves = np.arange(1000).astype(ml_dtypes.bfloat16)
made = reduce.reduce_array(group.connection(), halves, "mean")
assert made.dtype == halves.dtype and (made == halves).all()
assert distributed.all_reduce(rb.zeros((0, 3))).shape == (0, 3)
assert distributed.all_reduce(rb.tensor(float(r)), "mean").item() == 1.0
try:
    distributed.all_reduce(rb.zeros((r + 1,)))
except RabbetError as error:
    assert "rank 1 has" in str(error)
else:
    raise AssertionError("shapes that differ were reduced")
distributed.barrier()

# A jitted step runs its Python at each call, for the sake of the other ranks.
rb.manual_seed(r)
model = distributed.data_parallel(nn.Linear(3, 1))
optimizer = rb.optim.SGD(model.parameters(), lr=0.1)

@rb.jit
def step(x):
    loss = (model(x) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss

for i in range(6):
    step(rb.full((2 + r, 3), 1.0 + r + i))
for p in model.parameters():
    assert (distributed.broadcast(p.detach()) == p).all().item()
    assert p.grad is not None and (distributed.broadcast(p.grad) == p.grad).all().item()
print(f"rank {r} is done", flush=True)
"""

FAILS = """
import rabbet as rb
rb.distributed.init()
if rb.distributed.rank() == 1:
    raise ValueError("this rank gives up")
rb.distributed.barrier()
"""


def run_ranks(count: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    # The one that came with mpi4py's MPI is beside the interpreter.
    beside = Path(sys.executable).parent / "mpiexec"
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if mpiexec is None:
        pytest.skip('needs mpiexec: pip install "rabbet[distributed]"')
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [mpiexec, "-n", str(count), sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path, "RABBET_NUM_THREADS": "1"},
    )


def test_collectives_and_jit() -> None:
    done = run_ranks(3, "-c", COLLECTIVES)
    assert done.returncode == 0, done.stderr
    # ranks share one pipe, so lines may run into one another
    assert sorted(re.findall(r"rank \d is done", done.stdout)) == [
        f"rank {r} is done" for r in range(3)
    ]


def test_the_example_agrees_with_one_process() -> None:
    script = str(ROOT / "examples" / "digits_distributed.py")
    many, one = run_ranks(3, script), run_ranks(1, script)
    assert many.returncode == 0 and one.returncode == 0, many.stderr + one.stderr
    assert "3 ranks agree" in many.stdout
    losses = [
        [float(line.split()[-1]) for line in done.stdout.splitlines() if "loss" in line]
        for done in (many, one)
    ]
    assert len(losses[0]) == 6 and losses[0] == pytest.approx(losses[1], abs=2e-3)
    assert losses[0][-1] < 0.2 < losses[0][0]


def test_an_error_on_one_rank_ends_all() -> None:
    done = run_ranks(2, "-c", FAILS)  # else it would wait until the time is up
    assert done.returncode != 0 and "this rank gives up" in done.stderr
