"""What the recorder asks of an op the first time it meets it with these operand types; then
memoised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rabbet.base.dtypes import DType
from rabbet.base.spec import Spec, intern
from rabbet.graph import encode
from rabbet.graph.op import Op
from rabbet.graph.value import Attrs
from rabbet.recorder import Handle, Prepared


def spec_of(handle: Handle) -> Spec:
    """The Spec of what a handle stands for."""
    return handle._node.specs[handle._index]


def prepare(
    op: Op,
    operands: Sequence[Any],
    attrs: Attrs,
    form: tuple[int, ...],
    narrow: DType | None = None,
) -> Prepared:
    """Promote, check and infer one op on operands (Handles and Python numbers), under autocast to
    `narrow` where that is given.
    """
    kinds = [spec_of(o) if isinstance(o, Handle) else o for o in operands]
    wanted = op.operand_dtypes(kinds, narrow)
    specs = [
        k.with_dtype(d) if isinstance(k, Spec) else intern((), d)
        for k, d in zip(kinds, wanted, strict=True)
    ]
    outputs = tuple(intern(s.shape, s.dtype, s.device) for s in op.infer_specs(specs, attrs, form))
    return Prepared(
        dtypes=tuple(
            d if isinstance(k, Spec) else intern((), d) for k, d in zip(kinds, wanted, strict=True)
        ),
        specs=outputs,
        code=encode.structure_code(op, attrs, form),
        sizes=encode.attribute_sizes(op, attrs),
        visible=len(outputs) - op.residuals,
        differentiable=tuple(op.differentiable and s.dtype.kind in "fc" for s in outputs),
        casts=tuple(
            isinstance(k, Spec) and k.dtype is not d for k, d in zip(kinds, wanted, strict=True)
        ),
    )
