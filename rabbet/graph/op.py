"""Op: everything about one op in one record, and the `op` decorator that makes it from a function.

The decorated function's signature is the public one; graph/binding.py says how it is read. Its body
is the decomposition of a composite; a primitive says how it is lowered and has no body, except
those of attention and recurrent nets, which say the same with other ops, for gradients of
gradients.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rabbet.base import dtypes
from rabbet.base.dtypes import DType
from rabbet.base.errors import DeviceError, DTypeError, RabbetError
from rabbet.base.spec import Spec
from rabbet.graph import value as graph_value
from rabbet.graph.binding import Binding, parameter
from rabbet.graph.value import Attrs, Builder, Value, registry

Flags: TypeAlias = list[bool]  # per flat operand: has it the axis of examples (see `batching`)?

KINDS = (
    *("source", "elementwise", "movement", "reduce", "contract", "gather", "scatter", "sort"),
    *("attention", "recurrent", "host", "control", "complex", "composite", "input"),
)
LARGEST_BODY = 20_000  # ops of a body while its rule is asked; a user never comes near
AUTOCAST = (dtypes.float16, dtypes.bfloat16, dtypes.float32)  # the dtypes it changes
GROUP = 16  # operands of one call, where a longer list is taken group by group
SMALL_BYTES = 1 << 16  # of an operand: moved once more at little cost
COMPUTING = ("elementwise", "reduce", "contract", "sort")  # not moves and their like


@dataclass(eq=False, kw_only=True)
class Op(Binding):
    """One op; `call` it with Values or Tensors. Its fields are those of the decorator `op`."""

    kind: str
    doc: str
    module: str
    signature: inspect.Signature
    # What it means, by NumPy: arrays and attributes as in the signature -> array, or a tuple of all
    # outputs; and () -> samples for the generated tests.
    reference: Callable[..., Any]
    samples: Callable[[], Iterable[Any]] | None = None
    # What it is made of: Specs and attributes -> Spec or tuple (composites may leave it out), a
    # composite's decomposition, and what lowering needs, by kind (see kernel/lower.py).
    infer: Callable[..., Any] | None = None
    body: Callable[..., Any] | None = None
    lower: Any = None
    # Dtypes: None; "common": operands from `promote_from` on get their common dtype; "float": also
    # integers become the default float. Halves arrive as float32 unless it `holds_halves`.
    promote: str | None = None
    promote_from: int = 0
    holds_halves: bool = False
    # Under rb.autocast: "narrow" ops compute in its dtype, "wide" ones turn halves into float32.
    autocast: str | None = None
    # Names of attributes that hold sizes, which are never static; and of those among them that say
    # where, not how many: 0 and 1 are nothing special there.
    sizes: frozenset[str] = frozenset()
    positions: frozenset[str] = frozenset()
    outputs: int = 1  # the visible ones
    residuals: int = 0  # how many last outputs are hidden
    awaits: int = 0  # how many last operands (of a movement) are not read, only waited for
    # The face: its name as a Tensor method, the ONNX operator that computes it (perhaps for some
    # of its arguments only), whether users see it, the first version that has it.
    method: str | None = None
    onnx: str | None = None
    public: bool = True
    since: int = 1
    # Gradients. `wirtinger`: the rule is one for complex numbers as it stands; else it is taken as
    # that of a holomorphic function. `is_opaque`: it is Python that must see tensors, never Values.
    differentiable: bool = True
    wirtinger: bool = False
    is_opaque: bool = False
    # An op for one call has a rule that belongs to the call, so nothing else may keep it alive; but
    # for its rule it is like this one.
    model: Any = None
    # Rules that the decorators below add, and what records calls with tensors that were bound
    # before (recorder.Caller).
    grad: Callable[..., Any] | None = None
    batch: Callable[..., Any] | None = None
    in_parts: Callable[..., Any] | None = None
    of_groups: Callable[..., Any] | None = None
    caller: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
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
        have. Needed by primitives whose attributes name axes or sizes (see transform/batch.py); one
        that has a body may leave operands it is not for to that: NotImplemented.
        """
        self.batch = rule
        return rule

    def parts(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator: what an elementwise, reducing or contracting primitive does with complex
        operands, in terms of real ones: `rule(*operands, **attrs)`, on Values.
        """
        self.in_parts = rule
        return rule

    def groups(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator: `rule(operands, **attrs)` records a call with a long list of operands as calls
        with at most `GROUP`.

        Each number of operands is an op of its own, with types, a gradient and a program to be
        found; so lists that change their length in every step would never meet a known one.
        """
        self.of_groups = rule
        return rule

    # ---- calling -------------------------------------------------------------------------------

    def by_groups(self, operands: Sequence[Any], attrs: Attrs) -> Any:
        """The call recorded group by group; None where it is to be one: few operands, large ones,
        or others than tensors of one Spec.
        """
        if self.of_groups is None or len(operands) <= GROUP:
            return None
        spec = getattr(operands[0], "spec", None)
        if spec is None or any(getattr(o, "spec", None) is not spec for o in operands):
            return None
        return self.of_groups(operands, **attrs) if spec.nbytes <= SMALL_BYTES else None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.caller is not None:
            made = self.caller.call(args, kwargs)
            if made is not NotImplemented:
                return made
        operands, attrs, form = self.bind(args, kwargs)
        grouped = self.by_groups(operands, attrs)
        if grouped is not None:
            return grouped
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

    # ---- types ---------------------------------------------------------------------------------

    def operand_dtypes(self, operands: Sequence[Any], narrow: DType | None = None) -> list[DType]:
        """The dtype each flat operand must have (Specs and Python numbers in, after promotion);
        `narrow` is the dtype of the autocast that holds, or None.
        """
        promoted = self._promoted_dtypes(operands)
        if narrow is None or self.autocast is None:
            return promoted
        wanted = narrow if self.autocast == "narrow" else dtypes.float32
        return [wanted if d in AUTOCAST else d for d in promoted]

    def _promoted_dtypes(self, operands: Sequence[Any]) -> list[DType]:
        own = [o.dtype if isinstance(o, Spec) else None for o in operands]
        if own and own.count(own[0]) == len(own) and own[0] is not None:  # nearly always
            if self.promote != "float" or own[0].kind in "fc":
                return [own[0]] * len(own)
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
        is_complex = "c" in [s.dtype.kind for s in specs]
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

    def __repr__(self) -> str:
        return f"<op {self.name}>"


def op(kind: str, **fields: Any) -> Callable[[Callable[..., Any]], Op]:
    """Declare an op from a function: its signature, docstring and, for a composite, its body.

    `fields` are those of the record (see Op). `method` is the op's name if it is public and its
    first parameter an operand, unless it is given; None for no method.
    """

    def declare(function: Callable[..., Any]) -> Op:
        record = make_op(function, kind=kind, **fields)
        if record.name in registry:
            raise RabbetError(f"the op {record.name} is declared twice")
        registry[record.name] = record
        return record

    return declare


def make_op(function: Callable[..., Any], *, kind: str, **fields: Any) -> Op:
    """The record of an op that no registry knows (see `op`)."""
    assert kind in KINDS, kind
    signature = inspect.signature(function)
    parameters = tuple(parameter(p) for p in signature.parameters.values())
    name = fields.pop("name", function.__name__.rstrip("_"))
    has_method = parameters[:1] and parameters[0].role == "operand" and fields.get("public", True)
    return Op(
        name=name,
        kind=kind,
        parameters=parameters,
        doc=inspect.getdoc(function) or "",
        body=function if kind in ("composite", "attention", "recurrent") else None,
        method=fields.pop("method", name if has_method else None),
        sizes=frozenset(fields.pop("sizes", ())),
        positions=frozenset(fields.pop("positions", ())),
        module=function.__module__,
        signature=signature,
        **fields,
    )


def op_for_one_call(model: Op, rule: Callable[..., Any]) -> Op:
    """An op like `model` with a gradient rule of its own."""
    made = copy.copy(model)
    made.grad, made.model = rule, model
    return made


def complex_name(specs: Sequence[Spec]) -> str:
    """The name of the first complex dtype."""
    return next(s.dtype.name for s in specs if s.dtype.kind == "c")


def _input(number: int) -> Value:
    """A value given from outside."""
    raise NotImplementedError  # never called: Builder.input makes these


graph_value.INPUT = make_op(_input, kind="input", public=False, reference=None)
