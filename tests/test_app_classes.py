"""The class that an added picture gets: the chosen one, that of its folder, or none, and never another."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from farshot.app.choices import LATER
from farshot.app.sessions import Sessions
from farshot.app.workspace import ClassWords, Workspace
from farshot.app.workspace.intake import Upload
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


# Folders -------------------------------------------------------------------------------------------------

LONG = "Plantae_Tracheophyta_Magnoliopsida_Asterales_Asteraceae_Achillea_mille"


def taken(folder: Path, names: list[str], *, zipped: bool) -> tuple[Workspace, list[str]]:
    """A workspace that got pictures of these names, in one zip or one by one; and why some were refused."""
    workspace, uploads = Workspace(folder / "workspace"), []
    (folder / "sent").mkdir()
    for number, name in enumerate(names):
        uploads.append(Upload(name, folder / "sent" / str(number), wrapped=True))
        uploads[-1].path.write_bytes(image(number))
    if zipped:
        with zipfile.ZipFile(folder / "sent" / "zip", "w") as archive:
            for upload in uploads:
                archive.write(upload.path, upload.name)
        uploads = [Upload("photos.zip", folder / "sent" / "zip")]
    refused = [one.reason for upload in uploads for one in workspace.take([upload])[1]]
    assert len(list((workspace.folder / "pictures").iterdir())) == len(workspace.pictures)
    return workspace, refused


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("names", "labels", "why"),
    [
        (
            ["d/oak/1.png", f"d/{LONG}folium/2.png", f"d/{LONG}ptarmica/3.png"],
            ["oak"],
            "too long for a class",
        ),
        (["d/A/1.png", "d/a/2.png", "d/b/3.png"], ["A", "b"], "'d/a' and the folder 'd/A' would be one"),
        (["d/red_leaf/1.png", "d/red leaf/2.png"], ["red leaf"], "would be one class"),
        (["d/cat/images/1.png", "d/dog/images/2.png"], ["images"], "would be one class"),
        (["d/train/cat/1.png", "d/train/dog/2.png", "d/test/cat/3.png"], ["cat", "dog"], "for test, not"),
        (["d/cat/train/1.png", "d/cat/val/2.png", "d/dog/train/3.png"], ["cat", "dog"], "for val, not"),
        (["d/train/1.png", "d/bus/2.png"], ["train", "bus"], ""),
    ],
)
def test_a_folder_becomes_its_own_class_or_is_refused(
    tmp_path: Path, names: list[str], labels: list[str], why: str, zipped: bool
) -> None:
    workspace, refused = taken(tmp_path, names, zipped=zipped)
    assert [picture.label for picture in workspace.pictures] == labels
    assert len(refused) == len(names) - len(labels)
    assert all(why in reason for reason in refused)


def test_pictures_of_more_classes_than_there_can_be_are_refused(tmp_path: Path) -> None:
    workspace, refused = taken(tmp_path, [f"d/class {n}/x.png" for n in range(52)], zipped=True)
    assert len(workspace.classes) == len(workspace.pictures) == 50
    assert all(picture.label for picture in workspace.pictures)
    assert len(refused) == 2
    assert all("50 classes" in reason for reason in refused)


def test_the_same_folder_adds_to_its_class_another_day(tmp_path: Path) -> None:
    names = ["monday/cat/1.png", "tuesday/cat/2.png", "monday/cat/3.png"]
    workspace, refused = taken(tmp_path, names, zipped=False)
    assert workspace.counts == {"cat": 3}
    assert refused == []


@pytest.mark.parametrize("zipped", [True, False])
def test_one_picture_in_two_classes_is_named_with_both(tmp_path: Path, zipped: bool) -> None:
    (tmp_path / "sent").mkdir()
    uploads = []
    for name in ("d/cat/1.png", "d/dog/1.png"):
        uploads.append(Upload(name, tmp_path / "sent" / name.replace("/", "-"), wrapped=True))
        uploads[-1].path.write_bytes(image(1))
    if zipped:
        with zipfile.ZipFile(tmp_path / "sent" / "zip", "w") as archive:
            for upload in uploads:
                archive.write(upload.path, upload.name)
        uploads = [Upload("photos.zip", tmp_path / "sent" / "zip")]
    workspace = Workspace(tmp_path / "workspace")
    ((one,),) = [refused for upload in uploads if (refused := workspace.take([upload])[1])]
    assert "in the class 'cat'; its class is now 'dog'" in one.reason
    assert [picture.label for picture in workspace.pictures] == ["dog"]
