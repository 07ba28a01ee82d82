"""Op: everything about one op in one record, and the `op` decorator that makes it from a function.

The decorated function's signature is the public one. Parameters annotated `Value` are operands,
`Value | None` optional operands, `Sequence[Value]` lists of operands; all others are attributes.
Its body is the decomposition of a composite; a primitive says how it is lowered and has no body,
except those of attention and recurrent nets, which say the same with other ops, for gradients of
gradients.
`form` holds one number per operand parameter where that is not clear from the op alone: -1 for
None, 1 for one operand, 2 + n for a list of n; it is () where every operand parameter is a plain
`Value`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rabbet.base import dtypes
from rabbet.base.dtypes import DType, dtype_of
from rabbet.base.errors import DeviceError, DTypeError, RabbetError
from rabbet.base.shapes import show
from rabbet.base.sizes import SizeExpr
from rabbet.base.spec import Spec
from rabbet.graph import value as graph_value
from rabbet.graph.value import Attrs, Builder, Value, registry

Flags: TypeAlias = list[bool]  # per flat operand: has it the axis of examples (see `batching`)?

KINDS = (
    *("source", "elementwise", "movement", "reduce", "contract", "gather", "scatter", "sort"),
    *("attention", "recurrent", "host", "control", "complex", "composite", "input"),
)


BOUND_KEPT = 1000
LARGEST_BODY = 20_000  # ops of a body while its rule is asked; a user never comes near
COMPUTING = ("elementwise", "reduce", "contract", "sort")  # not moves and their like


@dataclass(frozen=True)
class Parameter:
    """One parameter of an op: role is operand, optional, list or attribute."""

    name: str
    role: str
    default: Any
    annotation: str


@dataclass(eq=False)
class Op:
    """One op. See `op` for the fields; `call` it with Values or Tensors."""

    name: str
    kind: str
    parameters: tuple[Parameter, ...]
    doc: str
    body: Callable[..., Any] | None
    infer: Callable[..., Any] | None
    lower: Any
    reference: Callable[..., Any]
    samples: Callable[[], Iterable[Any]] | None
    promote: str | None
    promote_from: int
    sizes: frozenset[str]
    residuals: int
    outputs: int
    since: int
    method: str | None
    public: bool
    differentiable: bool
    wirtinger: bool
    awaits: int
    holds_halves: bool
    module: str
    signature: inspect.Signature
    grad: Callable[..., Any] | None = None
    batch: Callable[..., Any] | None = None
    is_opaque: bool = False  # its gradient rule is Python that must see tensors, never Values
    in_parts: Callable[..., Any] | None = None
    caller: Any = None  # records calls with tensors that were bound before (recorder.Caller)

    def __post_init__(self) -> None:
        self.operands = tuple(p for p in self.parameters if p.role != "attribute")
        self.plain = all(p.role == "operand" for p in self.operands)
        self.operands_lead = self.parameters[: len(self.operands)] == self.operands and not any(
            p.role == "list" for p in self.operands
        )
        self.bound: dict[tuple[Any, ...], Attrs] = {}  # attributes as given -> as bound
        self.__doc__ = self.doc
        self.__name__ = self.name

    def gradient(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator: the gradient rule `rule(g, y, *inputs, **attrs)` -> one gradient (or None) per
        operand parameter.

        `y` is the output, or a tuple of all outputs and residuals where there are several; `g` is
        one gradient, or a tuple (None where unused) for ops with several visible outputs. Optional
        operands that were left out arrive as None; list operands arrive as lists and want lists
        back. Gradients of elementwise ops may keep the broadcast shape: the transform sums them.
        """
        self.grad = rule
        return rule

    def batching(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator: `rule(size, flags, *inputs, **attrs)` -> all outputs for `size` examples.

        A flag per flat operand says whether it has the examples along a leading axis; outputs all
        have. Needed by primitives whose attributes name axes or sizes (see transform/batch.py).
        """
        self.batch = rule
        return rule

    def parts(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator: what an elementwise, reducing or contracting primitive does with complex
        operands, in terms of real ones: `rule(*operands, **attrs)`, on Values.
        """
        self.in_parts = rule
        return rule

    # ---- calling -------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.caller is not None:
            made = self.caller.call(args, kwargs)
            if made is not NotImplemented:
                return made
        operands, attrs, form = self.bind(args, kwargs)
        for operand in operands:
            if hasattr(operand, "emit"):
                if self.caller is not None:
                    self.caller.learn(args, kwargs, operands, attrs, form)
                return operand.emit(self, operands, attrs, form)
        raise DTypeError(f"{self.name}: needs at least one tensor among its operands")

    def like(self, home: Any, *args: Any, **kwargs: Any) -> Any:
        """Call an op where `home` (a Value or Tensor) lives; for ops without tensor operands."""
        operands, attrs, form = self.bind(args, kwargs)
        return home.emit(self, operands, attrs, form)

    def bind(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Any], Attrs, tuple]:
        """Arguments -> (flat operands, canonical attributes, form). Attributes are not to be
        changed: equal ones are one dict.
        """
        count = len(self.operands)
        if kwargs or len(args) < count or not self._leads(args):
            return self._bind(args, kwargs)
        key = attributes_key(args[count:], {})
        attrs = None if key is None else self.bound.get(key)
        if attrs is None:
            found = self._bind(args, kwargs)
            if key is not None and len(self.bound) < BOUND_KEPT:
                self.bound[key] = found[1]
            return found
        if self.plain:
            return list(args[:count]), attrs, ()
        operands = [a for a in args[:count] if a is not None]
        return operands, attrs, tuple(-1 if a is None else 1 for a in args[:count])

    def _leads(self, args: Sequence[Any]) -> bool:
        """True where `args` begins with one operand, or None for one that may be left out, each."""
        return self.operands_lead and all(
            a is not None or p.role == "optional" for a, p in zip(args, self.operands, strict=False)
        )

    def _bind(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Any], Attrs, tuple]:
        if len(args) > len(self.parameters):
            raise TypeError(
                f"{self.name}() takes {len(self.parameters)} arguments, got {len(args)}"
            )
        given = dict(zip((p.name for p in self.parameters), args, strict=False))
        for name, argument in kwargs.items():
            if name in given:
                raise TypeError(f"{self.name}() got two values for {name!r}")
            given[name] = argument
        operands: list[Any] = []
        form: list[int] = []
        attrs: Attrs = {}
        for p in self.parameters:
            argument = given.pop(p.name, p.default)
            if argument is inspect.Parameter.empty:
                raise TypeError(f"{self.name}() misses the argument {p.name!r}")
            if p.role == "attribute":
                attrs[p.name] = canonical(argument, self.name, p.name)
            elif p.role == "list":
                operands.extend(argument)
                form.append(2 + len(argument))
            elif argument is None and p.role == "optional":
                form.append(-1)
            else:
                operands.append(argument)
                form.append(1)
        if given:
            known = ", ".join(p.name for p in self.parameters)
            raise TypeError(f"{self.name}() has no parameter {next(iter(given))!r}; it has {known}")
        return operands, attrs, () if self.plain else tuple(form)

    def arrange(self, flat: Sequence[Any], form: tuple[int, ...]) -> list[Any]:
        """Flat operands -> one argument per operand parameter (None and lists restored)."""
        if not form:
            return list(flat)
        arguments: list[Any] = []
        rest = iter(flat)
        for code in form:
            if code == -1:
                arguments.append(None)
            elif code == 1:
                arguments.append(next(rest))
            else:
                arguments.append([next(rest) for _ in range(code - 2)])
        return arguments

    def flatten(self, arguments: Sequence[Any], form: tuple[int, ...]) -> list[Any]:
        """One item per operand parameter -> one per flat operand (inverse of `arrange`)."""
        if not form:
            return list(arguments)
        flat: list[Any] = []
        for code, argument in zip(form, arguments, strict=True):
            if code == 1:
                flat.append(argument)
            elif code >= 2:
                flat.extend(argument if argument is not None else [None] * (code - 2))
        return flat

    def arguments(self, flat: Sequence[Any], attrs: Attrs, form: tuple[int, ...]) -> dict[str, Any]:
        """Everything by parameter name, as the function was called."""
        values = dict(attrs)
        names = (p.name for p in self.operands)
        values.update(zip(names, self.arrange(flat, form), strict=True))
        return values

    # ---- types ---------------------------------------------------------------------------------

    def operand_dtypes(self, operands: Sequence[Any]) -> list[DType]:
        """The dtype each flat operand must have (Specs and Python numbers in, after promotion)."""
        own = [o.dtype if isinstance(o, Spec) else None for o in operands]
        start = self.promote_from
        group = range(start, len(operands)) if self.promote else range(0)
        target: DType | None = None
        for i in group:
            dtype = own[i]
            if dtype is not None:
                target = dtype if target is None else self._promote(target, dtype)
        for i in group:
            if own[i] is None:
                target = (
                    dtypes.weak(operands[i], target) if target else dtypes.number_dtype(operands[i])
                )
        if self.promote == "float" and target is not None and target.kind not in "fc":
            target = dtypes.default_float
        return [
            target if target and i in group else own[i] or dtypes.number_dtype(operand)
            for i, operand in enumerate(operands)
        ]

    def _promote(self, a: DType, b: DType) -> DType:
        try:
            return dtypes.promote(a, b)
        except DTypeError as error:
            raise DTypeError(f"{self.name}: {error}") from None

    def infer_specs(
        self, specs: Sequence[Spec], attrs: Attrs, form: tuple[int, ...]
    ) -> tuple[Spec, ...]:
        """Specs of all outputs (residuals last); raises the op's ShapeError or DTypeError."""
        devices = {s.device for s in specs}
        if len(devices) > 1:
            raise DeviceError(f"{self.name}: operands live on {' and '.join(sorted(devices))}")
        is_complex = any(s.dtype.kind == "c" for s in specs)
        if is_complex and self.body is None and self.in_parts is None and self.kind in COMPUTING:
            raise DTypeError(f"{self.name}: {complex_name(specs)} is not supported")
        if self.infer is not None and not (is_complex and self.body):
            found = self.infer(**self.arguments(specs, attrs, form))
        else:
            builder = Builder(LARGEST_BODY)
            inputs = [builder.input(s) for s in specs]
            try:
                out = self.expand(builder, inputs, attrs, form)
            except DTypeError as error:
                if not is_complex:
                    raise
                message = f"{self.name}: {complex_name(specs)} is not supported ({error})"
                raise DTypeError(message) from None
            found = tuple(v.spec for v in out)
        return found if isinstance(found, tuple) else (found,)

    def expand(
        self, builder: Builder, inputs: Sequence[Value], attrs: Attrs, form: tuple[int, ...]
    ) -> tuple[Value, ...]:
        """Run the body of a composite over Values: its decomposition, one level."""
        assert self.body is not None, self.name
        out = self.body(**self.arguments(inputs, attrs, form))
        return tuple(out) if isinstance(out, tuple | list) else (out,)

    @staticmethod
    def source_of_inputs() -> Op:
        """The op of graph inputs."""
        return make_op(_input, kind="input", public=False, infer=None, reference=None)

    def __repr__(self) -> str:
        return f"<op {self.name}>"


