"""Files: atomic writes, the folder of an adapted model, and the hub."""
