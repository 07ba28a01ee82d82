"""`python -m rabbet`: the same as the `rabbet` command."""

from __future__ import annotations

from rabbet.cli import main

main()
