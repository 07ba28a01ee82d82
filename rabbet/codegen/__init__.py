"""Kernels to LLVM text, LLVM text to object bytes, object bytes to callable addresses."""