def op(kind: str, **fields: Any) -> Callable[[Callable[..., Any]], Op]:
    """Declare an op from a function (its signature, docstring and, for a composite, its body).

    Fields: `reference` (NumPy: arrays and attributes as in the signature -> array or tuple of all
    outputs), `samples` (() -> samples for the generated tests), `infer` (Specs and attributes ->
    Spec or tuple; composites may leave it out), `lower` (by kind, see kernel/lower.py), `promote`
    (None; "common": operands from `promote_from` on get their common dtype; "float": also integers
    become the default float), `sizes` (attribute names that hold sizes: never static), `residuals`
    (how many last outputs are hidden), `outputs` (number of visible outputs), `method` (name as a
    Tensor method, None for none, default: the op's name if its first parameter is an operand),
    `public`, `differentiable`, `since`, `wirtinger` (the gradient rule is one for complex numbers
    as it stands; else it is taken as the rule of a holomorphic function), `awaits` (how many of a
    movement's last operands are not read, only waited for: nothing below is computed before them),
    `holds_halves` (float16 and bfloat16 come as they are; other ops get them as float32).
    """

    def declare(function: Callable[..., Any]) -> Op:
        record = make_op(function, kind=kind, **fields)
        if record.name in registry:
            raise RabbetError(f"the op {record.name} is declared twice")
        registry[record.name] = record
        return record

    return declare


