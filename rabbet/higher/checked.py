"""gradcheck: whether gradients are the slopes that differences show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rabbet.base.errors import GradientError
from rabbet.engine import backward
from rabbet.tensor.modes import enable_grad, no_grad
from rabbet.tensor.tensor import Tensor, from_numpy

Function = Callable[..., Any]


def gradcheck(
    func: Function,
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Compare the gradients of `func(*inputs)` with differences of its values, element by element.

    Counted are inputs that require gradients, and outputs (a tensor or several) of floating or
    complex dtypes; of complex ones both parts. Slopes may differ by atol + rtol |slope|, which is
    for float64: what float32 rounds is more. GradientError for the first that differs more (False
    with `raise_exception=False`), and where no input requires gradients.

    >>> x = rb.tensor([0.5, 2.0], dtype=rb.float64, requires_grad=True)
    >>> rb.autograd.gradcheck(lambda t: t.sin().cumsum(0), x)
    True
    """
    given, chosen = _given("gradcheck", inputs)
    fresh = list(given)
    for i in chosen:
        fresh[i] = given[i].detach().requires_grad_()
    with enable_grad():
        outputs = _outputs(func(*fresh))
    leaves = [fresh[i] for i in chosen]
    by_output = [_analytic(o, leaves) for o in outputs]
    for number, i in enumerate(chosen):
        numeric = _numeric(func, given, i, eps)
        for out, (found, wanted) in enumerate(zip(by_output, numeric, strict=True)):
            miss = np.abs(found[number] - wanted) - (atol + rtol * np.abs(wanted))
            wrong = ~(miss <= 0)  # NaN too
            if not wrong.any():
                continue
            if not raise_exception:
                return False
            place = np.unravel_index(int(np.argmax(np.where(wrong, miss, -np.inf))), miss.shape)
            raise GradientError(
                f"gradcheck: element {place[1]} of output {out} by element {place[0]} of input {i} "
                f"has the gradient {found[number][place]:.6g}; by differences it is "
                f"{wanted[place]:.6g}" + _parts_note(given[i], outputs[out])
            )
    return True


def gradgradcheck(
    func: Function,
    inputs: Tensor | Sequence[Any],
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """`gradcheck` of the gradients of `func`, by its inputs and by the gradients that arrive.

    Those are `grad_outputs`, or different numbers of size about 1.

    >>> x = rb.tensor([0.5, 2.0], dtype=rb.float64, requires_grad=True)
    >>> rb.autograd.gradgradcheck(lambda t: t.sin(), x)
    True
    """
    given, chosen = _given("gradgradcheck", inputs)
    with enable_grad():
        ends = _outputs(func(*given))
    if grad_outputs is None:
        sent = [_numbers_like(o, n).requires_grad_() for n, o in enumerate(ends)]
    else:
        asked = [grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs)
        sent = [g.detach().requires_grad_() for g in asked]

    def slopes(*arguments: Any) -> tuple[Tensor, ...]:
        own, gs = arguments[: len(given)], arguments[len(given) :]
        # Differences are taken without gradients; these are of values, all the same.
        wrt = [own[i] if own[i].requires_grad else own[i].requires_grad_() for i in chosen]
        with enable_grad():
            outputs = _outputs(func(*own))
            pairs = [(o, g) for o, g in zip(outputs, gs, strict=True) if o.requires_grad]
            found = backward.gradients(
                [o for o, _ in pairs], [g for _, g in pairs], wrt, create_graph=True
            )
        return tuple(
            x * 0 if g is None else Tensor(g._node, g._index)
            for g, x in zip(found, wrt, strict=True)
        )

    return gradcheck(
        slopes, (*given, *sent), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception
    )


def _given(name: str, inputs: Tensor | Sequence[Any]) -> tuple[tuple[Any, ...], list[int]]:
    """The arguments, and the numbers of those that require gradients."""
    given = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    chosen = [i for i, x in enumerate(given) if isinstance(x, Tensor) and x.requires_grad]
    if not chosen:
        raise GradientError(f"{name}: no input requires gradients")
    return given, chosen


def _outputs(result: Any) -> list[Tensor]:
    listed = [result] if isinstance(result, Tensor) else list(result)
    return [o for o in listed if isinstance(o, Tensor) and o.dtype.kind in "fc"]


def _directions(x: Any) -> tuple[complex, ...]:
    """The ways one element can go."""
    return (1.0, 1j) if x.dtype.kind == "c" else (1.0,)


def _numbers_like(x: Tensor, seed: int) -> Tensor:
    numbers = np.random.default_rng(seed).uniform(0.5, 1.5, (2, *x.shape))
    both = numbers[0] + 1j * numbers[1] if x.dtype.kind == "c" else numbers[0]
    return from_numpy(np.asarray(both).astype(x.dtype.numpy))


def _parts(values: np.ndarray) -> np.ndarray:
    """All real numbers in an array, as a vector."""
    flat = values.reshape(-1)
    if flat.dtype.kind != "c":
        return np.asarray(flat, np.float64)
    return np.stack([flat.real, flat.imag], 1).reshape(-1).astype(np.float64)


def _parts_note(x: Any, y: Tensor) -> str:
    is_complex = x.dtype.kind == "c" or y.dtype.kind == "c"
    return " (of complex numbers, real and imaginary parts are counted)" if is_complex else ""


def _analytic(output: Tensor, leaves: list[Tensor]) -> list[np.ndarray]:
    """For each leaf: (elements of the leaf, elements of the output), real parts and imaginary."""
    columns: list[list[np.ndarray]] = [[] for _ in leaves]
    for element in range(output.numel()):
        for way in _directions(output):
            seed = np.zeros(output.shape, output.dtype.numpy)
            seed.reshape(-1)[element] = way
            found: list[Any] = [None] * len(leaves)
            if output.requires_grad:
                found = backward.gradients(
                    [output], [from_numpy(seed)], leaves, create_graph=False, retain_graph=True
                )
            for column, g, x in zip(columns, found, leaves, strict=True):
                none = np.zeros(x.shape, x.dtype.numpy)
                column.append(_parts(none if g is None else Tensor(g._node, g._index).numpy()))
    sizes = [x.numel() * len(_directions(x)) for x in leaves]
    return [
        np.stack(column, 1) if column else np.zeros((size, 0))
        for column, size in zip(columns, sizes, strict=True)
    ]


def _numeric(func: Function, given: tuple[Any, ...], i: int, eps: float) -> list[np.ndarray]:
    """The same by differences, for each output."""
    values = np.array(given[i].numpy())

    def outputs(moved: np.ndarray) -> list[np.ndarray]:
        at = [x.detach() if isinstance(x, Tensor) else x for x in given]
        at[i] = from_numpy(moved.copy())
        with no_grad():
            return [_parts(o.numpy()) for o in _outputs(func(*at))]

    rows = []
    for element in range(values.size):
        for way in _directions(given[i]):
            ends = []
            for step in (eps, -eps):
                moved = values.copy()
                moved.reshape(-1)[element] += step * way
                ends.append(outputs(moved))
            rows.append([(a - b) / (2 * eps) for a, b in zip(*ends, strict=True)])
    if not rows:
        return [np.zeros((0, o.size)) for o in outputs(values)]
    return [np.stack(row, 0) for row in zip(*rows, strict=True)]
