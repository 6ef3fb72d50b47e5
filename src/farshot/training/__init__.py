"""Training: the one loop, its recipes (optimisers and schedules), and the images of each step."""