def make_op(function: Callable[..., Any], *, kind: str, reference: Any, **fields: Any) -> Op:
    assert kind in KINDS, kind
    signature = inspect.signature(function)
    parameters = tuple(_parameter(p) for p in signature.parameters.values())
    name = fields.get("name", function.__name__.rstrip("_"))
    has_operand = bool(parameters) and parameters[0].role == "operand"
    return Op(
        name=name,
        kind=kind,
        parameters=parameters,
        doc=inspect.getdoc(function) or "",
        body=function if kind in ("composite", "attention", "recurrent") else None,
        infer=fields.get("infer"),
        lower=fields.get("lower"),
        reference=reference,
        samples=fields.get("samples"),
        promote=fields.get("promote"),
        promote_from=fields.get("promote_from", 0),
        sizes=frozenset(fields.get("sizes", ())),
        residuals=fields.get("residuals", 0),
        outputs=fields.get("outputs", 1),
        since=fields.get("since", 1),
        method=fields.get("method", name if has_operand and fields.get("public", True) else None),
        public=fields.get("public", True),
        differentiable=fields.get("differentiable", True),
        wirtinger=fields.get("wirtinger", False),
        awaits=fields.get("awaits", 0),
        holds_halves=fields.get("holds_halves", False),
        module=function.__module__,
        signature=signature,
    )


