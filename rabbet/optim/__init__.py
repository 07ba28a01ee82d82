"""Optimizers and learning-rate schedules, with PyTorch's names and arguments."""

from rabbet.optim import lr_scheduler
from rabbet.optim.adam import Adam, AdamW
from rabbet.optim.adaptive import Adagrad, RMSprop
from rabbet.optim.lbfgs import LBFGS
from rabbet.optim.matrices import Adafactor, Muon
from rabbet.optim.moments import LAMB, Adadelta, Adamax, NAdam, RAdam
from rabbet.optim.optimizer import Optimizer
from rabbet.optim.others import ASGD, Rprop
from rabbet.optim.scaler import GradScaler
from rabbet.optim.sgd import SGD

__all__ = [
    "ASGD",
    "LAMB",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "GradScaler",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "lr_scheduler",
]
