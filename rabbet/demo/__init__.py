"""`rabbet demo`: train on real handwritten digits, then run the model from Python, from C and over
HTTP.

Works offline: the 1797 images are part of the package. Stages that need something this machine
lacks (a C compiler, the extra `serve`, the extra `plot`) say so and are left out of the closing
table.
"""

from __future__ import annotations

from rabbet.demo.run import main

__all__ = ["main"]
