"""The command line: one file per group of commands; what they compute lies elsewhere."""
