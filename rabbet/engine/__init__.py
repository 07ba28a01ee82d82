"""Segments of recorded nodes: their gradients, their programs, and when they run."""
