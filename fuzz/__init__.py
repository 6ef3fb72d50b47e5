"""Fuzzing of all that reads foreign bytes: `make fuzz` (CONTRIBUTING.md)."""
