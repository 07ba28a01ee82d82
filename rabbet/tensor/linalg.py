"""rb.linalg: the array API's linear algebra, over stacks of matrices, with gradients."""

from __future__ import annotations

from rabbet.base.errors import LinAlgError
from rabbet.tensor.lift import functions

__all__ = ["LinAlgError", "cholesky", "solve"]

cholesky = functions["cholesky"]
solve = functions["solve"]
