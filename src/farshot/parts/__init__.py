"""Parts: what a method adds to a frozen encoder. Each keeps its parameters with a leading task dimension."""
