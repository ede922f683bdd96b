"""How a network becomes smaller and recovers."""
