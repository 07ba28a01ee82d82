"""Parameters that are computed from others at each use: weight and spectral normalisation.

PyTorch's `nn.utils.parametrize` and `nn.utils.parametrizations`, with its names in saved states:
`parametrizations.weight.original` (or `original0`, `original1`).
"""

from __future__ import annotations

from rabbet.base.errors import RabbetError, ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.library.random import randn
from rabbet.nn.container import ModuleDict
from rabbet.nn.module import Module
from rabbet.nn.parameter import Parameter
from rabbet.tensor import Tensor, functions, no_grad


class ParametrizationList(Module):
    """The original of a parameter, and the modules that it goes through at each use."""

    def __init__(self, original: Parameter) -> None:
        super().__init__()
        self.register_parameter("original", original)
        self.names = ["original"]

    def append(self, parametrization: Module) -> None:
        """Add one more step; its `right_inverse`, if it has one, finds the new original."""
        inverse = getattr(parametrization, "right_inverse", None)
        if inverse is not None:
            if "0" in self._modules:
                raise RabbetError("a parametrization with right_inverse must be the first one")
            with no_grad():
                found = inverse(self._parameters["original"].detach())
            parts = found if isinstance(found, tuple) else (found,)
            names = [f"original{i}" for i in range(len(parts))] if len(parts) > 1 else self.names
            trains = self._parameters["original"].requires_grad
            del self._parameters["original"]
            for name, part in zip(names, parts, strict=True):
                self.register_parameter(name, Parameter(part, trains))
            self.names = names
        self.register_module(str(len(self._modules)), parametrization)

    def forward(self) -> Tensor:
        values = [getattr(self, name) for name in self.names]
        for step in self._modules.values():
            values = [step(*values)]
        return values[0]


def register_parametrization(module: Module, name: str, parametrization: Module) -> Module:
    """From now on `module.name` is `parametrization(original)`, computed at each use.

    The original is a parameter of `module.parametrizations.name`. Returns the module.

    >>> class Doubled(nn.Module):
    ...     def forward(self, x):
    ...         return x * 2
    >>> fc = nn.Linear(2, 1)
    >>> before = fc.weight.tolist()
    >>> (register_parametrization(fc, "weight", Doubled()).weight / 2).tolist() == before
    True
    """
    homes = module._modules.get("parametrizations")
    if homes is not None and name in homes._modules:
        homes._modules[name].append(parametrization)
        return module
    original = module._parameters.get(name)
    if original is None:
        raise RabbetError(f"{type(module).__name__} has no parameter {name!r} to parametrize")
    steps = ParametrizationList(original)
    steps.append(parametrization)
    _check_shape(name, original, steps)
    if homes is None:
        kind = type(module)
        module.__class__ = type(f"Parametrized{kind.__name__}", (kind,), {})
        homes = ModuleDict()
        module.register_module("parametrizations", homes)
    del module._parameters[name]
    setattr(type(module), name, property(lambda self: self.parametrizations[name]()))
    homes._modules[name] = steps
    return module


def _check_shape(name: str, original: Parameter, steps: ParametrizationList) -> None:
    with no_grad():
        found = steps()
    if found.shape != original.shape:
        raise ShapeError(
            f"the parametrization of {name} gives {show(found.shape)}, not {show(original.shape)}"
        )


def is_parametrized(module: Module, name: str | None = None) -> bool:
    """Whether the module (or its parameter `name`) is computed from others.

    >>> is_parametrized(weight_norm(nn.Linear(2, 2)), "weight")
    True
    """
    homes = module._modules.get("parametrizations")
    return homes is not None and (name is None or name in homes._modules)


