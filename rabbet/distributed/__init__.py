"""Training on several processes, started with `mpiexec -n 4 python train.py`.

>>> rb.distributed.init()
>>> loader = DataLoader(rb.distributed.Shard(train), batch_size=64, shuffle=True, seed=0)
>>> model = rb.distributed.data_parallel(model, loader)
>>> optimizer = rb.optim.SGD(model.parameters(), lr=0.1)
"""

from rabbet.distributed.data_parallel import DataParallel, data_parallel
from rabbet.distributed.gradients import average_gradients
from rabbet.distributed.group import all_reduce, barrier, broadcast, init, rank, size
from rabbet.distributed.shard import Shard, own_part, samples_in_hand
from rabbet.distributed.transport import Transport

__all__ = [
    "DataParallel",
    "Shard",
    "Transport",
    "all_reduce",
    "average_gradients",
    "barrier",
    "broadcast",
    "data_parallel",
    "init",
    "own_part",
    "rank",
    "samples_in_hand",
    "size",
]
