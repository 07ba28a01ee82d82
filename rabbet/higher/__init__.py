"""Functions of functions: derivatives, vmap, jit, checkpoint, control flow."""
