"""What is wrong with labelled images before anything is learnt from them: `farshot check`."""

from farshot.check.findings import Checked, Copies, Dim, Pair, WrongLabel, check_images

__all__ = ["Checked", "Copies", "Dim", "Pair", "WrongLabel", "check_images"]
