"""break, continue and early return as flags, so that every statement list runs to its end.

`if c: return a` followed by more becomes an `else` with the rest, which needs no flag; elsewhere
what follows a possible jump is put under `if not flag`. A flag nobody reads is not set.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

PREFIX = "_rb_"  # of every name that is made here
VALUE = f"{PREFIX}value"
DONE = f"{PREFIX}done"
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
LOOPS = (ast.While, ast.For)
Node = TypeVar("Node", bound=ast.AST)


class NotRewritten(Exception):
    """Says why a function stays as it is; seen only where it then branches on a tensor."""


@dataclass(eq=False)
class Loop:
    """The flags of a loop: `broken` ends it, `skipped` ends one run; None where there is no such
    statement.
    """

    broken: str | None
    skipped: str | None


@dataclass(eq=False)
class Lowering:
    """One function's statements without jumps. `guards` are ifs whose variables may be unset where
    nobody reads them.
    """

    has_inner_return: bool = False
    count: int = 0
    flags: set[str] = field(default_factory=set)
    guards: set[ast.AST] = field(default_factory=set)
    native: set[ast.AST] = field(default_factory=set)  # ifs that stay as they are

    def function(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """The body of a function; a return is left only as its last statement."""
        self.has_inner_return = any(
            not isinstance(s, ast.Return) and finds(s, ast.Return) for s in body
        )
        if not self.has_inner_return:
            return self._pruned(self.block(body, None))
        if not always_jumps(body):
            body = [*body, ast.Return(ast.Constant(None))]
        self.flags.add(DONE)
        lowered = self.block(body, None)
        end = ast.Return(name(VALUE))
        return self._pruned([assign(DONE, ast.Constant(False)), *lowered, end])

    def block(self, stmts: list[ast.stmt], loop: Loop | None) -> list[ast.stmt]:
        """A list of statements."""
        out: list[ast.stmt] = []
        for place, s in enumerate(stmts):
            rest = stmts[place + 1 :]
            if isinstance(s, ast.Return | ast.Break | ast.Continue):
                return [*out, *self._jump(s, loop)]
            flags = self._escapes(s, loop)
            if not flags:
                out += self._compound(s, loop)
                continue
            if isinstance(s, ast.If) and (always_jumps(s.body) or always_jumps(s.orelse)):
                body, orelse = s.body, s.orelse
                if not always_jumps(orelse):
                    orelse = [*orelse, *rest]
                elif not always_jumps(body):
                    body = [*body, *rest]
                new = ast.If(s.test, self._some(body, loop), self.block(orelse, loop))
                self.guards.add(new)
                return [*out, at(new, s)]
            out += self._compound(s, loop)
            if rest:
                guard = ast.If(negated(flags), self._some(rest, loop), [])
                self.guards.add(guard)
                out.append(at(guard, rest[0]))
            return out
        return out

    def _some(self, stmts: list[ast.stmt], loop: Loop | None) -> list[ast.stmt]:
        return self.block(stmts, loop) or [ast.Pass()]

    def _jump(self, s: ast.stmt, loop: Loop | None) -> list[ast.stmt]:
        if isinstance(s, ast.Return):
            if not self.has_inner_return:
                return [s]
            given = s.value or ast.Constant(None)
            return [at(assign(VALUE, given), s), at(assign(DONE, ast.Constant(True)), s)]
        assert loop is not None
        flag = loop.broken if isinstance(s, ast.Break) else loop.skipped
        assert flag is not None
        return [at(assign(flag, ast.Constant(True)), s)]

    def _escapes(self, s: ast.stmt, loop: Loop | None) -> list[str]:
        """The flags that may be set when `s` has run and that end the list `s` is in."""
        flags = [DONE] if finds(s, ast.Return) else []
        if loop is not None and not isinstance(s, LOOPS):
            flags += [loop.broken] if loop.broken and finds(s, ast.Break) else []
            flags += [loop.skipped] if loop.skipped and finds(s, ast.Continue) else []
        return flags

    def _compound(self, s: ast.stmt, loop: Loop | None) -> list[ast.stmt]:
        if isinstance(s, ast.If):
            new = ast.If(s.test, self._some(s.body, loop), self.block(s.orelse, loop))
            if finds(s, ast.Return, ast.Break, ast.Continue):
                self.guards.add(new)
            return [at(new, s)]
        if isinstance(s, ast.While):
            return self._while(s, loop)
        if isinstance(s, ast.For):
            return self._for(s, loop)
        if isinstance(s, ast.Match) and finds(s, ast.Return, ast.Break, ast.Continue):
            raise NotRewritten("it jumps out of a `match`")
        for part in ("body", "orelse", "finalbody"):
            if not isinstance(s, SCOPES) and getattr(s, part, None):
                setattr(s, part, self._some(getattr(s, part), loop))
        for handler in getattr(s, "handlers", ()):
            handler.body = self._some(handler.body, loop)
        return [s]

    def _flags(self, s: ast.While | ast.For) -> tuple[Loop, list[str]]:
        """The flags of a loop, and those that end it."""
        self.count += 1

        def flag(kind: type[ast.stmt], word: str) -> str | None:
            if not any(finds(x, kind) for x in s.body):
                return None
            self.flags.add(f"{PREFIX}{word}_{self.count}")
            return f"{PREFIX}{word}_{self.count}"

        inner = Loop(flag(ast.Break, "broken"), flag(ast.Continue, "skipped"))
        ends = [inner.broken] if inner.broken else []
        return inner, ends + ([DONE] if any(finds(x, ast.Return) for x in s.body) else [])

    def _run(self, s: ast.While | ast.For, inner: Loop) -> list[ast.stmt]:
        body = self._some(s.body, inner)
        if inner.skipped:
            body = [at(assign(inner.skipped, ast.Constant(False)), s), *body]
        return body

    def _while(self, s: ast.While, loop: Loop | None) -> list[ast.stmt]:
        inner, ends = self._flags(s)
        test = ast.BoolOp(ast.And(), [negated(ends), s.test]) if ends else s.test
        new = at(ast.While(at(test, s.test), self._run(s, inner), []), s)
        return self._with_else(s, [new], inner, ends, loop)

    def _for(self, s: ast.For, loop: Loop | None) -> list[ast.stmt]:
        inner, ends = self._flags(s)
        body = self._run(s, inner)
        if ends:
            surely = [ast.Call(ours("surely"), [name(e)], []) for e in ends]
            stop = ast.If(either(surely), [ast.Break()], [])
            self.native.add(stop)
            guard = ast.If(negated(ends), body, [])
            self.guards.add(guard)
            body = [at(stop, s), at(guard, s)]
        new = at(ast.For(s.target, s.iter, body, []), s)
        return self._with_else(s, [new], inner, ends, loop)

    def _with_else(
        self,
        s: ast.While | ast.For,
        made: list[ast.stmt],
        inner: Loop,
        ends: list[str],
        loop: Loop | None,
    ) -> list[ast.stmt]:
        if inner.broken:
            made = [at(assign(inner.broken, ast.Constant(False)), s), *made]
        if s.orelse and ends:
            guard = ast.If(negated(ends), self._some(s.orelse, loop), [])
            self.guards.add(guard)
            return [*made, at(guard, s.orelse[0])]
        return [*made, *self.block(s.orelse, loop)]

    def _pruned(self, stmts: list[ast.stmt]) -> list[ast.stmt]:
        read = {
            n.id
            for s in stmts
            for n in ast.walk(s)
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
        }
        unread = self.flags - read

        class Prune(ast.NodeTransformer):
            def visit_Assign(self, node: ast.Assign) -> ast.stmt:
                target = node.targets[0]
                drop = isinstance(target, ast.Name) and target.id in unread
                return ast.copy_location(ast.Pass(), node) if drop else node

        return [Prune().visit(s) for s in stmts]


def finds(s: ast.AST, *kinds: type[ast.AST]) -> bool:
    """True where a jump of these kinds lies in `s` and leaves it: break and continue inside a loop
    of their own do not, nothing inside a function does.
    """
    if isinstance(s, kinds):
        return True
    if isinstance(s, SCOPES):
        return False
    if isinstance(s, LOOPS):
        inner = tuple(k for k in kinds if k is ast.Return)
        own = bool(inner) and any(finds(x, *inner) for x in s.body)
        return own or any(finds(x, *kinds) for x in s.orelse)
    return any(finds(x, *kinds) for x in ast.iter_child_nodes(s) if not isinstance(x, ast.expr))


def always_jumps(stmts: list[ast.stmt]) -> bool:
    """True where the end of a list is never reached."""
    for s in stmts:
        if isinstance(s, ast.Return | ast.Break | ast.Continue):
            return True
        if isinstance(s, ast.If) and always_jumps(s.body) and always_jumps(s.orelse):
            return True
        if isinstance(s, ast.With) and always_jumps(s.body):
            return True
        if isinstance(s, ast.While) and isinstance(s.test, ast.Constant) and s.test.value:
            if not any(finds(x, ast.Break) for x in s.body):
                return True
    return False


# ---- pieces of code ------------------------------------------------------------------------------


def name(text: str) -> ast.Name:
    """A variable that is read."""
    return ast.Name(text, ast.Load())


def assign(target: str, value: ast.expr) -> ast.stmt:
    """target = value."""
    return ast.Assign([ast.Name(target, ast.Store())], value)


def ours(text: str) -> ast.expr:
    """A function of export/choices.py."""
    return ast.Attribute(name(f"{PREFIX}"), text, ast.Load())


def either(parts: Sequence[ast.expr]) -> ast.expr:
    """a or b."""
    return parts[0] if len(parts) == 1 else ast.BoolOp(ast.Or(), list(parts))


def negated(flags: list[str]) -> ast.expr:
    """not (a or b)."""
    return ast.UnaryOp(ast.Not(), either([name(f) for f in flags]))


def at(new: Node, old: ast.AST) -> Node:
    """`new`, and all of it that has no place yet, on the first line of `old`."""
    line, column = getattr(old, "lineno", 0), getattr(old, "col_offset", 0)
    for n in ast.walk(new):
        if line and "lineno" in n._attributes and not hasattr(n, "lineno"):
            place = {"lineno": line, "end_lineno": line}
            vars(n).update(place, col_offset=column, end_col_offset=column)
    return new
