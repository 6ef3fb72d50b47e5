"""Reports on a store of results or an adapted model, as one self-contained page."""
