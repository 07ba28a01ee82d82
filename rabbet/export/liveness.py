"""Which variables are still read after an `if` or around a `while`: only those have to be chosen.

Works backward over statements without jumps (see jumps.py).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from rabbet.export.jumps import SCOPES

Names = frozenset[str]


class Liveness:
    """`after[node]`: what is read after an If, or at the head of a While, before it is assigned."""

    def __init__(self, body: list[ast.stmt]) -> None:
        self.after: dict[ast.AST, Names] = {}
        self.always = frozenset(
            n.id
            for s in body
            for scope in ast.walk(s)
            if isinstance(scope, SCOPES)
            for n in ast.walk(scope)
            if isinstance(n, ast.Name)
        )
        self.block(body, frozenset())

    def block(self, stmts: Iterable[ast.stmt], out: Names) -> Names:
        """What is live before a list of statements, given what is live after it."""
        for s in reversed(list(stmts)):
            out = self.statement(s, out)
        return out

    def statement(self, s: ast.stmt, out: Names) -> Names:
        """The same for one statement."""
        match s:
            case ast.If():
                self.after[s] = out | self.always
                return read(s.test) | self.block(s.body, out) | self.block(s.orelse, out)
            case ast.While():
                head = self._head(s.body, out | read(s.test))
                self.after[s] = head | self.always
                return head
            case ast.For():
                inner = out | read(s.target)
                head = self._head([_Target(s.target), *s.body], inner)
                return head | read(s.iter)
            case ast.With():
                for item in s.items:
                    out = out | read(item.context_expr)
                return self.block(s.body, out) | out
            case ast.Try():
                parts = [*s.body, *s.orelse, *s.finalbody, *(x for h in s.handlers for x in h.body)]
                inside = frozenset().union(*(read(x) for x in parts)) if parts else frozenset()
                everything = out | inside
                for part in (s.body, s.orelse, s.finalbody, *(h.body for h in s.handlers)):
                    self.block(part, everything)
                return everything
            case ast.Return() | ast.Raise():
                return read(s)
        return (out - stored(s)) | read(s)

    def _head(self, body: list[ast.stmt], out: Names) -> Names:
        while True:
            wider = out | self.block(body, out)
            if wider == out:
                return out
            out = wider


class _Target(ast.stmt):
    """The assignment at the start of each run of a `for`."""

    _fields = ("target",)

    def __init__(self, target: ast.expr) -> None:
        super().__init__()
        self.target = target


def read(node: ast.AST) -> Names:
    """The names read in a piece of code."""
    found = set()
    for n in ast.walk(node):
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load):
            found.add(n.id)
        if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name):
            found.add(n.target.id)
    return frozenset(found)


def stored(node: ast.AST) -> Names:
    """The names that a simple statement gives a value whatever happens."""
    return frozenset(
        n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    )
