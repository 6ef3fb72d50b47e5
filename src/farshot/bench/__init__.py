"""The benchmark: the same tasks for every method, every task kept, paired differences."""
