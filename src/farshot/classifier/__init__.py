"""FewShotClassifier: an adapted image-text encoder as a scikit-learn classifier.

    from farshot import FewShotClassifier, load
    classifier = FewShotClassifier("openai/clip-vit-base-patch16", method="atha").fit(images, labels)
    classifier.predict(["new.jpg"]); classifier.save("adapted/"); classifier = load("adapted/")

`fewshot.py` has the class, `parameters.py` checks what it is given, `stream.py` predicts many images part by
part, and `saved.py` loads what `save` wrote.
"""

from farshot.classifier.fewshot import FewShotClassifier, Images
from farshot.classifier.saved import load

__all__ = ["FewShotClassifier", "Images", "load"]
