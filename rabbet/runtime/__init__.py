"""Plans, programs, memory: from compiled kernels to results."""
