"""Choose which pictures to label first, and which next: rules on frozen features, and a contact sheet."""

from farshot.pick.choice import Choice, pick_first, pick_next

__all__ = ["Choice", "pick_first", "pick_next"]
