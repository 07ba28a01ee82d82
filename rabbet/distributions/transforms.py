"""Maps between sets of values with the logarithms of their volume changes, with PyTorch's names.

A transform of one's own is a class with `domain`, `codomain` (constraints), `_call(x)`,
`_inverse(y)` and `log_abs_det_jacobian(x, y)`, as in PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from rabbet.base.errors import RabbetError, ShapeError
from rabbet.base.shapes import show
from rabbet.distributions import constraints
from rabbet.distributions.constraints import Constraint
from rabbet.distributions.distribution import Shape, sum_last
from rabbet.library.joining import broadcast_shapes
from rabbet.ops.activation import logsigmoid
from rabbet.ops.arithmetic import abs_
from rabbet.ops.compare import where
from rabbet.ops.float_functions import exp, expm1, log, log1p, sigmoid
from rabbet.ops.index_maps import expand
from rabbet.ops.network import softmax
from rabbet.ops.pointwise_composites import logit
from rabbet.ops.trigonometry import atanh, tanh
from rabbet.tensor import Tensor, asarray, is_grad_enabled
from rabbet.tensor.create import zeros
from rabbet.tensor.lift import functions


class _Seen(NamedTuple):
    """A tensor and which value it had: it may be written to."""

    tensor: Tensor
    node: Any
    output: int

    @classmethod
    def of(cls, x: Tensor) -> _Seen:
        return cls(x, x._node, x._index)


_NOTHING = (None, None, False)


def _is_same(known: _Seen, x: Tensor) -> bool:
    return known.tensor is x and known.node is x._node and known.output == x._index


def _with_axes(transform: Transform, x: Tensor, of: Constraint) -> Tensor:
    if x.ndim < of.event_dim:
        raise ShapeError(f"{transform}: {show(x.shape)} must have {of.event_dim} or more axes")
    return x


def _parameters(transform: Transform) -> dict[str, Any]:
    derived = ("_last", "_cache_size", "domain", "codomain")
    return {n: v for n, v in vars(transform).items() if n not in derived}


def _is_alike(one: Any, two: Any) -> bool:
    if one is two:
        return True
    return not (isinstance(one, Tensor) or isinstance(two, Tensor)) and bool(one == two)


def _softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), exact everywhere."""
    return -logsigmoid(-x)


class Transform:
    """The base of all transforms; `t.inv` is the way back, `t.inv.inv` is t.

    With `cache_size=1` the last pair is remembered: the inverse of the very tensor that came out
    is the one that went in, without rounding (which matters behind tanh).

    >>> t = rb.distributions.ExpTransform()
    >>> t(rb.tensor(0.0)), t.inv(rb.tensor(1.0)), t.log_abs_det_jacobian(rb.tensor(2.0), None)
    (tensor(1.), tensor(0.), tensor(2.))
    """

    domain: Constraint = constraints.real
    codomain: Constraint = constraints.real
    bijective = True
    sign: Any = None  # of the slope: 1 where it increases, -1 where it decreases

    def __init__(self, cache_size: int = 0) -> None:
        self._cache_size = cache_size
        self._last: Any = _NOTHING

    def __call__(self, x: Any) -> Tensor:
        """The image of `x`."""
        t = asarray(x)
        known, image = self._pair()
        if known and image and _is_same(known, t):
            return image.tensor
        y = self._call(_with_axes(self, t, self.domain))
        self._remember(t, y)
        return y

    def back(self, y: Any) -> Tensor:
        """What `y` is the image of."""
        t = asarray(y)
        origin, known = self._pair()
        if known and origin and _is_same(known, t):
            return origin.tensor
        x = self._inverse(_with_axes(self, t, self.codomain))
        self._remember(x, t)
        return x

    def _pair(self) -> tuple[_Seen | None, _Seen | None]:
        # A class of one's own may not call __init__.
        x, y, had_gradients = getattr(self, "_last", _NOTHING)
        if x is None or y is None or had_gradients or not is_grad_enabled():
            return x, y
        # What was computed without gradients must not stand for what now has some.
        held = (x.tensor, y.tensor, *vars(self).values())
        has_some = any(isinstance(v, Tensor) and v.requires_grad for v in held)
        return (None, None) if has_some else (x, y)

    def _remember(self, x: Tensor, y: Tensor) -> None:
        if getattr(self, "_cache_size", 0):
            self._last = (_Seen.of(x), _Seen.of(y), is_grad_enabled())

    def __eq__(self, other: object) -> bool:
        """True for a transform of the same kind with the same numbers and the very same tensors."""
        if not isinstance(other, Transform) or type(self) is not type(other):
            return NotImplemented
        one, two = (_parameters(t) for t in (self, other))
        return one.keys() == two.keys() and all(_is_alike(v, two[n]) for n, v in one.items())

    def __hash__(self) -> int:
        return hash(type(self))

    @property
    def inv(self) -> Transform:
        """The inverse."""
        return _Inverse(self)

    def _call(self, x: Tensor) -> Tensor:
        raise RabbetError(f"{type(self).__name__}: there is no _call")

    def _inverse(self, y: Tensor) -> Tensor:
        raise RabbetError(f"{type(self).__name__}: there is no way back")

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        """log |det dy/dx| of each event, where y is the image of x."""
        raise RabbetError(f"{type(self).__name__}: there is no log_abs_det_jacobian")

    def forward_shape(self, shape: Shape) -> Shape:
        """The shape of the image of tensors of `shape`."""
        return shape

    def inverse_shape(self, shape: Shape) -> Shape:
        """The shape of what has images of `shape`."""
        return shape

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class _Inverse(Transform):
    def __init__(self, base: Transform) -> None:
        super().__init__()
        self.base = base
        self.domain, self.codomain, self.bijective = base.codomain, base.domain, base.bijective

    def __call__(self, x: Any) -> Tensor:
        return self.base.back(x)

    def back(self, y: Any) -> Tensor:
        return self.base(y)

    @property
    def inv(self) -> Transform:
        return self.base

    @property
    def sign(self) -> Any:
        return self.base.sign

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        return -self.base.log_abs_det_jacobian(y, x)

    def forward_shape(self, shape: Shape) -> Shape:
        return self.base.inverse_shape(shape)

    def inverse_shape(self, shape: Shape) -> Shape:
        return self.base.forward_shape(shape)

    def __repr__(self) -> str:
        return f"{self.base}.inv"


