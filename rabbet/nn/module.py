"""Module: a tree of parameters, buffers and smaller modules, with PyTorch's habits.

What is kept where: `_parameters`, `_buffers` and `_modules` are dicts by attribute name; anything
else is a plain attribute. Saved states and how they are read back are in state.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from rabbet.base import tree
from rabbet.base.words import check_keywords
from rabbet.nn import state
from rabbet.nn.as_tree import MODULES
from rabbet.nn.backward_hooks import call_watched
from rabbet.nn.hooks import Hook, RemovableHandle, run_after, run_before
from rabbet.nn.parameter import Parameter, end_segment, replace_value
from rabbet.recorder import current
from rabbet.tensor import Tensor
from rabbet.tensor.tensor import check_device

SYNONYMS = {  # Keras's words and what people try -> PyTorch's
    "use_bias": "bias",
    "filters": "out_channels",
    "units": "out_features",
    "strides": "stride",
    "pad": "padding",
    "dilation_rate": "dilation",
    "rate": "p",
    "size_average": "reduction",
    "epsilon": "eps",
}


class Module:
    """A part of a model; derive from it, make the parts in `__init__`, compute in `forward`.

    Parameters, buffers and modules assigned to attributes are found by `parameters()`,
    `state_dict()` and their kin, under PyTorch's names.

    Example:
        >>> class Twice(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.fc = nn.Linear(3, 3)
        ...     def forward(self, x):
        ...         return self.fc(self.fc(x))
        >>> [name for name, _ in Twice().named_parameters()]
        ['fc.weight', 'fc.bias']

    To `rb.grad`, `rb.vmap`, `rb.jit` and their kin a module is a container, as a dict is: its
    parameters and buffers are the leaves. `rb.grad(loss)(model, x)` is a module of the same form
    with gradients for parameters, and zeros for buffers and for parameters that are frozen
    (`requires_grad=False`); `rb.tree.map_leaves` makes a module of modules. What such a module
    holds are tensors as they were given, not Parameters.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if kwargs:
            check_keywords(cls.__name__, cls.__init__, kwargs, SYNONYMS)
        return super().__new__(cls)

    def __init__(self) -> None:
        for name in ("_parameters", "_buffers", "_modules"):
            object.__setattr__(self, name, {})
        self._transient: set[str] = set()  # buffers that are not saved
        self._hooks_before: dict[int, Hook] = {}
        self._hooks_after: dict[int, Hook] = {}
        self._hooks_backward: dict[int, Hook] = {}
        self._training = True

    # ---- calling -------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation; every module writes its own."""
        raise NotImplementedError(f"{type(self).__name__} has no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._hooks_before and not self._hooks_after and not self._hooks_backward:
            return self.forward(*args, **kwargs)
        args, kwargs = run_before(self, self._hooks_before, args, kwargs)
        watching = [h.function for h in self._hooks_backward.values()]
        if watching:
            result = call_watched(self, watching, args, kwargs, self.forward)
        else:
            result = self.forward(*args, **kwargs)
        return run_after(self, self._hooks_after, args, kwargs, result)

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args)` before `forward`; its result, if any, are the arguments."""
        return RemovableHandle(self._hooks_before, Hook(hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args, result)` after `forward`; its result, if any, replaces it."""
        return RemovableHandle(self._hooks_after, Hook(hook, with_kwargs), prepend)

    def register_full_backward_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` in backward; its result, if any, replaces
        the gradients of the arguments that have one.
        """
        return RemovableHandle(self._hooks_backward, Hook(hook, False), prepend)

    # ---- modes ---------------------------------------------------------------------------------

    @property
    def training(self) -> bool:
        """True while the module trains (dropout drops, batch norm uses the batch's statistics)."""
        value: bool = self._training
        capture = current().capture
        if capture is not None:
            capture.guard(self, "training", value)
        return value

    @training.setter
    def training(self, value: bool) -> None:
        object.__setattr__(self, "_training", bool(value))

    def train(self, mode: bool = True) -> Self:
        """Set `training` here and in all parts; returns itself."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """The same as `train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Make all parameters collect gradients, or none; returns itself."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or set them to zero."""
        clear_gradients(self.parameters(), set_to_none)

    def apply(self, function: Callable[[Module], Any]) -> Self:
        """Call `function` with every part, inner ones first, and with this module."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Cast floating parameters and buffers: `to(rb.float64)`; `to("cpu")` changes nothing.

        Raises DTypeError for a dtype that is not floating, DeviceError for an unknown device.
        """
        dtype = state.parse_destination(args, kwargs)
        if dtype is not None:
            self._cast(dtype)
        return self

    def type(self, dtype: Any) -> Self:
        """Cast floating parameters and buffers to `dtype`."""
        return self.to(dtype)

    def float(self) -> Self:
        """Cast floating parameters and buffers to float32."""
        return self.to("float32")

    def double(self) -> Self:
        """Cast floating parameters and buffers to float64."""
        return self.to("float64")

    def cpu(self) -> Self:
        """Itself: the CPU is the only device today."""
        check_device("cpu")
        return self

    def _cast(self, dtype: Any) -> None:
        for t in {id(t): t for t in (*self.parameters(), *self.buffers())}.values():
            if t.dtype.is_float and t.dtype is not dtype:
                grad = t.grad
                t.grad = None
                replace_value(t, t.astype(dtype))
                t.grad = None if grad is None else grad.astype(dtype)
        end_segment()

    # ---- attributes ----------------------------------------------------------------------------

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter by name (None: none yet); AttributeError where the name is taken."""
        self._check_name(name, self._parameters)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"register_parameter: {name} must be a Parameter, not {_kind(param)}")
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that belongs to the model and is not trained; saved if `persistent`."""
        self._check_name(name, self._buffers)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"register_buffer: {name} must be a Tensor, not {_kind(tensor)}")
        self._buffers[name] = tensor
        (self._transient.discard if persistent else self._transient.add)(name)
        end_segment()

    def register_module(self, name: str, module: Module | None) -> None:
        """Add a part by name (None keeps the name free)."""
        self._check_name(name, self._modules)
        if module is not None and not isinstance(module, Module):
            raise TypeError(
                f"add_module: {name} must be a Module, not {_kind(module)}{_made(module)}"
            )
        self._modules[name] = module

    add_module = register_module

    def _check_name(self, name: str, home: dict[str, Any]) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise KeyError(f"a name of a module's part must be text without dots, not {name!r}")
        if name not in home and hasattr(self, name):
            raise AttributeError(f"{type(self).__name__} already has an attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        parts = self.__dict__.get("_parameters")
        if parts is None:
            if isinstance(value, (Parameter, Module)):
                raise AttributeError(f"call super().__init__() before assigning {name!r}")
            object.__setattr__(self, name, value)
        elif isinstance(value, Parameter):
            self._move_in(name, self._parameters, value)
        elif isinstance(value, Module):
            self._move_in(name, self._modules, value)
        elif name in self._buffers:
            self._set_buffer(name, value)
        elif name in parts or name in self._modules:
            home, kind = (parts, "Parameter") if name in parts else (self._modules, "Module")
            if value is not None:
                hint = f"; nn.Parameter(...) makes one, and under rb.no_grad() {name}.copy_(...)"
                hint = hint + " changes its values" if home is parts else _made(value)
                raise TypeError(f"{name!r} must be a {kind} or None, not {_kind(value)}{hint}")
            home[name] = None
        else:
            object.__setattr__(self, name, value)

    def _move_in(self, name: str, home: dict[str, Any], value: Any) -> None:
        self.__dict__.pop(name, None)
        for other in (self._parameters, self._buffers, self._modules):
            if other is not home:
                other.pop(name, None)
        home[name] = value

    def _set_buffer(self, name: str, value: Any) -> None:
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(f"buffer {name!r} must be a Tensor or None, not {_kind(value)}")
        old = self._buffers[name]
        if current().capture is not None and old is not None and value is not None:
            # A replay gives known tensors new values; it could not give the name another tensor.
            old.assign(value)
        else:
            self._buffers[name] = value

    def __getattr__(self, name: str) -> Any:
        for home in ("_parameters", "_buffers", "_modules"):
            found = self.__dict__.get(home)
            if found is not None and name in found:
                return found[name]
        hint = "" if "_parameters" in self.__dict__ else " (super().__init__() was not called)"
        hint = "; there is only the device 'cpu'" if name == "cuda" else hint
        message = f"{type(self).__name__!r} has no attribute {name!r}{hint}"
        raise AttributeError(message, name=name, obj=self)

    def __delattr__(self, name: str) -> None:
        for home in (self._parameters, self._buffers, self._modules):
            if name in home:
                del home[name]
                self._transient.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._parameters, *self._buffers, *self._modules})

    # ---- the tree ------------------------------------------------------------------------------

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Name and module of itself and all parts, outer ones first."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                inner = f"{prefix}.{name}" if prefix else name
                yield from module.named_modules(memo, inner, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """Itself and all parts, each once."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Name and module of the direct parts, each once."""
        seen: set[int] = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct parts, each once."""
        return (module for _, module in self.named_children())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Name and parameter, here and (if `recurse`) in all parts."""
        return self._named("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Name and buffer, here and (if `recurse`) in all parts."""
        return self._named("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _named(
        self, home: str, prefix: str, recurse: bool, once: bool
    ) -> Iterator[tuple[str, Any]]:
        modules = self.named_modules(prefix=prefix, remove_duplicate=once)
        seen: set[int] = set()
        for path, module in modules if recurse else [(prefix, self)]:
            for name, t in getattr(module, home).items():
                if t is None or id(t) in seen:
                    continue
                if once:
                    seen.add(id(t))
                yield (f"{path}.{name}" if path else name), t

    def get_submodule(self, target: str) -> Module:
        """The part with this dotted name; AttributeError if there is none."""
        found: Any = self
        for name in target.split(".") if target else ():
            found = found._modules.get(name)
            if found is None:
                raise AttributeError(f"{type(self).__name__} has no module {target!r}")
        return found

    def get_parameter(self, target: str) -> Parameter:
        """The parameter with this dotted name; AttributeError if there is none."""
        return self._get(target, "_parameters")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer with this dotted name; AttributeError if there is none."""
        return self._get(target, "_buffers")

    def _get(self, target: str, home: str) -> Any:
        path, _, name = target.rpartition(".")
        found = getattr(self.get_submodule(path), home).get(name)
        if found is None:
            raise AttributeError(f"{type(self).__name__} has no {home[1:-1]} {target!r}")
        return found

    # ---- saved states --------------------------------------------------------------------------

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:
        """All parameters and persistent buffers by dotted name, as they are now.

        Values are copies (later training does not change them) unless `keep_vars`.
        """
        return state.collect(self, prefix, keep_vars)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True
    ) -> state.LoadResult:
        """Copy values (tensors or arrays) into the parameters and buffers of the same names.

        Returns `missing_keys` and `unexpected_keys`. Raises RabbetError, and changes nothing, for
        another shape, and with `strict` for names that are missing or not known.
        """
        return state.load(self, state_dict, strict)

    # ---- text ----------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What `repr` shows between the brackets; modules write their own."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        parts = [
            f"({name}): " + repr(module).replace("\n", "\n  ")
            for name, module in self._modules.items()
        ]
        if not parts and len(lines) <= 1:
            return f"{type(self).__name__}({extra})"
        body = "".join(f"\n  {line}" for line in (*lines, *parts))
        return f"{type(self).__name__}({body}\n)"


tree.register(Module, MODULES)


def clear_gradients(parameters: Any, set_to_none: bool) -> None:
    """Forget gradients, or set them to zero."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad = None if set_to_none else parameter.grad.detach() * 0


def _made(value: Any) -> str:
    """What to write where a class was given for one of its modules."""
    if isinstance(value, type) and issubclass(value, Module):
        return f"; {value.__name__} is a class, {value.__name__}() makes one"
    return ""


def _kind(value: Any) -> str:
    return type(value).__name__


__all__ = ["Module", "clear_gradients"]
