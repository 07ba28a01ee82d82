"""`python -m rabbet.cli`."""

from __future__ import annotations

from rabbet.cli.commands import main

main()
