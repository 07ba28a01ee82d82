"""What PyTorch has in `nn.utils`: gradients as a whole, parametrizations, padded sequences."""

from rabbet.nn import parametrize
from rabbet.nn import parametrize as parametrizations
from rabbet.nn import sequences as rnn
from rabbet.nn.gradients import (
    clip_grad_norm_,
    clip_grad_value_,
    parameters_to_vector,
    vector_to_parameters,
)
from rabbet.nn.gradients import total_norm as get_total_norm
from rabbet.nn.parametrize import spectral_norm, weight_norm

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "get_total_norm",
    "parameters_to_vector",
    "parametrizations",
    "parametrize",
    "rnn",
    "spectral_norm",
    "vector_to_parameters",
    "weight_norm",
]
