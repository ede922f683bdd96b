"""What the emulator is tried with: a small network, and the programs that run it."""
