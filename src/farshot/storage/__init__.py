"""What lies on disk: atomic writes, the folder of an adapted model, the hub."""
