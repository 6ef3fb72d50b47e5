"""The class that an added picture gets: the chosen one, that of its folder, or none, and never another."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from farshot.app.actions import received
from farshot.app.choices import LATER
from farshot.app.sessions import Sessions
from farshot.app.view import note
from farshot.app.workspace import ClassWords, Workspace
from farshot.app.workspace.encoders import Encoders
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


def test_a_percent_sign_in_a_name_is_one(sessions: Sessions) -> None:
    client = browser(sessions)
    names = ["IMG%20001.jpg", "patient%2F12.jpg", "a%41/50%25.png", "100%.png", "a+b &=#?é.png"]
    for number, name in enumerate(names):
        query = {"name": name, "folder": ["a%41", "b"], "wrapped": "0"}
        client.post("/farshot/upload", params=query, content=image(number), headers=HEADER)
    found = session_of(sessions, client).workspace.pictures
    assert [one.name for one in found] == [name.rpartition("/")[2] for name in names]
    assert [one.label for one in found] == [None, None, "a%41", None, None]


# Folders -------------------------------------------------------------------------------------------------

PETS, VEHICLES = ["cat", "dog"], ["train", "plane", "bus"]
LONG = "Plantae_Tracheophyta_Magnoliopsida_Asterales_Asteraceae_Achillea_mille"


def taken(folder: Path, names: list[str], *, zipped: bool) -> tuple[Workspace, list[str]]:
    """A workspace that got pictures of these names, in one zip or one by one, as a page sends files that
    are dropped; and why some were refused."""
    workspace, uploads = Workspace(folder / "workspace"), []
    folders = tuple(name.rpartition("/")[0] for name in names)
    (folder / "sent").mkdir()
    for number, name in enumerate(names):
        uploads.append(Upload(name, folder / "sent" / str(number), wrapped=True, folders=folders))
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
        (["d/A/1.png", "d/a/2.png", "d/b/3.png"], ["A", "A", "b"], ""),
        (["d/red_leaf/1.png", "d/red leaf/2.png"], ["red leaf"] * 2, ""),
        (["d/cat/images/1.png", "d/dog/images/2.png", "d/owl/3.png"], ["cat", "dog", "owl"], ""),
        (["d/cat/a/images/1.png", "d/dog/a/images/2.png"], ["cat", "dog"], ""),
        (["d/2023/cat/1.png", "d/2023/dog/2.png", "d/2024/cat/3.png", "d/2024/dog/4.png"], PETS * 2, ""),
        (["d/2023/cat/1.png", "d/2023/dog/2.png", "d/2024/cat/3.png"], [*PETS, "cat"], ""),
        (["d/cat/1.png", "d/photos/cat/2.png", "d/photos/dog/3.png"], ["cat", *PETS], ""),
        (["d/train/cat/x/1.png", "d/train/dog/x/2.png", "d/val/cat/x/3.png"], PETS, "for val, not"),
        (["d/e/train/cat/1.png", "d/e/2.png", "d/e/dev/cat/3.png"], ["cat", "e"], "for val, not"),
        (["d/vehicles/train/1.png", "d/vehicles/plane/2.png", "d/vehicles/bus/3.png"], VEHICLES, ""),
        (["d/vehicles/train/1.png", "d/vehicles/bus/2.png", "d/pets/cat/3.png"], ["train", "bus", "cat"], ""),
        (["d/coins/valid/1.png", "d/coins/invalid/2.png"], ["valid", "invalid"], ""),
        (["d/strips/test/1.png", "d/strips/control/2.png"], ["test", "control"], ""),
        (["d/strips/test/1.png"], ["test"], ""),
        (["d/cat/test/1.png", "d/dog/test/2.png"], PETS, ""),
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


def test_single_files_get_the_class_of_the_innermost_folder(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    names = [
        "d/2023/cat/1.png",
        "d/2024/cat/2.png",
        "e/x/Cat/3.png",
        "d/test/red_fox/4.png",
        "f/red fox/5.png",
    ]
    for number, name in enumerate(names):
        (tmp_path / "sent.png").write_bytes(image(number))
        assert workspace.take([Upload(name, tmp_path / "sent.png")])[1] == []
    assert workspace.counts == {"cat": 3, "red fox": 2}


@pytest.mark.parametrize("zipped", [True, False])
def test_folders_of_one_selection_that_become_one_class_are_named(sessions: Sessions, zipped: bool) -> None:
    client = browser(sessions)
    session = session_of(sessions, client)
    names = ["d/red_leaf/1.png", "d/Red leaf/2.png", "d/oak/3.png"]
    if zipped:
        packed = BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for number, name in enumerate(names):
                archive.writestr(name, image(number))
        files = {"photos.zip": packed.getvalue()}
    else:
        files = {name: image(number) for number, name in enumerate(names)}
    folders = [name.rpartition("/")[0] for name in files]
    for name, data in files.items():
        query = {"name": name, "wrapped": "0" if zipped else "1", "folder": folders}
        told = client.post("/farshot/upload", params=query, content=data, headers=HEADER).json()
        assert told["refused"] == ""
    (said,) = session.alike()
    assert "'Red leaf' and 'red_leaf' are one class" in said
    assert session.workspace.counts == {session.workspace.pictures[0].label: 2, "oak": 1}
    query = {"name": "e/RED LEAF/4.png", "wrapped": "1", "folder": ["e/RED LEAF"]}  # another selection
    client.post("/farshot/upload", params=query, content=image(4), headers=HEADER)
    assert session.alike() == []
    assert session.workspace.pictures[-1].label == session.workspace.pictures[0].label


def test_the_page_shows_which_folders_became_one_class(sessions: Sessions) -> None:
    client = browser(sessions)
    query = {"name": "d/A/1.png", "wrapped": "1", "folder": ["d/A", "d/a"]}
    client.post("/farshot/upload", params=query, content=image(1), headers=HEADER)
    session = session_of(sessions, client)
    received(session, Encoders("cpu"))
    assert "are one class" in note(session.note)


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


@pytest.mark.parametrize("others", [["test/cat", "train/cat", "train/dog"], [LONG, "cat", "cat"]])
def test_a_picture_is_added_from_the_first_folder_that_can_be_its_class(
    tmp_path: Path, others: list[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        for number, folder in enumerate(others):
            archive.writestr(f"d/{folder}/{number}.png", image(1))
        archive.writestr("d/train/dog/x.png" if "train/cat" in others else "d/dog/x.png", image(2))
    workspace = Workspace(tmp_path / "workspace")
    new, refused = workspace.take([Upload("photos.zip", tmp_path / "zip")])
    one, _ = sorted(new, key=lambda picture: picture.name)
    last = others[-1].rpartition("/")[2]
    assert (one.name, one.label, one.folder) == ("1.png", last, f"d/{others[1]}")
    assert workspace.path(one).read_bytes() == image(1)
    assert [said.name for said in refused] == ["0.png", "2.png"]
    assert "already" not in refused[0].reason
    assert Workspace(workspace.folder).pictures == tuple(new)
