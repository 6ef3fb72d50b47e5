READ_BY = ("decode", "costs", "depth", "faults", "kinds", "options", "orientation", "preprocess", "tiff")
"""The modules that ONNX exports have copies of: they import nothing else of farshot."""
