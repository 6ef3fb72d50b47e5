"""An adapted model for places without farshot: an ONNX file, a plain transformers checkpoint, a PEFT adapter,
the hub.

    farshot export adapted/ --format onnx --out on-the-line/

Every export is a folder with an `export.json` that says what it is, written whole or not at all, and checked
against the adapted model before it takes its place.
"""
