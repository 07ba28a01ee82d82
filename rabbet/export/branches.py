"""`if`, `while`, `and`, `or`, `not`, `a if c else b` and `a < b < c` as calls of export/choices.py.

Takes statements without jumps. A branch becomes a function that shares the variables of the one it
is in (`nonlocal`); whether anything is recorded as a choice is decided when the condition is known:
where it is no tensor, Python does what it always does.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rabbet.export.jumps import PREFIX, SCOPES, VALUE, Lowering, assign, at, name, ours
from rabbet.export.liveness import Liveness, stored

NO_EXPRESSIONS = (ast.NamedExpr, ast.Yield, ast.YieldFrom, ast.Await)  # not to be moved


@dataclass(eq=False)
class Branches(ast.NodeTransformer):
    """Rewrites one function's body.

    `variables` are its own, `arguments` those of them that have a value from the start, `shared`
    those of functions around it that it assigns, `universal` its globals.
    """

    lowering: Lowering
    liveness: Liveness
    variables: frozenset[str]
    arguments: frozenset[str]
    shared: frozenset[str]
    universal: frozenset[str]
    self_name: str = ""
    class_name: str = ""
    count: int = 0
    chosen: set[str] = field(default_factory=set)  # variables that a branch or loop assigns
    tests: set[ast.AST] = field(default_factory=set)  # `and` and `or` of which the truth is asked

    def body(self, stmts: list[ast.stmt]) -> list[ast.stmt]:
        """The new body, with what must stand before it."""
        for s in stmts:
            for node in ast.walk(s):
                if isinstance(node, ast.If | ast.While) and node not in self.lowering.native:
                    self.chosen |= self._assigned(node)
        self.chosen.add(VALUE)
        self.chosen -= self.shared
        made = self.block(stmts)
        unset = sorted(self.chosen - self.arguments)
        start = [assign(n, ast.Call(ours("Undefined"), [ast.Constant(n)], [])) for n in unset]
        return [*start, *made]

    def block(self, stmts: list[ast.stmt]) -> list[ast.stmt]:
        """Each statement in turn; one may become several."""
        found: list[ast.stmt] = []
        for s in stmts:
            made = self.visit(s)
            found += made if isinstance(made, list) else [made]
        return found

    # ---- statements ----------------------------------------------------------------------------

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Parts that are lists of statements by `block`."""
        for part, old in ast.iter_fields(node):
            if isinstance(old, list) and old and isinstance(old[0], ast.stmt):
                setattr(node, part, self.block(old))
            elif isinstance(old, list):
                setattr(node, part, [self.visit(x) if isinstance(x, ast.AST) else x for x in old])
            elif isinstance(old, ast.AST):
                setattr(node, part, self.visit(old))
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node  # rewritten when it is called

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return node

    def visit_If(self, node: ast.If) -> Any:
        if node in self.lowering.native:
            return self.generic_visit(node)
        number, names = self._number(), self._state(node)
        variables = self._variables("if", node, number, names)
        parts = [
            self._function(f"then_{number}", node.body, names),
            self._function(f"else_{number}", node.orelse or [ast.Pass()], names),
            *self._accessors(number, names),
        ]
        call = ast.Call(
            ours("branch"),
            [
                self._test(node.test),
                *(name(f"{PREFIX}{p}_{number}") for p in ("then", "else")),
                variables,
                ast.Constant(node in self.lowering.guards),
            ],
            [],
        )
        return [at(p, node) for p in (*parts, ast.Expr(call))]

    def visit_While(self, node: ast.While) -> Any:
        number, names = self._number(), self._state(node)
        variables = self._variables("while", node, number, names)
        test = ast.Return(self._test(node.test))
        parts = [
            _define(f"test_{number}", [], [*self._declared(names), test]),
            self._function(f"body_{number}", node.body, names),
            *self._accessors(number, names),
        ]
        call = ast.Call(
            ours("loop"),
            [*(name(f"{PREFIX}{p}_{number}") for p in ("test", "body")), variables],
            [],
        )
        return [at(p, node) for p in (*parts, ast.Expr(call))]

    def _number(self) -> int:
        self.count += 1
        return self.count

    def _state(self, node: ast.If | ast.While) -> list[str]:
        return sorted(self._assigned(node))

    def _assigned(self, node: ast.If | ast.While) -> frozenset[str]:
        """The variables that the branches or the body may give another value."""
        inside = [*node.body, *node.orelse]
        found = frozenset().union(*(_changed(s) for s in inside))
        return found & (self.variables | self.shared | self.lowering.flags | {VALUE})

    def _declared(self, names: list[str]) -> list[ast.stmt]:
        made: list[ast.stmt] = [ast.Nonlocal(names)] if names else []
        return made + ([ast.Global(sorted(self.universal))] if self.universal else [])

    def _function(self, label: str, stmts: list[ast.stmt], names: list[str]) -> ast.stmt:
        return _define(label, [], [*self._declared(names), *self.block(stmts)])

    def _accessors(self, number: int, names: list[str]) -> list[ast.stmt]:
        values = ast.Tuple([name(n) for n in names], ast.Load())
        get = _define(f"get_{number}", [], [ast.Return(values)])
        given = f"{PREFIX}given"
        targets = ast.Tuple([ast.Name(n, ast.Store()) for n in names], ast.Store())
        take: list[ast.stmt] = [ast.Assign([targets], name(given))] if names else [ast.Pass()]
        declared: list[ast.stmt] = [ast.Nonlocal(names)] if names else []
        return [get, _define(f"put_{number}", [given], [*declared, *take])]

    def _variables(
        self, word: str, node: ast.If | ast.While, number: int, names: list[str]
    ) -> ast.expr:
        """The record that export/variables.py describes."""
        live = self.liveness.after[node]
        items = {n for s in (*node.body, *node.orelse) for n in _items(s)}
        parts = [
            ast.Constant(word),
            *(name(f"{PREFIX}{p}_{number}") for p in ("get", "put")),
            _constants(names),
            _constants([n in live for n in names]),
            _constants([n in items for n in names]),
            ast.Constant(_forbidden(node, self.universal)),
        ]
        return ast.Call(ours("of"), parts, [])

    # ---- expressions ---------------------------------------------------------------------------

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        if _moves(*node.values[1:]):
            return self.generic_visit(node)
        is_test = ast.Constant(node in self.tests)
        first, *rest = (self.visit(v) for v in node.values)
        word = "both" if isinstance(node.op, ast.And) else "any_of"
        return at(ast.Call(ours(word), [is_test, first, *(_later(v) for v in rest)], []), node)

    def _test(self, node: ast.expr) -> Any:
        """A condition: only the truth of it counts."""
        stack = [node]
        while stack:
            part = stack.pop()
            if isinstance(part, ast.BoolOp):
                self.tests.add(part)
                stack += part.values
            elif isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.Not):
                stack.append(part.operand)
        return self.visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        if not isinstance(node.op, ast.Not):
            return self.generic_visit(node)
        node.operand = self._test(node.operand)
        return at(ast.Call(ours("negated"), [node.operand], []), node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        if _moves(node.body, node.orelse):
            return self.generic_visit(node)
        ways = (_later(self.visit(node.body)), _later(self.visit(node.orelse)))
        parts = [self._test(node.test), *ways]
        return at(ast.Call(ours("pick"), parts, []), node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        words = [_COMPARISONS.get(type(o)) for o in node.ops]
        if len(words) == 1 or None in words or _moves(*node.comparators[1:]):
            return self.generic_visit(node)
        left, first, *rest = (self.visit(x) for x in (node.left, *node.comparators))
        text = _constants(words)
        call = ast.Call(ours("chained"), [text, left, first, *(_later(x) for x in rest)], [])
        return at(call, node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        func = node.func
        is_super = isinstance(func, ast.Name) and func.id == "super"
        if is_super and not node.args and self.self_name:
            node.args = [name("__class__"), name(self.self_name)]
            return at(node, node)
        self.generic_visit(node)
        if is_super:
            return node
        node.func = at(ast.Call(ours("callee"), [node.func], []), node)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._mangled(node.id)
        unsure = node.id in self.chosen - self.arguments
        if not unsure or not isinstance(node.ctx, ast.Load):
            return node
        return at(ast.Call(ours("read"), [name(node.id)], []), node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        node.attr = self._mangled(node.attr)
        node.value = self.visit(node.value)
        return node

    def _mangled(self, text: str) -> str:
        private = text.startswith("__") and not text.endswith("__") and self.class_name
        return f"_{self.class_name.lstrip('_')}{text}" if private else text


_COMPARISONS = {ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge", ast.Eq: "eq"}
_COMPARISONS[ast.NotEq] = "ne"


def _constants(values: Sequence[Any]) -> ast.expr:
    return ast.Tuple([ast.Constant(v) for v in values], ast.Load())


def _later(value: ast.expr) -> ast.expr:
    return ast.Lambda(_arguments([]), value)


def _arguments(names: list[str]) -> ast.arguments:
    return ast.arguments([], [ast.arg(n) for n in names], None, [], [], None, [])


def _define(label: str, arguments: list[str], body: list[ast.stmt]) -> ast.stmt:
    made = ast.FunctionDef(f"{PREFIX}{label}", _arguments(arguments), body, [])
    if hasattr(made, "type_params") or "type_params" in made._fields:
        made.type_params = []  # type: ignore[attr-defined]  # Python 3.12 on
    return made


def _moves(*values: ast.expr) -> bool:
    """True where an expression cannot go into a function of its own."""
    return any(isinstance(n, NO_EXPRESSIONS) for v in values for n in ast.walk(v))


def _changed(s: ast.AST) -> frozenset[str]:
    """Variables that a statement assigns, or whose tensor it updates in place."""
    if isinstance(s, SCOPES):
        return frozenset({s.name} if hasattr(s, "name") else ())
    inner = frozenset().union(
        *(_changed(x) for x in ast.iter_child_nodes(s) if isinstance(x, ast.stmt))
    )
    handlers = [x for x in ast.iter_child_nodes(s) if isinstance(x, ast.ExceptHandler)]
    for h in handlers:
        inner |= frozenset().union(*(_changed(x) for x in h.body))
    if isinstance(s, ast.If | ast.While | ast.Try):
        return inner
    if isinstance(s, ast.For):
        return inner | stored(s.target)
    if isinstance(s, ast.With):
        return inner | frozenset().union(*(stored(i) for i in s.items))
    return inner | stored(s) | _items(s) | _updated(s)


def _items(s: ast.AST) -> frozenset[str]:
    """Variables of which an element is assigned: x[i] = v."""
    return frozenset(
        n.value.id
        for n in ast.walk(s)
        if isinstance(n, ast.Subscript)
        and isinstance(n.ctx, ast.Store)
        and isinstance(n.value, ast.Name)
    )


def _updated(s: ast.AST) -> frozenset[str]:
    """Variables updated by a method for that: x.add_(v)."""
    call = s.value if isinstance(s, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return frozenset()
    target = call.func.value
    in_place = call.func.attr.endswith("_") and not call.func.attr.startswith("_")
    return frozenset({target.id} if in_place and isinstance(target, ast.Name) else ())


def _forbidden(node: ast.If | ast.While, universal: frozenset[str]) -> str:
    """What in the branches cannot depend on a tensor: a phrase with its line, or ""."""
    for s in (*node.body, *node.orelse):
        for n in ast.walk(s):
            what = _effect(n, universal)
            if what:
                return f"{what} (line {n.lineno})"  # type: ignore[attr-defined]
    return ""


def _effect(n: ast.AST, universal: frozenset[str]) -> str:
    match n:
        case ast.Raise():
            return "`raise`"
        case ast.Try():
            return "`try`"
        case ast.Delete():
            return "`del`"
        case ast.Attribute(ctx=ast.Store()):
            return f"assigning the attribute {n.attr!r}"
        case ast.Subscript(ctx=ast.Store(), value=value) if not isinstance(value, ast.Name):
            return "assigning an element of something that is no local variable"
        case ast.Name(ctx=ast.Store(), id=text) if text in universal:
            return f"assigning the global {text!r}"
        case ast.Expr(value=ast.Call()) if not _updated(n):
            return "a call for its effect"
    return ""
