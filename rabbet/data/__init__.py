"""Data: sources of samples, shuffling and batching, and a small real data set, bundled."""

from rabbet.data.collate import default_collate
from rabbet.data.dataset import (
    ArrayDataset,
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    random_split,
)
from rabbet.data.digits import digits
from rabbet.data.loader import DataLoader

__all__ = [
    "ArrayDataset",
    "ChainDataset",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "IterableDataset",
    "Subset",
    "TensorDataset",
    "default_collate",
    "digits",
    "random_split",
]
