"""Tensor: what the user holds. Ops become its methods in lift.py."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rabbet.base import dtypes, shapes
from rabbet.base.dtypes import DType, dtype_of
from rabbet.base.errors import DeviceError, DTypeError, GradientError, ShapeError
from rabbet.base.spec import Spec, intern
from rabbet.engine import backward as backward_module
from rabbet.engine import hooks
from rabbet.engine.flush import value_of
from rabbet.graph.value import lookup
from rabbet.recorder import Handle, current, elements, leaf_node, number
from rabbet.runtime import buffers
from rabbet.tensor import absent, indexing, printing
from rabbet.tensor.count import Count
from rabbet.tensor.outside import array_of, holds_tensor

API_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12")  # of the array API, newest last


if TYPE_CHECKING:  # what lift.py attaches from the ops' declarations
    from rabbet.tensor.declared import Methods
else:
    Methods = Handle


class Tensor(Methods):
    """An n-dimensional array of one dtype on one device.

    Ops on tensors are recorded and computed when a value is needed; nothing but speed shows it.
    Make tensors with `rb.tensor`, `rb.asarray`, `rb.zeros` and their kin.

    >>> isinstance(rb.ones(2), rb.Tensor)
    True
    """

    __slots__ = ()
    __array_priority__ = 1000
    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> Any:
        message = absent.message("Tensor", name, absent.METHODS)
        raise AttributeError(message, name=name, obj=self)

    # ---- what is known before computing ---------------------------------------------------------

    @property
    def spec(self) -> Spec:
        """Shape, dtype and device."""
        return self._node.specs[self._index]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self._node.specs[self._index].shape

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self._node.specs[self._index].dtype

    @property
    def device(self) -> str:
        """Where the elements live: "cpu"."""
        return self._node.specs[self._index].device

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> Count:
        """Number of elements (array API); called, as in PyTorch, the shape: `x.size(0)`."""
        return Count(self._node.specs[self._index].shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.spec.nbytes  # type: ignore[return-value]

    def sibling(self, index: int) -> Tensor:
        """Another output of the op that made this tensor, a hidden one too."""
        return type(self)(self._node, index)

    @property
    def real(self) -> Tensor:
        """The real part."""
        return lookup("real")(self)

    @property
    def imag(self) -> Tensor:
        """The imaginary part (0 for real numbers)."""
        return lookup("imag")(self)

    def is_complex(self) -> bool:
        """True for complex64 and complex128."""
        return self.dtype.kind == "c"

    def numel(self) -> int:
        """Number of elements."""
        # A recorded tensor's sizes are numbers, never symbols.
        return self.spec.elements  # type: ignore[return-value]

    def dim(self) -> int:
        """Number of axes."""
        return self.ndim

    def element_size(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def T(self) -> Tensor:
        """The transpose of a matrix; ShapeError unless there are two axes."""
        if self.ndim != 2:
            raise ShapeError(
                f"T: needs 2 axes, the shape is {shapes.show(self.shape)}; use .mT or permute"
            )
        return lookup("permute")(self, (1, 0))

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        if self.ndim < 2:
            raise ShapeError(f"mT: needs 2 axes or more, the shape is {shapes.show(self.shape)}")
        order = (*range(self.ndim - 2), self.ndim - 1, self.ndim - 2)
        return lookup("permute")(self, order)

    # ---- values out ----------------------------------------------------------------------------

    def numpy(self) -> np.ndarray:
        """The elements as a read-only NumPy array, without a copy where possible."""
        tape = current()
        if tape.capture is not None:
            tape.capture.opaque_read("numpy", self)
        return self._array()

    def _array(self) -> np.ndarray:
        spec = self._node.specs[self._index]
        return buffers.to_numpy(value_of(self), spec.shape, spec.dtype)

    def item(self) -> Any:
        """The single element as a Python number; ShapeError if there is not exactly one."""
        found = number(self)
        if found is not None:
            return found
        if self.size != 1:
            raise ShapeError(f"item: needs one element, the shape is {shapes.show(self.shape)}")
        tape = current()
        if tape.capture is not None:
            tape.capture.opaque_read("item", self)
        return self.numpy().reshape(()).item()

    def tolist(self) -> Any:
        """Nested Python lists of numbers."""
        found = elements(self)
        return self.numpy().tolist() if found is None else found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.requires_grad:
            raise GradientError(
                "NumPy got a tensor that requires gradients, and would lose them: write "
                "x.detach(), or x.numpy() for its elements (rb has most of NumPy's functions)"
            )
        tape = current()
        if tape.capture is not None:
            tape.capture.opaque_read("numpy", self)
        array = self._array()
        if dtype is not None and np.dtype(dtype) != array.dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        if api_version not in (None, *API_VERSIONS):
            raise ValueError(f"array API {api_version!r}: there are {', '.join(API_VERSIONS)}")
        return indexing.namespace()

    def __dlpack__(
        self,
        *,
        stream: None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """The elements as a DLPack capsule: read-only memory of ours where the consumer knows that
        there is such a thing (version 1), else a copy, unless `copy=False`: then the consumer
        answers for not writing. Raises BufferError for other devices.
        """
        if stream is not None or dl_device not in (None, self.__dlpack_device__()):
            raise BufferError(f"dlpack: stream {stream!r} of device {dl_device!r}; this is a CPU")
        knows_read_only = max_version is not None and max_version[0] >= 1
        array = self.numpy()
        if copy or (copy is None and not knows_read_only):
            array = array.copy()
        elif not knows_read_only:
            array = buffers.writable(array)
        return array.__dlpack__(max_version=max_version)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __bool__(self) -> bool:
        found = number(self)
        if found is not None:
            return bool(found)
        if self.size != 1:
            raise ShapeError(
                f"bool: the truth of {self.size} elements is ambiguous; use .any() or .all()"
            )
        tape = current()
        if tape.capture is not None:
            return tape.capture.decide(self)
        return bool(self.numpy().reshape(()))

    def __float__(self) -> float:
        return float(self.item())

    def __complex__(self) -> complex:
        value = self.item()
        return (
            complex(value, value) if value != value and self.dtype.kind == "f" else complex(value)
        )

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if not self.dtype.is_integer:
            raise DTypeError(f"an index must be an integer, this tensor is {self.dtype.name}")
        return int(self.item())

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a tensor without axes")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shape:
            raise TypeError("cannot iterate over a tensor without axes")
        return (self[i] for i in range(self.shape[0]))

    def __contains__(self, value: object) -> bool:
        return bool(lookup("any")(lookup("equal")(self, value)))

    def __repr__(self) -> str:
        tape = current()
        if tape.capture is not None:
            tape.capture.opaque_read("print", self)
        return printing.show(self.numpy(), self.dtype, self.requires_grad)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.size == 1 else format(repr(self), spec)

    # ---- indexing ------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Tensor:
        return indexing.get(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._update(indexing.put(self, key, value))

    # ---- gradients -----------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """True where gradients flow to or through this tensor."""
        node = self._node
        if node.is_leaf or node.prepared is None:
            return node.requires_grad
        return node.requires_grad and node.prepared.differentiable[self._index]

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    @property
    def is_leaf(self) -> bool:
        """True where no gradient flows further back than here."""
        return self._node.is_leaf or not self.requires_grad

    @property
    def grad(self) -> Tensor | None:
        """What backward() has summed up for this leaf."""
        tape = current()
        if tape.capture is not None:
            tape.capture.grad_read(self)
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None and (value.shape != self.shape or value.dtype is not self.dtype):
            raise GradientError(f"grad: {value.spec} does not fit a tensor of {self.spec}")
        self.set_grad(value)

    def set_grad(self, value: Any) -> None:
        """Set `.grad`, telling a jit capture in progress."""
        tape = current()
        if tape.capture is not None:
            tape.capture.grad_assigned(self)
        self._grad = value

    def requires_grad_(self, value: bool = True) -> Tensor:
        """Make this tensor a leaf that collects gradients (or stop it); returns itself."""
        if value and self.dtype.kind not in "fc":
            raise GradientError(
                f"requires_grad: only floating tensors have gradients, this is {self.dtype.name}"
            )
        node = self._node
        if node.requires_grad and not node.is_leaf:
            if not value:
                raise GradientError("requires_grad: only leaves can be changed; use detach()")
            return self
        if value:
            make_leaf(self)
        elif node.requires_grad:
            self.assign(self.detach())
        return self

    def backward(
        self,
        gradient: Tensor | None = None,
        *,
        retain_graph: bool = False,
        create_graph: bool = False,
    ) -> None:
        """Add d self / d leaf to the `.grad` of every leaf that requires gradients.

        A scalar needs no `gradient`. The graph is freed unless `retain_graph`; a second call is
        then a GradientError. `create_graph=True` makes the gradients differentiable (and keeps the
        graph).
        """
        backward_module.backward(
            [self], [gradient], retain_graph=retain_graph or create_graph, create_graph=create_graph
        )

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> hooks.RemovableHandle:
        """Call `hook(gradient)` when backward has the gradient of this tensor.

        A tensor that it returns takes the gradient's place, and must have its shape and dtype.
        Returns a handle whose `remove()` takes the hook off. Under `rb.jit` the hook's Python runs
        while the function is recorded, and what it computes is part of the program. Raises
        GradientError for a tensor that does not require gradients.

        >>> x = rb.tensor([1.0, 2.0], requires_grad=True)
        >>> handle = x.register_hook(lambda g: g * 10)
        >>> x.sum().backward()
        >>> x.grad
        tensor([10., 10.])
        """
        return hooks.register(self, hook, is_after=False)

    def register_post_accumulate_grad_hook(
        self, hook: Callable[[Tensor], None]
    ) -> hooks.RemovableHandle:
        """Call `hook(self)` each time backward has added to this leaf's `.grad`.

        >>> w = rb.tensor([1.0], requires_grad=True)
        >>> _ = w.register_post_accumulate_grad_hook(lambda w: print(w.grad.tolist()))
        >>> (w * 3).sum().backward()
        [3.0]
        """
        return hooks.register(self, hook, is_after=True)

    def retain_grad(self) -> None:
        """Keep the gradient of this tensor, though it is no leaf, in its `.grad` after backward.

        >>> x = rb.tensor([1.0, 2.0], requires_grad=True)
        >>> y = x * 2
        >>> y.retain_grad(); (y * y).sum().backward(); y.grad
        tensor([4., 8.])
        """
        if not self.requires_grad:
            raise GradientError("retain_grad: this tensor does not require gradients")
        if not self._node.is_leaf:
            hooks.register(self, functools.partial(_retain, weakref.ref(self)), is_after=False)

    # ---- in place ------------------------------------------------------------------------------

    def _update(self, value: Tensor) -> Tensor:
        """Make this tensor stand for `value` (the one place of every in-place op)."""
        if value.shape != self.shape:
            raise ShapeError(
                f"in place: the result has shape {shapes.show(value.shape)}, "
                f"the tensor {shapes.show(self.shape)}"
            )
        if value.dtype is not self.dtype:
            raise DTypeError(
                f"in place: the result is {value.dtype.name}, the tensor {self.dtype.name}"
            )
        node = self._node
        if node.is_leaf and node.requires_grad:
            if current().grad_enabled:
                raise GradientError(
                    "in place: this leaf requires gradients; update it under rb.no_grad()"
                )
            self.assign(lookup("detach")(value))
            make_leaf(self)
        else:
            indexing.warn_view(self)
            if value._node.is_leaf:  # x[:] = w: gradients flow to w, but x is another tensor
                value = lookup("positive")(value)
            self.assign(value)
        return self

    def copy_(self, source: Any) -> Tensor:
        """Take over the values of `source` (broadcast and cast to this shape and dtype)."""
        value = as_operand(source, self)
        if value.dtype is not self.dtype:
            value = lookup("cast")(value, self.dtype)
        if value.shape != self.shape:
            value = lookup("expand")(value, self.shape)
        return self._update(lookup("positive")(value) if value is source else value)

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """This tensor with another dtype or on another device: `to(rb.float64)`, `to("cpu")`."""
        result = self
        for argument in (*args, *kwargs.values()):
            if isinstance(argument, str) and argument not in dtypes.BY_NAME:
                check_device(argument)
            elif isinstance(argument, Tensor):
                result = result.astype(argument.dtype)
            elif not isinstance(argument, bool):
                result = result.astype(dtype_of(argument))
        return result

    def to_device(self, device: str, /, *, stream: object = None) -> Tensor:
        """This tensor on another device (array API)."""
        check_device(device)
        return self

    def cpu(self) -> Tensor:
        """This tensor on the CPU."""
        return self

    def astype(self, dtype: Any, *, copy: bool = True) -> Tensor:
        """This tensor converted to `dtype`."""
        wanted = dtype_of(dtype)
        return self if wanted is self.dtype else lookup("cast")(self, wanted)

    def float(self) -> Tensor:
        """As float32."""
        return self.astype(dtypes.float32)

    def double(self) -> Tensor:
        """As float64."""
        return self.astype(dtypes.float64)

    def long(self) -> Tensor:
        """As int64."""
        return self.astype(dtypes.int64)

    def int(self) -> Tensor:
        """As int32."""
        return self.astype(dtypes.int32)

    def bool(self) -> Tensor:
        """As bool: True where not zero."""
        return self.astype(dtypes.bool_)

    def view(self, *shape: Any) -> Tensor:
        """The same elements in another shape (a value, never an alias)."""
        return self.reshape(*shape)

    def clone(self) -> Tensor:
        """A tensor with the same value; gradients flow through.

        >>> rb.asarray([1, 2]).clone()
        tensor([1, 2])
        """
        return lookup("positive")(self)

    def contiguous(self) -> Tensor:
        """Itself: layout is the compiler's business."""
        return self

    def __copy__(self) -> Tensor:
        return self.clone()

    def __deepcopy__(self, memo: dict) -> Tensor:
        copy = lookup("detach")(self)
        if self._node.is_leaf and self.requires_grad:
            make_leaf(copy)
        memo[id(self)] = copy
        return copy


