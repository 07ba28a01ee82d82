"""Transforms of parts of a tensor, and of sets of values: from all real numbers to a set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rabbet import linalg
from rabbet.base.errors import RabbetError, ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.distributions import constraints
from rabbet.distributions.constraints import Constraint
from rabbet.distributions.distribution import sum_last
from rabbet.distributions.transforms import (
    AffineTransform,
    ComposeTransform,
    ExpTransform,
    IndependentTransform,
    LowerCholeskyTransform,
    SigmoidTransform,
    SoftmaxTransform,
    StickBreakingTransform,
    Transform,
)
from rabbet.tensor import Tensor, asarray
from rabbet.tensor.lift import functions


class _Parts(Transform):
    """One transform for each part along an axis."""

    def __init__(self, tseq: Sequence[Transform], dim: int = 0, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.transforms, self.dim = list(tseq), dim
        for part in self.transforms:
            if not isinstance(part, Transform):
                raise RabbetError(f"{part!r} is a {type(part).__name__}; a Transform is needed")
        if not self.transforms:
            raise RabbetError(f"{type(self).__name__}: at least one transform is needed")
        self.bijective = all(t.bijective for t in self.transforms)
        self.domain = self._whole([t.domain for t in self.transforms])
        self.codomain = self._whole([t.codomain for t in self.transforms])

    def _whole(self, each: list[Constraint]) -> Constraint:
        """The set of tensors whose parts lie in one set each."""
        axes = max(c.event_dim for c in each)
        alike = [constraints.independent(c, axes - c.event_dim) for c in each]

        def holds(x: Tensor) -> Tensor:
            found = [c.check(p) for c, p in zip(alike, self._split(x), strict=True)]
            at = self._axis(x)
            if at >= x.ndim - axes:  # inside of one event
                return functions["stack"](found, 0).all(axis=0)
            return self._join(found, at)

        return Constraint("parts", axes, holds)

    def _axis(self, x: Tensor) -> int:
        return axis_of(type(self).__name__, self.dim, x.ndim)

    def _split(self, x: Tensor) -> list[Tensor]:
        raise NotImplementedError

    def _join(self, parts: list[Tensor], axis: int) -> Tensor:
        raise NotImplementedError

    def _call(self, x: Tensor) -> Tensor:
        pairs = zip(self.transforms, self._split(x), strict=True)
        return self._join([t(p) for t, p in pairs], self._axis(x))

    def _inverse(self, y: Tensor) -> Tensor:
        pairs = zip(self.transforms, self._split(y), strict=True)
        return self._join([t.back(p) for t, p in pairs], self._axis(y))

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        """That of each part; summed where the parts are of one event."""
        t, image, axes = asarray(x), asarray(y), self.domain.event_dim
        parts = zip(self.transforms, self._split(t), self._split(image), strict=True)
        found = [
            sum_last(p.log_abs_det_jacobian(a, b), axes - p.domain.event_dim) for p, a, b in parts
        ]
        at = self._axis(t)
        return self._join(found, at) if at < t.ndim - axes else sum(found[1:], found[0])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.transforms}, dim={self.dim})"


class CatTransform(_Parts):
    """A transform for each of several runs of `lengths` (1 each, if left out) along an axis.

    >>> t = rb.distributions.CatTransform([rb.distributions.ExpTransform(),
    ...                                    rb.distributions.AffineTransform(0.0, 2.0)], 0, [1, 2])
    >>> t(rb.asarray([0.0, 1.0, 2.0]))
    tensor([1., 2., 4.])
    """

    def __init__(
        self,
        tseq: Sequence[Transform],
        dim: int = 0,
        lengths: Sequence[int] | None = None,
        cache_size: int = 0,
    ) -> None:
        count = len(list(tseq))
        self.lengths = [1] * count if lengths is None else [int(n) for n in lengths]
        if len(self.lengths) != count:
            raise ShapeError(f"CatTransform: {len(self.lengths)} lengths for {count} transforms")
        super().__init__(tseq, dim, cache_size)

    def _split(self, x: Tensor) -> list[Tensor]:
        at = self._axis(x)
        if x.shape[at] != sum(self.lengths):
            raise ShapeError(
                f"CatTransform: axis {at} of {show(x.shape)} has {x.shape[at]} elements; the "
                f"lengths {self.lengths} add up to {sum(self.lengths)}"
            )
        found, first, ahead = [], 0, (slice(None),) * at
        for n in self.lengths:
            found.append(x[(*ahead, slice(first, first + n))])
            first += n
        return found

    def _join(self, parts: list[Tensor], axis: int) -> Tensor:
        return functions["concat"](parts, axis)


class StackTransform(_Parts):
    """A transform for each slice along an axis.

    >>> t = rb.distributions.StackTransform([rb.distributions.ExpTransform(),
    ...                                      rb.distributions.AffineTransform(0.0, 2.0)], dim=1)
    >>> t(rb.asarray([[0.0, 3.0]]))
    tensor([[1., 6.]])
    """

    def _split(self, x: Tensor) -> list[Tensor]:
        at = self._axis(x)
        if x.shape[at] != len(self.transforms):
            raise ShapeError(
                f"StackTransform: axis {at} of {show(x.shape)} has {x.shape[at]} slices for "
                f"{len(self.transforms)} transforms"
            )
        return [x[(*(slice(None),) * at, i)] for i in range(x.shape[at])]

    def _join(self, parts: list[Tensor], axis: int) -> Tensor:
        return functions["stack"](parts, axis)


class PositiveDefiniteTransform(Transform):
    """Any square matrix to a symmetric positive definite one, by its Cholesky factor.

    >>> rb.distributions.PositiveDefiniteTransform()(rb.zeros((2, 2))).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    domain = constraints.independent(constraints.real, 2)
    codomain = constraints.positive_definite
    bijective = False

    def _call(self, x: Tensor) -> Tensor:
        factor = LowerCholeskyTransform()(x)
        return factor @ factor.mT

    def _inverse(self, y: Tensor) -> Tensor:
        return LowerCholeskyTransform().back(linalg.cholesky(y))


