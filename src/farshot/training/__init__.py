"""Training: the loop, recipes (optimisers and schedules), and the images of each step."""
