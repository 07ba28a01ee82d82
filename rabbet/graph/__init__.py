"""Values, the Op record, and what can be done with graphs of them; knows no particular op."""
