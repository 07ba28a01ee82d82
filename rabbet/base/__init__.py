"""Facts and tools that know nothing of tensors: dtypes, shapes, sizes, errors, configuration."""
