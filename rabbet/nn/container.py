"""Modules made of modules: Sequential, ModuleList, ModuleDict; lists and dicts of parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from rabbet.base.errors import IndexRangeError
from rabbet.nn.module import Module
from rabbet.nn.parameter import Parameter
from rabbet.tensor import Tensor


class _Numbered(Module):
    """Parts named "0", "1", ..., reached by number."""

    def _position(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexRangeError(
                f"{type(self).__name__}: index {index} is out of range; there are {len(self)} parts"
            )
        return index % len(self)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(list(self._modules.values()))

    def __getitem__(self, index: int | slice) -> Any:
        parts = list(self._modules.values())
        if isinstance(index, slice):
            return self._like(parts[index])
        return parts[self._position(index)]

    def _like(self, parts: list[Module]) -> Any:
        return type(self)(parts)  # type: ignore[call-arg]

    def __setitem__(self, index: int, module: Module) -> None:
        name = list(self._modules)[self._position(index)]
        self.register_module(name, module)

    def __delitem__(self, index: int | slice) -> None:
        parts = list(self._modules.values())
        del parts[index]
        self._renumber(parts)

    def append(self, module: Module) -> Self:
        """Add a part at the end; returns itself."""
        self.register_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add parts at the end; returns itself."""
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Self:
        """Put a part before number `index`; returns itself."""
        parts = list(self._modules.values())
        parts.insert(index, module)
        self._renumber(parts)
        return self

    def _renumber(self, parts: list[Module]) -> None:
        self._modules.clear()
        for part in parts:
            self.append(part)


class Sequential(_Numbered):
    """Modules called one after the other; give modules, or a dict of names to modules.

    Example:
        >>> nn.Sequential(nn.Linear(2, 3), nn.ReLU())(rb.ones((4, 2))).shape
        (4, 3)
    """

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.register_module(name, module)
        elif modules and isinstance(modules[0], list | tuple):
            raise TypeError("Sequential: takes modules, not a list; write Sequential(*modules)")
        else:
            self.extend(modules)

    def forward(self, input: Any) -> Any:
        for module in self._modules.values():
            input = module(input)
        return input

    def _like(self, parts: list[Module]) -> Sequential:
        names = {id(module): name for name, module in self._modules.items()}
        return Sequential({names[id(part)]: part for part in parts})


class ModuleList(_Numbered):
    """A list whose modules are parts of the model."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())


class ModuleDict(Module):
    """A dict whose modules are parts of the model."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def update(self, modules: Mapping[str, Module]) -> None:
        """Add or replace parts."""
        for name, module in modules.items():
            self[name] = module

    def __getitem__(self, name: str) -> Module:
        return self._modules[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.register_module(name, module)

    def __delitem__(self, name: str) -> None:
        del self._modules[name]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def keys(self) -> Iterable[str]:
        """Names of the parts."""
        return self._modules.keys()

    def values(self) -> Iterable[Module]:
        """The parts."""
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """Names and parts."""
        return self._modules.items()


class ParameterList(Module):
    """A list whose tensors are parameters of the model."""

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        for value in values or ():
            self.append(value)

    def append(self, value: Any) -> Self:
        """Add a parameter (a plain tensor becomes one); returns itself."""
        parameter = value if isinstance(value, Parameter) else Parameter(value)
        self.register_parameter(str(len(self)), parameter)
        return self

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(list(self._parameters.values()))

    def __getitem__(self, index: int) -> Tensor:
        return list(self._parameters.values())[index]


class ParameterDict(Module):
    """A dict whose tensors are parameters of the model.

    Example:
        >>> held = nn.ParameterDict({"scale": rb.ones(3)})
        >>> list(held), held["scale"].requires_grad
        (['scale'], True)
    """

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.update(values or {})

    def update(self, values: Mapping[str, Any]) -> None:
        """Add or replace parameters (plain tensors become some)."""
        for name, value in values.items():
            self[name] = value

    def __getitem__(self, name: str) -> Tensor:
        found = self._parameters[name]
        assert isinstance(found, Tensor)
        return found

    def __setitem__(self, name: str, value: Any) -> None:
        self.register_parameter(name, value if isinstance(value, Parameter) else Parameter(value))

    def __delitem__(self, name: str) -> None:
        del self._parameters[name]

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __contains__(self, name: object) -> bool:
        return name in self._parameters

    def keys(self) -> Iterable[str]:
        """Names of the parameters."""
        return self._parameters.keys()

    def values(self) -> Iterable[Tensor]:
        """The parameters."""
        return list(self._parameters.values())

    def items(self) -> Iterable[tuple[str, Tensor]]:
        """Names and parameters."""
        return list(self._parameters.items())
