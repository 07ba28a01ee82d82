"""Functions whose source has `if` and `while` on tensors, as functions that record both ways.

The source is read, jumps become flags (jumps.py), choices become calls (branches.py), and what
comes out is compiled under the original's file name and lines, with its globals and closure. What
it calls is rewritten when it is called; the library itself, NumPy and Python's own never are.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import types
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rabbet.export.branches import Branches
from rabbet.export.choices import Choices
from rabbet.export.jumps import PREFIX, VALUE, Lowering, NotRewritten
from rabbet.export.liveness import Liveness, stored
from rabbet.higher.jit import Jitted
from rabbet.nn.module import Module

OURS = ("rabbet", "numpy", "scipy", "builtins")
REFUSED = (ast.Yield, ast.YieldFrom, ast.Await, ast.AsyncFor, ast.AsyncWith)


_made: weakref.WeakKeyDictionary[types.CodeType, types.CodeType] = weakref.WeakKeyDictionary()
_reasons: weakref.WeakKeyDictionary[types.CodeType, str] = weakref.WeakKeyDictionary()


def reason(code: types.CodeType) -> str:
    """Why the function of this code was not rewritten; "" where it was."""
    return _reasons.get(code, "")


def rewritten(function: Any) -> Any:
    """A function or method in its rewritten form, or itself where that is nothing of ours."""
    if isinstance(function, types.MethodType):
        made = rewritten(function.__func__)
        same = made is function.__func__
        return function if same else types.MethodType(made, function.__self__)
    if isinstance(function, functools.partial):
        return functools.partial(rewritten(function.func), *function.args, **function.keywords)
    if isinstance(function, Jitted):
        return rewritten(function.function)
    if isinstance(function, Module):
        _patches.add(function)
        return function
    if not isinstance(function, types.FunctionType):
        own: Any = getattr(type(function), "__call__", None)  # noqa: B004  (the method is wanted)
        made = rewritten(own) if isinstance(own, types.FunctionType) else own
        return function if made is own else types.MethodType(made, function)
    if not _is_users(function):
        return function
    code = _made.get(function.__code__)
    if code is None:
        if function.__code__ in _reasons:
            return function
        try:
            code = _rewrite(function)
        except NotRewritten as why:
            _reasons[function.__code__] = str(why)
            return function
        _made[function.__code__] = code
    return _like(function, code)


def _callee(function: Any) -> Any:
    """What rewritten code calls instead of `function`."""
    if isinstance(function, types.BuiltinFunctionType | type):
        return function
    if isinstance(function, types.FunctionType) and _owner(function) == "rabbet":
        return _with_rewritten_arguments(function)
    return rewritten(function)


def _with_rewritten_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of ours that may get functions of the user's: rb.vmap(f), rb.checkpoint(f, x)."""

    def call(*args: Any, **kwargs: Any) -> Any:
        kinds = types.FunctionType | types.MethodType
        given = [rewritten(a) if isinstance(a, kinds) else a for a in args]
        return function(*given, **kwargs)

    return call


Choices.callee = staticmethod(_callee)


def _owner(function: types.FunctionType) -> str:
    """The outermost package of the module a function was written in."""
    return str(function.__globals__.get("__name__", "")).split(".")[0]


def _is_users(function: types.FunctionType) -> bool:
    top = _owner(function)
    return top == "__main__" or top not in OURS and top not in sys.stdlib_module_names


# ---- modules -------------------------------------------------------------------------------------


class _Patches:
    """The modules whose `forward` is rewritten while a call is recorded."""

    def __init__(self) -> None:
        self.done: list[Module] | None = None

    def add(self, module: Module) -> None:
        """Rewrite the forward of a module and of its parts."""
        if self.done is None:
            return
        for _, part in module.named_modules():
            own = type(part).forward
            made = rewritten(own)
            if made is not own and "forward" not in vars(part):
                object.__setattr__(part, "forward", types.MethodType(made, part))
                self.done.append(part)


_patches = _Patches()


@contextmanager
def rewriting(module: Module | None) -> Iterator[None]:
    """While this lasts, modules that are met compute with their rewritten forward."""
    before, _patches.done = _patches.done, []
    try:
        if module is not None:
            _patches.add(module)
        yield
    finally:
        for part in _patches.done:
            object.__delattr__(part, "forward")
        _patches.done = before


# ---- one function --------------------------------------------------------------------------------


