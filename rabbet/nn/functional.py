"""Layers as functions, under PyTorch's names; most are ops as they are, without state.

Where PyTorch's arguments come in another order than the op's, or a random mask is drawn, a few
lines translate. Every op that is not listed here is in `rabbet` itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rabbet.base import dtypes
from rabbet.base.errors import RabbetError, ShapeError
from rabbet.base.shapes import show
from rabbet.library import elementwise
from rabbet.library.random import dropout_operands
from rabbet.nn import functional_activations as activations
from rabbet.nn import functional_images as images
from rabbet.nn import functional_losses as losses
from rabbet.tensor import Tensor, functions, no_grad

Function = Callable[..., Any]

# ---- activations ----
relu: Function = functions["relu"]
relu6: Function = functions["relu6"]
leaky_relu: Function = functions["leaky_relu"]
elu: Function = functions["elu"]
selu: Function = functions["selu"]
gelu: Function = functions["gelu"]
silu: Function = functions["silu"]
mish: Function = functions["mish"]
softplus: Function = functions["softplus"]
softsign: Function = functions["softsign"]
sigmoid: Function = functions["sigmoid"]
logsigmoid: Function = functions["logsigmoid"]
tanh: Function = functions["tanh"]
hardtanh: Function = functions["hardtanh"]
hardsigmoid: Function = functions["hardsigmoid"]
hardswish: Function = functions["hardswish"]
glu: Function = functions["glu"]
softmax: Function = elementwise.softmax
log_softmax: Function = elementwise.log_softmax
softmin = activations.softmin

# ---- linear maps, windows, tables ----
linear: Function = functions["linear"]
conv1d: Function = functions["conv1d"]
conv2d: Function = functions["conv2d"]
conv3d: Function = functions["conv3d"]
conv_transpose1d: Function = functions["conv_transpose1d"]
conv_transpose2d: Function = functions["conv_transpose2d"]
conv_transpose3d: Function = functions["conv_transpose3d"]
avg_pool1d: Function = functions["avg_pool1d"]
avg_pool2d: Function = functions["avg_pool2d"]
avg_pool3d: Function = functions["avg_pool3d"]
lp_pool1d: Function = functions["lp_pool1d"]
lp_pool2d: Function = functions["lp_pool2d"]
lp_pool3d: Function = functions["lp_pool3d"]
adaptive_avg_pool1d: Function = functions["adaptive_avg_pool1d"]
adaptive_avg_pool2d: Function = functions["adaptive_avg_pool2d"]
adaptive_avg_pool3d: Function = functions["adaptive_avg_pool3d"]
embedding: Function = functions["embedding"]
flatten: Function = functions["flatten"]

# ---- normalisation ----
layer_norm: Function = functions["layer_norm"]
rms_norm: Function = functions["rms_norm"]
group_norm: Function = functions["group_norm"]

# ---- losses ----
cross_entropy: Function = functions["cross_entropy"]
nll_loss: Function = functions["nll_loss"]
mse_loss: Function = functions["mse_loss"]
l1_loss: Function = functions["l1_loss"]
smooth_l1_loss: Function = functions["smooth_l1_loss"]
huber_loss: Function = functions["huber_loss"]
binary_cross_entropy: Function = functions["binary_cross_entropy"]
binary_cross_entropy_with_logits: Function = functions["binary_cross_entropy_with_logits"]
kl_div: Function = functions["kl_div"]
margin_ranking_loss: Function = functions["margin_ranking_loss"]
hinge_embedding_loss: Function = functions["hinge_embedding_loss"]
cosine_embedding_loss: Function = functions["cosine_embedding_loss"]
triplet_margin_loss: Function = functions["triplet_margin_loss"]
multilabel_margin_loss: Function = functions["multilabel_margin_loss"]
soft_margin_loss: Function = functions["soft_margin_loss"]
multilabel_soft_margin_loss: Function = functions["multilabel_soft_margin_loss"]
gaussian_nll_loss: Function = functions["gaussian_nll_loss"]

# ---- distances ----
pairwise_distance: Function = functions["pairwise_distance"]
cosine_similarity: Function = functions["cosine_similarity"]

# ---- made of a few ops: activations ----
celu = activations.celu
hardshrink = activations.hardshrink
softshrink = activations.softshrink
tanhshrink = activations.tanhshrink
threshold = activations.threshold
rrelu = activations.rrelu
gumbel_softmax = activations.gumbel_softmax
alpha_dropout = activations.alpha_dropout
feature_alpha_dropout = activations.feature_alpha_dropout

# ---- images ----
max_pool1d = images.max_pool1d
max_pool2d = images.max_pool2d
max_pool3d = images.max_pool3d
adaptive_max_pool1d = images.adaptive_max_pool1d
adaptive_max_pool2d = images.adaptive_max_pool2d
adaptive_max_pool3d = images.adaptive_max_pool3d
fractional_max_pool2d = images.fractional_max_pool2d
fractional_max_pool3d = images.fractional_max_pool3d
max_unpool1d = images.max_unpool1d
max_unpool2d = images.max_unpool2d
max_unpool3d = images.max_unpool3d
unfold = images.unfold
fold = images.fold
pixel_shuffle = images.pixel_shuffle
pixel_unshuffle = images.pixel_unshuffle
channel_shuffle = images.channel_shuffle
interpolate = images.interpolate
upsample = images.upsample
pad = images.pad
grid_sample = images.grid_sample
affine_grid = images.affine_grid
local_response_norm = images.local_response_norm
dropout1d = images.dropout1d
dropout2d = images.dropout2d
dropout3d = images.dropout3d

# ---- losses and distances with arguments in another order ----
multi_margin_loss = losses.multi_margin_loss
poisson_nll_loss = losses.poisson_nll_loss
triplet_margin_with_distance_loss = losses.triplet_margin_with_distance_loss
ctc_loss = losses.ctc_loss
pdist = losses.pdist
bilinear = losses.bilinear
embedding_bag = losses.embedding_bag


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """input where positive, weight * input elsewhere; weight has one number, or one per channel."""
    if weight.numel() != 1 and (input.ndim < 2 or weight.shape != input.shape[1:2]):
        raise ShapeError(
            f"prelu: weight {show(weight.shape)} needs one number, or one per channel "
            f"(axis 1) of an input {show(input.shape)}"
        )
    rest = (1,) * max(input.ndim - 2, 0)
    slope = weight.reshape(()) if weight.numel() == 1 else weight.reshape((-1, *rest))
    return functions["where"](input > 0, input, slope * input)


def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Set each element to 0 with probability p and divide the rest by 1 - p, while training.

    The mask comes from the default generator. Raises ValueError unless 0 <= p <= 1.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p={p} is not a probability")
    if not training or p == 0:
        return input
    if p == 1:
        return input * 0.0
    return functions["dropout"](input, float(p), *dropout_operands(input))


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel of (N, C, ...) by the batch's statistics, or by the running ones.

    While training, running statistics move towards the batch's in place, by the share `momentum`.
    """
    if not training:
        if running_mean is None or running_var is None:
            raise RabbetError("batch_norm: without training it needs running statistics")
        return functions["batch_norm_infer"](
            input, running_mean, running_var, weight, bias, eps=eps
        )
    result, mean, variance = functions["batch_norm_train"](input, weight, bias, eps=eps)
    if running_mean is not None and running_var is not None:
        count = input.numel() // max(input.shape[1], 1)
        with no_grad():
            # The running variance is the unbiased one, as in PyTorch.
            unbiased = variance.detach() * (count / max(count - 1, 1))
            _move_towards(running_mean, mean.detach(), momentum)
            _move_towards(running_var, unbiased, momentum)
    return result


