"""Scalar expressions: what one element of a result is, as a graph over loads and loop variables."""
