"""The benchmark: the same tasks for every method, a store of every result, paired differences."""
