"""How a model comes in: one module for each source."""
