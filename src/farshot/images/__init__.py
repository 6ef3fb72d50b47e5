READ_BY = (
    *("bands", "costs", "decode", "depth", "dicom", "faults", "heic", "kinds", "opened", "options"),
    *("orientation", "picture", "preprocess", "tiff"),
)
"""The modules that ONNX exports have copies of: they import nothing else of farshot."""
