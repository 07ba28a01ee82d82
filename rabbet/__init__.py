"""Rabbet: eager deep learning, compiled.

>>> import rabbet as rb
>>> x = rb.tensor([1.0, 2.0], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad
tensor([2., 4.])
"""

from __future__ import annotations

import importlib
import sys as _sys
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING, Any

from rabbet import linalg
from rabbet.base import tree
from rabbet.base.dtypes import (
    bfloat16,
    complex64,
    complex128,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from rabbet.base.dtypes import bool_ as bool
from rabbet.base.errors import (
    AnomalyError,
    AxisError,
    BuildError,
    CompileError,
    DeviceError,
    DTypeError,
    ExportError,
    FormatError,
    GradientError,
    IndexKeyError,
    IndexRangeError,
    InternalError,
    LinAlgError,
    MissingExtra,
    NumberRangeError,
    ParameterError,
    RabbetError,
    ShapeError,
)
from rabbet.higher.checkpoint import checkpoint
from rabbet.higher.control import cond, scan, switch, while_loop
from rabbet.higher.custom import custom_jvp, custom_vjp
from rabbet.higher.functional import grad, value_and_grad
from rabbet.higher.jit import jit
from rabbet.higher.transforms import hessian, hvp, jacfwd, jacrev, jvp, stop_gradient, vjp
from rabbet.higher.vmap import vmap
from rabbet.library.data_dependent import (
    argwhere,
    bincount,
    masked_select,
    nonzero,
    unique,
    unique_all,
    unique_consecutive,
    unique_counts,
    unique_inverse,
    unique_values,
)
from rabbet.library.draws import (
    bernoulli,
    categorical,
    exponential,
    multinomial,
    normal,
    permutation,
    randperm,
    truncated_normal,
    uniform,
)
from rabbet.library.elementwise import (
    clamp_max,
    clamp_min,
    float_power,
    frexp,
    isneginf,
    isposinf,
    isreal,
    ldexp,
    log_softmax,
    logaddexp2,
    polar,
    softmax,
    view_as_complex,
    view_as_real,
    where,
)
from rabbet.library.families import beta, binomial, dirichlet, gamma, poisson
from rabbet.library.inspection import (
    device,
    is_complex,
    is_floating_point,
    is_nonzero,
    is_signed,
    is_tensor,
    numel,
    promote_types,
)
from rabbet.library.joining import (
    block_diag,
    broadcast_arrays,
    broadcast_shapes,
    broadcast_tensors,
    cartesian_prod,
    chunk,
    column_stack,
    combinations,
    dsplit,
    dstack,
    hsplit,
    hstack,
    meshgrid,
    split,
    split_with_sizes,
    tensor_split,
    unbind,
    unstack,
    vsplit,
    vstack,
)
from rabbet.library.manipulation import (
    atleast_1d,
    atleast_2d,
    atleast_3d,
    diagflat,
    diagonal,
    fliplr,
    flipud,
    narrow,
    ravel,
    repeat,
    reshape,
    rot90,
    select,
    t,
    unflatten,
)
from rabbet.library.placing import (
    gather,
    index_add,
    index_copy,
    index_fill,
    index_put,
    index_select,
    masked_fill,
    masked_scatter,
    put,
    scatter,
    scatter_add,
    scatter_reduce,
    select_scatter,
    slice_scatter,
    take,
    unravel_index,
)
from rabbet.library.products import (
    addmm,
    addmv,
    addr,
    baddbmm,
    bmm,
    cross,
    dist,
    dot,
    einsum,
    inner,
    mm,
    mv,
    pdist,
    vdot,
)
from rabbet.library.random import (
    Generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    rand,
    rand_like,
    randint,
    randint_like,
    randn,
    randn_like,
    set_rng_state,
)
from rabbet.library.slopes import gradient
from rabbet.library.spectra import (
    bartlett_window,
    blackman_window,
    hamming_window,
    hann_window,
    istft,
    kaiser_window,
    stft,
)
from rabbet.library.summary import (
    allclose,
    aminmax,
    histogram,
    kthvalue,
    mode,
    msort,
    searchsorted,
    std_mean,
    trapz,
    var_mean,
)
from rabbet.library.triangles import tril_indices, triu_indices
from rabbet.tensor import (
    Tensor,
    arange,
    asarray,
    autocast,
    empty,
    empty_like,
    enable_grad,
    eye,
    flush,
    from_dlpack,
    from_numpy,
    full,
    full_like,
    is_autocast_enabled,
    is_grad_enabled,
    linspace,
    logspace,
    no_grad,
    ones,
    ones_like,
    set_grad_enabled,
    tensor,
    zeros,
    zeros_like,
)
from rabbet.tensor import (
    absent as _absent,
)
from rabbet.tensor import (
    functions as _functions,
)
from rabbet.tensor.printing import get_printoptions, printoptions, set_printoptions
from rabbet.tensor.types import astype, can_cast, finfo, iinfo, isdtype, result_type
from rabbet.tensor.types import namespace_info as __array_namespace_info__

if TYPE_CHECKING:
    from rabbet import data, distributed, nn, optim, train
    from rabbet.tensor.declared import *  # noqa: F403

__version__ = "0.1.0"
__array_api_version__ = "2024.12"

# PyTorch's words for the same.
as_tensor, row_stack, repeat_interleave, clone = asarray, vstack, repeat, Tensor.clone
inference_mode = no_grad
pi, e, inf, nan, newaxis = 3.141592653589793, 2.718281828459045, float("inf"), float("nan"), None

# Every public op under its name. Functions made by hand above (full, arange, ...) win.
_TAKEN = set(globals())
globals().update({n: f for n, f in _functions.items() if n not in _TAKEN and f.op.public})

# Loaded when first used, so that `import rabbet` stays quick.
_LAZY: dict[str, tuple[str, str]] = {
    "nn": ("rabbet.nn", ""),
    **{
        n: ("rabbet.linalg", n)
        for n in (
            *("cholesky", "cholesky_inverse", "cholesky_solve", "lu_unpack"),
            *("det", "inverse", "logdet", "matrix_exp", "matrix_power"),
            *("matrix_rank", "pinverse", "qr", "slogdet", "svd"),
        )
    },
    "norm": ("rabbet.linalg", "norm_of"),
    "fft": ("rabbet.fft", ""),
    "special": ("rabbet.special", ""),
    "optim": ("rabbet.optim", ""),
    "data": ("rabbet.data", ""),
    "train": ("rabbet.train", ""),
    "distributed": ("rabbet.distributed", ""),
    "distributions": ("rabbet.distributions", ""),
    "GradScaler": ("rabbet.optim", "GradScaler"),
    "Trainer": ("rabbet.train", "Trainer"),
    "functional_call": ("rabbet.nn.stateless", "functional_call"),
    "save": ("rabbet.data.files", "save"),
    "load": ("rabbet.data.files", "load"),
    "export": ("rabbet.export", "export"),
    "load_program": ("rabbet.export", "load_program"),
    "build": ("rabbet.export", "build"),
    "explain": ("rabbet.debug.explain", "explain"),
    "autograd": ("rabbet.autograd", ""),
    "func": ("rabbet.func", ""),
    "draw": ("rabbet.debug.draw", "draw"),
    "profile": ("rabbet.debug.profile", "profile"),
    "detect_anomaly": ("rabbet.debug.anomaly", "detect_anomaly"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        message = _absent.message("rabbet", name, _absent.FUNCTIONS)
        raise AttributeError(message, name=name, obj=_sys.modules[__name__])
    module, attribute = _LAZY[name]
    value: Any = importlib.import_module(module)
    if attribute:
        value = getattr(value, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    # Public names alone: not what this file imports for itself, nor the layers below.
    own = {n for n, v in globals().items() if not isinstance(v, _ModuleType)}
    names = own - {"Any", "TYPE_CHECKING", "annotations"} | {"tree", *_LAZY}
    return sorted(n for n in names if n[0] != "_" or n.startswith("__"))
