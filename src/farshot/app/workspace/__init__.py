"""The workspace of the app: pictures, their labels and the adapted model, in one folder.

from farshot.app.workspace import Workspace
workspace = Workspace(folder)
workspace.take([Upload("leaves.zip", path)])
workspace.label(ids, "apple scab")
"""

from farshot.app.workspace.classes import ClassWords
from farshot.app.workspace.picture import Picture, Setup
from farshot.app.workspace.state import Workspace

__all__ = ["ClassWords", "Picture", "Setup", "Workspace"]
