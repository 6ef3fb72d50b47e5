"""Labels in the formats of other tools: one module per format, with `read` and `write`."""