def _rewrite(function: types.FunctionType) -> types.CodeType:
    """The code of the rewritten function."""
    code = function.__code__
    node = _definition(code)
    if any(isinstance(n, REFUSED) for n in _own_nodes(node.body)):
        raise NotRewritten("it is a generator or a coroutine")
    names = _Names(node, code)
    lowering = Lowering()
    body = lowering.function(node.body)
    own = names.variables | lowering.flags | ({VALUE} if lowering.has_inner_return else frozenset())
    branches = Branches(
        lowering,
        Liveness(body),
        own,
        names.arguments,
        names.shared,
        names.universal,
        names.first if "__class__" in code.co_freevars else "",
        _class_of(function),
    )
    node.body = [*names.declarations, *branches.body(body)]
    node.decorator_list = []
    node.returns = None
    for argument in ast.walk(node.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    node.args.defaults = [ast.Constant(None) for _ in node.args.defaults]
    node.args.kw_defaults = [d and ast.Constant(None) for d in node.args.kw_defaults]
    return _compiled(node, code)


def _definition(code: types.CodeType) -> ast.FunctionDef:
    """The definition of a function, with the lines of its file."""
    if code.co_name == "<lambda>":
        raise NotRewritten("it is a lambda; write it with def")
    try:
        lines, first = inspect.getsourcelines(code)
    except (OSError, TypeError):
        raise NotRewritten("its source is not at hand") from None
    text = "".join(lines)
    indented = text[:1].isspace()
    try:
        parsed: Any = ast.parse("if 1:\n" + text if indented else text)
    except (SyntaxError, ValueError):
        raise NotRewritten("its source cannot be read by itself") from None
    node = parsed.body[0].body[0] if indented else parsed.body[0]
    if not isinstance(node, ast.FunctionDef) or node.name != code.co_name:
        raise NotRewritten("its source is no plain function definition")
    ast.increment_lineno(node, first - 1 - indented)
    return node


class _Names:
    """Whose variables a function uses."""

    def __init__(self, node: ast.FunctionDef, code: types.CodeType) -> None:
        a = node.args
        listed = [*a.posonlyargs, *a.args, *a.kwonlyargs, *(x for x in (a.vararg, a.kwarg) if x)]
        self.arguments = frozenset(x.arg for x in listed)
        self.first = listed[0].arg if listed else ""
        self.declarations: list[ast.stmt] = []
        self.universal: frozenset[str] = frozenset()
        self.shared: frozenset[str] = frozenset()
        for s in _own_nodes(node.body):
            if isinstance(s, ast.Global):
                self.universal |= frozenset(s.names)
            if isinstance(s, ast.Nonlocal):
                self.shared |= frozenset(s.names)
        assigned = frozenset().union(*(stored(s) for s in node.body))
        known = frozenset((*code.co_varnames, *code.co_cellvars))
        self.variables = (self.arguments | assigned) & known
        self.variables -= self.universal | self.shared


def _own_nodes(stmts: Sequence[ast.AST]) -> Iterator[ast.AST]:
    for s in stmts:
        yield s
        if not isinstance(s, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            yield from _own_nodes(list(ast.iter_child_nodes(s)))


def _class_of(function: types.FunctionType) -> str:
    parts = function.__qualname__.split(".")
    return parts[-2] if len(parts) > 1 and parts[-2] != "<locals>" else ""


def _compiled(node: ast.FunctionDef, code: types.CodeType) -> types.CodeType:
    """The code object of a definition whose free variables are those of `code` and ours."""
    free = [*(n for n in code.co_freevars), PREFIX]
    arguments = ast.arguments([], [ast.arg(n) for n in free], None, [], [], None, [])
    outer = ast.FunctionDef(f"{PREFIX}outer", arguments, [node], [])
    if "type_params" in outer._fields:
        outer.type_params = []  # type: ignore[attr-defined]  # Python 3.12 on
    module = ast.Module([outer], [])
    ast.copy_location(outer, node)
    ast.fix_missing_locations(module)
    try:
        whole = compile(module, code.co_filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise NotRewritten(f"its rewritten form is not valid: {error}") from None
    made = next(c for c in whole.co_consts if isinstance(c, types.CodeType))
    return next(
        c for c in made.co_consts if isinstance(c, types.CodeType) and c.co_name == node.name
    )


def _like(function: types.FunctionType, code: types.CodeType) -> types.FunctionType:
    """A function with other code and everything else of `function`."""
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    cells[PREFIX] = types.CellType(Choices)
    closure = tuple(cells[n] for n in code.co_freevars)
    made = types.FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, closure
    )
    made.__kwdefaults__ = function.__kwdefaults__
    made.__qualname__, made.__module__ = function.__qualname__, function.__module__
    return made