class ComposeTransform(Transform):
    """Several transforms, one after the other.

    >>> t = rb.distributions.ComposeTransform([rb.distributions.ExpTransform(),
    ...                                        rb.distributions.AffineTransform(1.0, 2.0)])
    >>> t(rb.tensor(0.0))
    tensor(3.)
    """

    def __init__(self, parts: Sequence[Transform]) -> None:
        super().__init__()
        self.parts = list(parts)
        for part in self.parts:
            if not isinstance(part, Transform):
                raise RabbetError(f"{part!r} is a {type(part).__name__}; a Transform is needed")
        self.bijective = all(p.bijective for p in self.parts)
        if self.parts:
            self.domain = _reaching(self.parts[0].domain, _needed(self.parts[::-1], False))
            self.codomain = _reaching(self.parts[-1].codomain, _needed(self.parts, True))

    def __call__(self, x: Any) -> Tensor:
        for part in self.parts:
            x = part(x)
        return asarray(x)

    def back(self, y: Any) -> Tensor:
        for part in reversed(self.parts):
            y = part.back(y)
        return asarray(y)

    @property
    def sign(self) -> Any:
        """The product of the parts' signs; None where one has none."""
        signs = [part.sign for part in self.parts]
        return None if any(s is None for s in signs) else math.prod(signs)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        """The sum of those of all parts."""
        axes, terms = self.domain.event_dim, []
        for part in self.parts:
            image = part(x)
            found = part.log_abs_det_jacobian(x, image)
            terms.append(sum_last(found, axes - part.domain.event_dim))
            axes += part.codomain.event_dim - part.domain.event_dim
            x = image
        return sum(terms[1:], terms[0]) if terms else functions["zeros_like"](x)

    def forward_shape(self, shape: Shape) -> Shape:
        for part in self.parts:
            shape = part.forward_shape(shape)
        return shape

    def inverse_shape(self, shape: Shape) -> Shape:
        for part in reversed(self.parts):
            shape = part.inverse_shape(shape)
        return shape

    def __repr__(self) -> str:
        return f"ComposeTransform({self.parts})"


def _needed(parts: Sequence[Transform], is_forward: bool) -> int:
    """How many axes an event has behind all parts (in front of them, of parts in reverse)."""
    axes = 0
    for part in parts:
        taken, made = part.domain.event_dim, part.codomain.event_dim
        taken, made = (taken, made) if is_forward else (made, taken)
        axes = max(axes, taken) + made - taken
    return axes


def _reaching(base: Constraint, axes: int) -> Constraint:
    return constraints.independent(base, axes - base.event_dim)