def _parameter(p: inspect.Parameter) -> Parameter:
    note = p.annotation if isinstance(p.annotation, str) else getattr(p.annotation, "__name__", "")
    if note.startswith("Sequence[Value"):
        role = "list"
    elif note.startswith("Value"):
        role = "optional" if "None" in note else "operand"
    else:
        role = "attribute"
    return Parameter(p.name, role, p.default, note)


def attributes_key(args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
    """Attributes as given, told apart by type and bits; None where they are not plain numbers."""
    key: list[Any] = []
    for value in (*args, *kwargs.values()):
        kind = type(value)
        if kind is float:
            value = value.hex()
        elif kind is tuple:
            if any(type(v) is not int for v in value):
                return None
        elif value is not None and kind not in (int, bool, str, DType):
            return None
        key += (kind, value)
    return (*key, *kwargs)


def complex_name(specs: Sequence[Spec]) -> str:
    """The name of the first complex dtype."""
    return next(s.dtype.name for s in specs if s.dtype.kind == "c")


def canonical(argument: Any, op_name: str, name: str) -> Any:
    """An attribute as plain data: lists become tuples, NumPy integers ints, dtype-likes DTypes."""
    if argument is None or isinstance(argument, bool | int | float | complex | str | DType):
        return argument
    if name == "dtype":
        return dtype_of(argument)
    if isinstance(argument, list | tuple):
        return tuple(canonical(a, op_name, name) for a in argument)
    if isinstance(argument, SizeExpr):
        return argument
    if hasattr(argument, "emit") and argument.ndim:
        raise TypeError(
            f"{op_name}: {name} must be plain data, not a tensor of shape {show(argument.shape)}; "
            "several tensors go together in one list"
        )
    if hasattr(argument, "__index__"):
        return argument.__index__()
    if hasattr(argument, "item") and hasattr(argument, "ndim"):
        return argument.item()
    raise TypeError(f"{op_name}: {name} must be plain data, not {type(argument).__name__}")


def _input(number: int) -> Value:
    """A value given from outside."""
    raise NotImplementedError  # never called: Builder.input makes these


graph_value.INPUT = Op.source_of_inputs()
