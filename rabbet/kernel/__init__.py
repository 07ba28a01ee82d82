"""From groups of values to loop nests: the kernel language, lowering, and its interpreter."""
