"""farshot adapts CLIP to images it has never seen, from a handful of labelled pictures."""