def _move_towards(state: Tensor, value: Tensor, share: Any) -> None:
    if isinstance(share, Tensor):
        share = share.astype(state.dtype)
    state.copy_(state * (1 - share) + value.astype(state.dtype) * share)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise every channel of every example of (N, C, L...) over its positions.

    With `use_input_stats` running statistics, where given, move in place towards the batch's mean
    of the examples' statistics; without, the running ones are used instead.
    """
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise RabbetError("instance_norm: without use_input_stats it needs running statistics")
        return functions["batch_norm_infer"](
            input, running_mean, running_var, weight, bias, eps=eps
        )
    if running_mean is not None and running_var is not None:
        axes = tuple(range(2, input.ndim))
        count = input.numel() // max(input.shape[0] * input.shape[1], 1)
        with no_grad():
            x = input.detach()
            variance = functions["var"](x, axes) * (count / max(count - 1, 1))
            _move_towards(running_mean, x.mean(axes).mean(0), momentum)
            _move_towards(running_var, variance.mean(0), momentum)
    return functions["instance_norm"](input, weight, bias, eps=eps)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query @ key^T * scale + mask) @ value.

    (..., L, E), (..., S, E), (..., S, V) -> (..., L, V). A bool mask is True where a query
    may attend. `dropout_p` drops attention weights.
    """
    if dropout_p == 0:
        return functions["scaled_dot_product_attention"](
            *(query, key, value, attn_mask),
            is_causal=is_causal,
            scale=scale,
            enable_gqa=enable_gqa,
        )
    if enable_gqa:
        raise RabbetError("scaled_dot_product_attention: dropout with enable_gqa is not there yet")
    weights = attention_weights(query, key, attn_mask, is_causal, scale)
    return dropout(weights, dropout_p) @ value


def attention_weights(
    query: Tensor,
    key: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """softmax(query @ key^T * scale + mask): (..., L, E), (..., S, E) -> (..., L, S)."""
    width = query.shape[-1]
    scores = (query @ key.mT) * (width**-0.5 if scale is None else scale)
    if is_causal:
        allowed = functions["tril"](functions["ones_like"](scores)) > 0
        scores = functions["where"](allowed, scores, float("-inf"))
    if attn_mask is not None and attn_mask.dtype.kind == "b":
        scores = functions["where"](attn_mask, scores, float("-inf"))
    elif attn_mask is not None:
        scores = scores + attn_mask
    return functions["attention_weights"](scores)


def one_hot(tensor: Tensor, num_classes: int) -> Tensor:
    """int64 (..., num_classes): 1 where the last axis is the class number, else 0."""
    return functions["one_hot"](tensor, num_classes, dtype=dtypes.int64)


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """input divided by its p-norm along an axis, or by eps where that is smaller."""
    return functions["normalize"](input, p, dim, eps)