def _retain(reference: weakref.ref[Tensor], g: Tensor) -> None:
    tensor = reference()
    if tensor is not None:
        tensor.set_grad(g if tensor._grad is None else tensor._grad + g)


def make_leaf(t: Handle) -> None:
    """Turn what `t` stands for into a leaf whose gradient goes to `t`."""
    node = t._node
    if (
        len(node.specs) > 1
        or node.is_leaf
        and node.owner is not None
        and node.owner() not in (None, t)
    ):
        t.assign(lookup("detach")(t))
        node = t._node
    node.is_leaf, node.requires_grad, node.owner = True, True, weakref.ref(t)
    if node.tape is not None:
        node.tape.reflag(node)


def check_device(device: Any) -> str:
    """The device's name; DeviceError for any but "cpu"."""
    if device is None or str(device) == "cpu":
        return "cpu"
    raise DeviceError(f"the device {str(device)!r} does not exist; today there is only 'cpu'")


def from_numpy(array: np.ndarray, *, copy: bool = True) -> Tensor:
    """A tensor with the elements of an array; shared only with copy=False or where nobody can
    write.

    >>> rb.from_numpy(np.arange(3))
    tensor([0, 1, 2])
    """
    given: Any = array
    if not isinstance(given, np.ndarray | np.generic):
        kind = type(given).__name__
        raise TypeError(f"from_numpy: takes a NumPy array, not {kind}; rb.asarray takes more kinds")
    dtype = dtype_of(array.dtype)
    writable = _is_writable(array)
    contiguous = np.ascontiguousarray(array, dtype=dtype.numpy).reshape(array.shape)
    fresh = contiguous is not array and not np.shares_memory(contiguous, array)
    buffer = buffers.from_numpy(contiguous, copy=copy and writable and not fresh)
    return Tensor(leaf_node(intern(tuple(array.shape), dtype), buffer))