class IndependentTransform(Transform):
    """A transform whose volume changes add up along further axes of one event.

    >>> t = rb.distributions.IndependentTransform(rb.distributions.ExpTransform(), 1)
    >>> t.log_abs_det_jacobian(rb.ones(3), None)
    tensor(3.)
    """

    def __init__(self, base_transform: Transform, reinterpreted_batch_ndims: int) -> None:
        super().__init__()
        self.base_transform, self.count = base_transform, reinterpreted_batch_ndims
        self.bijective = base_transform.bijective
        self.domain = constraints.independent(base_transform.domain, self.count)
        self.codomain = constraints.independent(base_transform.codomain, self.count)

    def _call(self, x: Tensor) -> Tensor:
        return self.base_transform(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.base_transform.back(y)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        """The base's, summed."""
        return sum_last(self.base_transform.log_abs_det_jacobian(x, y), self.count)

    def forward_shape(self, shape: Shape) -> Shape:
        return self.base_transform.forward_shape(shape)

    def inverse_shape(self, shape: Shape) -> Shape:
        return self.base_transform.inverse_shape(shape)


class AffineTransform(Transform):
    """loc + scale * x; of `event_dim` axes as one event.

    >>> rb.distributions.AffineTransform(1.0, 2.0)(rb.tensor(3.0))
    tensor(7.)
    """

    def __init__(self, loc: Any, scale: Any, event_dim: int = 0, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.loc, self.scale, self.event_dim = loc, scale, event_dim
        self.domain = self.codomain = constraints.independent(constraints.real, event_dim)

    @property
    def sign(self) -> Tensor:
        """The scale's."""
        return functions["sign"](asarray(self.scale))

    def _call(self, x: Tensor) -> Tensor:
        return self.loc + self.scale * x

    def _inverse(self, y: Tensor) -> Tensor:
        return (y - self.loc) / self.scale

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        """log |scale|."""
        t, scale = asarray(x), asarray(self.scale)
        scale = scale.astype(t.dtype) if t.dtype.is_float else scale
        shape = broadcast_shapes(t.shape, scale.shape)
        return sum_last(expand(log(abs_(scale)), shape), self.event_dim)

    def forward_shape(self, shape: Shape) -> Shape:
        return broadcast_shapes(shape, asarray(self.loc).shape, asarray(self.scale).shape)

    inverse_shape = forward_shape


class ExpTransform(Transform):
    """exp(x).

    >>> rb.distributions.ExpTransform()(rb.tensor(0.0))
    tensor(1.)
    """

    codomain = constraints.positive
    sign = 1

    def _call(self, x: Tensor) -> Tensor:
        return exp(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return log(y)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        """x."""
        return asarray(x)


class PowerTransform(Transform):
    """x ** exponent, of positive numbers.

    >>> rb.distributions.PowerTransform(2.0)(rb.tensor(3.0))
    tensor(9.)
    """

    domain = codomain = constraints.positive

    def __init__(self, exponent: Any, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.exponent = exponent

    @property
    def sign(self) -> Tensor:
        """The exponent's."""
        return functions["sign"](asarray(self.exponent))

    def _call(self, x: Tensor) -> Tensor:
        return x**self.exponent

    def _inverse(self, y: Tensor) -> Tensor:
        return y ** (1.0 / self.exponent)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        """log |exponent y / x|."""
        return log(abs_(self.exponent * asarray(y) / asarray(x)))

    def forward_shape(self, shape: Shape) -> Shape:
        return broadcast_shapes(shape, asarray(self.exponent).shape)

    inverse_shape = forward_shape


class SigmoidTransform(Transform):
    """1 / (1 + exp(-x)).

    >>> rb.distributions.SigmoidTransform()(rb.tensor(0.0))
    tensor(0.5)
    """

    codomain = constraints.unit_interval
    sign = 1

    def _call(self, x: Tensor) -> Tensor:
        return sigmoid(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return logit(y)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        """-softplus(-x) - softplus(x)."""
        return -_softplus(-asarray(x)) - _softplus(asarray(x))


class TanhTransform(Transform):
    """tanh(x).

    >>> rb.distributions.TanhTransform().log_abs_det_jacobian(rb.tensor(0.0), None)
    tensor(0.)
    """

    codomain = constraints.interval(-1.0, 1.0)
    sign = 1

    def _call(self, x: Tensor) -> Tensor:
        return tanh(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return atanh(y)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        """log(1 - tanh(x)^2), also where tanh(x) is 1 in its dtype."""
        t = asarray(x)
        return 2.0 * (math.log(2.0) - t - _softplus(-2.0 * t))


class SoftplusTransform(Transform):
    """log(1 + exp(x)).

    >>> t = rb.distributions.SoftplusTransform()
    >>> round(t.inv(t(rb.tensor(2.0))).item(), 5)
    2.0
    """

    codomain = constraints.positive
    sign = 1

    def _call(self, x: Tensor) -> Tensor:
        return _softplus(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return y + log(-expm1(-y))

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        """-softplus(-x)."""
        return -_softplus(-asarray(x))


class AbsTransform(Transform):
    """|x|, which has no way back: its inverse is one of two.

    >>> rb.distributions.AbsTransform()(rb.tensor(-2.0))
    tensor(2.)
    """

    codomain = constraints.nonnegative
    bijective = False

    def _call(self, x: Tensor) -> Tensor:
        return abs_(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return y


class SoftmaxTransform(Transform):
    """softmax of the last axis; the inverse is one of many.

    >>> rb.distributions.SoftmaxTransform()(rb.zeros(2))
    tensor([0.5, 0.5])
    """

    domain = constraints.real_vector
    codomain = constraints.simplex
    bijective = False

    def _call(self, x: Tensor) -> Tensor:
        return softmax(x, -1)

    def _inverse(self, y: Tensor) -> Tensor:
        return log(y)


class StickBreakingTransform(Transform):
    """n numbers to n + 1 positive ones whose sum is 1: each takes its share of what is left.

    M. Betancourt, "Cruising the simplex", 2012, and the Stan manual.

    >>> rb.distributions.StickBreakingTransform()(rb.zeros(1))
    tensor([0.5, 0.5])
    """

    domain = constraints.real_vector
    codomain = constraints.simplex

    def _call(self, x: Tensor) -> Tensor:
        share = self._share(x)
        none = zeros((*x.shape[:-1], 1), dtype=x.dtype)
        ahead = functions["concat"]([none, log1p(-share).cumsum(-1)], -1)
        last = functions["concat"]([share, none + 1.0], -1)
        return last * exp(ahead)

    def _share(self, x: Tensor) -> Tensor:
        return sigmoid(x - self._logs(x))

    def _logs(self, x: Tensor) -> Tensor:
        """log n, log(n - 1), ..., log 1."""
        n = x.shape[-1]
        return asarray([math.log(n - i) for i in range(n)], dtype=x.dtype)

    def _inverse(self, y: Tensor) -> Tensor:
        rest = 1.0 - y.cumsum(-1)[..., :-1]
        left = where(rest <= 0, 1e-30, rest)
        parts = y[..., :-1]
        return log(parts) - log(left) + self._logs(parts)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        """sum(-z + logsigmoid(z) + log y) with z = x - logs."""
        t = asarray(x)
        z, image = t - self._logs(t), asarray(y)[..., :-1]
        return (-z - _softplus(-z) + log(image)).sum(axis=-1)

    def forward_shape(self, shape: Shape) -> Shape:
        return (*shape[:-1], shape[-1] + 1)

    def inverse_shape(self, shape: Shape) -> Shape:
        return (*shape[:-1], shape[-1] - 1)


class LowerCholeskyTransform(Transform):
    """Any square matrix to a lower triangular one with a positive diagonal.

    >>> rb.distributions.LowerCholeskyTransform()(rb.zeros(2, 2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    domain = constraints.independent(constraints.real, 2)
    codomain = constraints.lower_cholesky
    bijective = False

    def _call(self, x: Tensor) -> Tensor:
        return x.tril(-1) + functions["diag_embed"](exp(x.diagonal()))

    def _inverse(self, y: Tensor) -> Tensor:
        return y.tril(-1) + functions["diag_embed"](log(y.diagonal()))


class ReshapeTransform(Transform):
    """The last axes in another shape.

    >>> rb.distributions.ReshapeTransform((4,), (2, 2))(rb.zeros(3, 4)).shape
    (3, 2, 2)
    """

    def __init__(self, in_shape: Shape, out_shape: Shape) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        if math.prod(self.in_shape) != math.prod(self.out_shape):
            raise ShapeError(f"ReshapeTransform: {show(self.in_shape)} to {show(self.out_shape)}")
        self.domain = constraints.independent(constraints.real, len(self.in_shape))
        self.codomain = constraints.independent(constraints.real, len(self.out_shape))

    def _call(self, x: Tensor) -> Tensor:
        return x.reshape(self.forward_shape(x.shape))

    def _inverse(self, y: Tensor) -> Tensor:
        return y.reshape(self.inverse_shape(y.shape))

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        """0."""
        t = asarray(x)
        shape = t.shape[: t.ndim - len(self.in_shape)]
        return functions["zeros_like"](t.reshape((*shape, -1))[..., 0])

    def forward_shape(self, shape: Shape) -> Shape:
        return (*shape[: len(shape) - len(self.in_shape)], *self.out_shape)

    def inverse_shape(self, shape: Shape) -> Shape:
        return (*shape[: len(shape) - len(self.out_shape)], *self.in_shape)
