"""The class that an added picture gets: the chosen one, that of its folder, or none, and never another."""

from __future__ import annotations

from farshot.app.choices import LATER
from farshot.app.sessions import Sessions
from farshot.app.workspace import ClassWords
from tests import app_clients
from tests.app_clients import HEADER, browser, session_of
from tests.image_bytes import encoded
from tests.input_helpers import picture

pytestmark = app_clients.marks


def image(number: int) -> bytes:
    return encoded(picture(number, 8, 8), "PNG")


def test_files_for_a_class_that_another_page_renamed_are_refused(sessions: Sessions) -> None:
    client = browser(sessions)
    workspace = session_of(sessions, client).workspace
    workspace.name_classes([ClassWords("oak"), ClassWords("ash")])
    workspace.rename_class("oak", "oaks")
    for name in ("a.png", "photos/ash/a.png"):  # the folder is not used instead
        query = {"name": name, "into": "oak"}
        answer = client.post("/farshot/upload", params=query, content=image(0), headers=HEADER)
        assert "no class 'oak'" in answer.json()["refused"]
    assert workspace.pictures == ()
    for number, (into, label) in enumerate((("", None), (LATER, None), ("oaks", "oaks"))):
        query = {"name": "b.png", "into": into}
        client.post("/farshot/upload", params=query, content=image(number), headers=HEADER)
        assert workspace.pictures[-1].label == label