# ---- from all real numbers to a set --------------------------------------------------------------

Maker = Callable[[Constraint], Transform]


class ConstraintRegistry:
    """Which transform leads to which set: `biject_to` and `transform_to`.

    A set is known by its name, so one of more axes of events is reached part by part.

    >>> t = rb.distributions.transform_to(rb.distributions.constraints.interval(1.0, 3.0))
    >>> t(rb.tensor(0.0))
    tensor(2.)
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._makers: dict[str, tuple[int, Maker]] = {}

    def register(self, constraint: Any, maker: Maker | None = None) -> Any:
        """`maker(constraint)` is the transform to `constraint`, or to those of its kind where it is
        a function that makes them; also as a decorator.
        """
        if maker is None:
            return lambda given: self.register(constraint, given)
        is_one = isinstance(constraint, Constraint)
        name = constraint.name if is_one else getattr(constraint, "__name__", None)
        if not isinstance(name, str):
            raise TypeError(f"{self.name}: a constraint is needed, not {constraint!r}")
        self._makers[name] = (constraint.event_dim if is_one else 0, maker)
        return maker

    def __call__(self, constraint: Constraint) -> Transform:
        """A transform from all real numbers to the set; RabbetError where none is known."""
        if constraint.name not in self._makers:
            raise RabbetError(
                f"{self.name}: no transform to {constraint} is known; {self.name}.register has it"
            )
        axes, maker = self._makers[constraint.name]
        made, further = maker(constraint), constraint.event_dim - axes
        return IndependentTransform(made, further) if further else made

    def __repr__(self) -> str:
        return self.name


def _interval(constraint: Constraint) -> Transform:
    low, high = constraint.bounds
    return ComposeTransform([SigmoidTransform(), AffineTransform(low, high - low)])


def _side(sign: float) -> Maker:
    return lambda c: ComposeTransform([ExpTransform(), AffineTransform(c.bounds[0], sign)])


biject_to = ConstraintRegistry("biject_to")
transform_to = ConstraintRegistry("transform_to")
for _registry in (biject_to, transform_to):
    _registry.register(constraints.real, lambda c: ComposeTransform([]))
    for _one in (constraints.positive, constraints.nonnegative):
        _registry.register(_one, lambda c: ExpTransform())
    _registry.register(constraints.unit_interval, lambda c: SigmoidTransform())
    _registry.register(constraints.interval, _interval)
    _registry.register(constraints.greater_than, _side(1.0))
    _registry.register(constraints.greater_than_eq, _side(1.0))
    _registry.register(constraints.less_than, _side(-1.0))
    _registry.register(constraints.lower_cholesky, lambda c: LowerCholeskyTransform())
    _registry.register(constraints.positive_definite, lambda c: PositiveDefiniteTransform())
biject_to.register(constraints.simplex, lambda c: StickBreakingTransform())
transform_to.register(constraints.simplex, lambda c: SoftmaxTransform())