def remove_parametrizations(module: Module, name: str) -> Module:
    """Make `module.name` a plain parameter again, with the value it has now.

    >>> fc = remove_parametrizations(weight_norm(nn.Linear(2, 2)), "weight")
    >>> [n for n, _ in fc.named_parameters()]
    ['bias', 'weight']
    """
    if not is_parametrized(module, name):
        raise RabbetError(f"{type(module).__name__}: {name!r} is not parametrized")
    homes = module._modules["parametrizations"]
    with no_grad():
        value = getattr(module, name).detach()
    trains = any(p.requires_grad for p in homes._modules[name].parameters())
    delattr(type(module), name)
    del homes._modules[name]
    module.register_parameter(name, Parameter(value, trains))
    if not homes._modules:
        del module._modules["parametrizations"]
        module.__class__ = type(module).__mro__[1]
    return module


# ---- weight normalisation ------------------------------------------------------------------------


def _norm_except(v: Tensor, dim: int | None) -> Tensor:
    """The norm of every slice of `dim` (None: of all), with the axes kept."""
    axes = tuple(
        a for a in range(v.ndim) if dim is None or a != axis_of("weight_norm", dim, v.ndim)
    )
    return functions["sqrt"](functions["sum"](v * v, axes, keepdims=True))


class _WeightNorm(Module):
    def __init__(self, dim: int | None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, size: Tensor, direction: Tensor) -> Tensor:
        return direction * (size / _norm_except(direction, self.dim))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Lengths and directions."""
        return _norm_except(weight, self.dim), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Split a weight into the lengths of its slices (`original0`) and directions (`original1`).

    T. Salimans and D. Kingma, "Weight normalization", 2016. Returns the module.

    >>> fc = weight_norm(nn.Linear(3, 2))
    >>> [n for n, _ in fc.named_parameters()][1:]
    ['parametrizations.weight.original0', 'parametrizations.weight.original1']
    """
    return register_parametrization(module, name, _WeightNorm(dim))


# ---- spectral normalisation ----------------------------------------------------------------------


class _SpectralNorm(Module):
    def __init__(self, weight: Tensor, iterations: int, eps: float, dim: int) -> None:
        super().__init__()
        self.iterations, self.eps = iterations, eps
        self.dim = axis_of("spectral_norm", dim, weight.ndim)
        with no_grad():
            matrix = self._matrix(weight.detach())
            for name, size in zip(("_u", "_v"), matrix.shape, strict=True):
                start = self._unit(randn(size, dtype=weight.dtype))
                self.register_buffer(name, start)
            self._iterate(matrix, 15)

    def _matrix(self, weight: Tensor) -> Tensor:
        moved = functions["moveaxis"](weight, self.dim, 0)
        return moved.reshape((moved.shape[0], -1))

    def _unit(self, x: Tensor) -> Tensor:
        return x / functions["sqrt"]((x * x).sum()).clip(self.eps, None)

    def _iterate(self, matrix: Tensor, times: int) -> None:
        u, v = self._u, self._v
        for _ in range(times):
            u = self._unit(functions["matmul"](matrix, v))
            v = self._unit(functions["matmul"](matrix.T, u))
        self._u.copy_(u)
        self._v.copy_(v)

    def forward(self, weight: Tensor) -> Tensor:
        matrix = self._matrix(weight)
        if self.training:
            with no_grad():
                self._iterate(matrix.detach(), self.iterations)
        u, v = self._u.detach(), self._v.detach()
        return weight / (u * functions["matmul"](matrix, v)).sum()


def spectral_norm(
    module: Module,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> Module:
    """Divide a weight by its largest singular value, which power iterations follow in training.

    The weight is a matrix with `dim` as rows (0; 1 for transposed convolutions). T. Miyato et al.,
    "Spectral normalization for generative adversarial networks", 2018. Returns the module.

    >>> fc = spectral_norm(nn.Linear(3, 3))
    >>> bool(abs(rb.linalg.svdvals(fc.weight)[0] - 1) < 0.1)
    True
    """
    if dim is None:
        dim = int(getattr(type(module), "is_transposed", False))
    weight = getattr(module, name)
    return register_parametrization(
        module, name, _SpectralNorm(weight, n_power_iterations, eps, dim)
    )
