"""How data comes in: one module for each source."""
