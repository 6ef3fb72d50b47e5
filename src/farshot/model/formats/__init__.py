"""Checkpoint formats: one reader per file, each from a folder or file to two towers."""
