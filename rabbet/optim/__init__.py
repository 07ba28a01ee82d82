"""Optimizers and learning-rate schedules, with PyTorch's names and arguments."""

from rabbet.optim import lr_scheduler
from rabbet.optim.adam import Adam, AdamW
from rabbet.optim.adaptive import Adagrad, RMSprop
from rabbet.optim.optimizer import Optimizer
from rabbet.optim.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "lr_scheduler"]
