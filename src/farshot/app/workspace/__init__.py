"""A person's pictures, their labels and what was made of them, in one folder: what the app works on.

from farshot.app.workspace import Workspace
workspace = Workspace(folder)
workspace.take([Upload("leaves.zip", path)])
workspace.label(ids, "apple scab")
"""

from farshot.app.workspace.state import Choice, ClassWords, Picture, Workspace

__all__ = ["Choice", "ClassWords", "Picture", "Workspace"]
