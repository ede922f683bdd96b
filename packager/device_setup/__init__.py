"""The device kit: fetch what emulated devices need, verify it, and try it out."""
