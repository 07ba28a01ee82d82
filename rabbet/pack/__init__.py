"""Packs of ready kernels: `python -m rabbet.pack` makes those that are installed with the package.

A kernel is known by its text, which has no sizes, so one that was made here serves every program
that needs the same. Which kernels those are is a rule, not a list: see workloads.py.
"""

from __future__ import annotations

from rabbet.pack.make import make

__all__ = ["make"]
