"""A person's working set in a folder on disk: images, their labels, and what was made of them."""