def _is_writable(array: np.ndarray) -> bool:
    """True where somebody may write to the array's memory: a read-only view proves nothing."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            return True
        owner = owner.base
    if owner is None or isinstance(owner, bytes):
        return False
    return not (isinstance(owner, memoryview) and owner.readonly)


def as_operand(value: Any, like: Tensor | None = None) -> Tensor:
    """Anything array-like as a Tensor (a Python number takes the dtype that `like` implies)."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, bool | int | float | complex):
        dtype = dtypes.weak(value, like.dtype) if like is not None else dtypes.number_dtype(value)
        return from_numpy(np.asarray(value, dtype.numpy))
    return stacked(value) if holds_tensor(value) else from_numpy(array_of(value))


def stacked(data: Sequence[Any]) -> Tensor:
    """Nested lists with tensors among their elements as one tensor, through which gradients flow.

    Python's numbers take the tensors' dtype; lists without a tensor are arrays. Raises ShapeError
    for ragged ones.
    """
    parts = [d if _is_number(d) else as_operand(d) for d in data]
    like = [p.dtype for p in parts if isinstance(p, Tensor)]
    dtype = functools.reduce(dtypes.promote, like)
    for part in parts:
        if _is_number(part):
            dtype = dtypes.promote(dtype, dtypes.weak(part, dtype))
    made = [(from_numpy(array_of(p, dtype)) if _is_number(p) else p).astype(dtype) for p in parts]
    if any(t.shape != made[0].shape for t in made):
        listed = ", ".join(shapes.show(t.shape) for t in made)
        raise ShapeError(f"asarray: nested lists must be rectangular, not of {listed}")
    return lookup("stack")(made)


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float | complex) and not isinstance(value, np.generic)


def shape_argument(shape: Sequence[Any]) -> tuple[int, ...]:
    """`f(2, 3)` and `f((2, 3))` alike. Raises ShapeError for what is not made of integers."""
    given = shape[0] if len(shape) == 1 and not hasattr(shape[0], "__index__") else shape
    if not isinstance(given, Iterable):
        raise ShapeError(f"the shape {given} is not made of integers")
    found = tuple(given)
    if not all(hasattr(size, "__index__") for size in found):
        raise ShapeError(f"the shape {found} has a size that is not an integer")
    return found
