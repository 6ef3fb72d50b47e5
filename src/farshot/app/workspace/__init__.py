"""A person's pictures, their labels and what was made of them, in one folder: what the app works on.

from farshot.app.workspace import Workspace
workspace = Workspace(folder)
workspace.take([Upload("leaves.zip", path)])
workspace.label(ids, "apple scab")
"""

from farshot.app.workspace.state import ClassWords, Picture, Setup, Workspace

__all__ = ["ClassWords", "Picture", "Setup", "Workspace"]
