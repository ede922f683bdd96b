"""How two sets of answers are compared."""
