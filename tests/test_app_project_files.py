"""A project of the app as one file: exported, imported, and refused where it is none."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farshot.app.models import models
from farshot.app.sessions import Sessions
from farshot.app.workspace import ClassWords, Setup, Workspace
from farshot.app.workspace.archive import exported, file_name, imported
from farshot.app.workspace.intake import Upload
from farshot.app.workspace.limits import Limits
from tests import app_clients, image_bytes
from tests.app_clients import Place, bring, send
from tests.workspaces import drawn, labelled, uploads

pytestmark = app_clients.marks

PNG = drawn(1)[0][1]


@pytest.fixture
def here(tmp_path: Path) -> Place:
    return Place(tmp_path / "kept")


def contents(workspace: Workspace) -> tuple[Any, ...]:
    state = workspace.state
    data = {id: workspace.path(picture).read_bytes() for id, picture in state.pictures.items()}
    return state, data


def test_an_exported_project_is_the_same_where_it_is_imported(here: Place, tmp_path: Path) -> None:
    client = here.browser()
    id = here.projects.create('Leaves: "2026" / CON')
    workspace = here.sessions.project(id).workspace
    classes = [ClassWords("a/b: c", "a <leaf>"), ClassWords("A_b_ c"), ClassWords("empty", "")]
    workspace.name_classes(classes)
    workspace.choose(Setup("some/clip", "clap", True, 0.9))
    for number, name in enumerate((classes[0].name, classes[1].name, None)):
        label, data = drawn(2)[number]
        workspace.take(uploads(tmp_path / str(number), [(label, data)]), name)
    answer = client.get(f"/p/{id}/farshot/export")
    assert answer.headers["content-type"] == "application/zip"
    assert "Leaves" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
    assert len({name.casefold() for name in names}) == 4
    assert all(".." not in name and "\\" not in name and name.count("/") <= 2 for name in names)
    elsewhere = Place(tmp_path / "elsewhere")
    told = bring(elsewhere.browser(), answer.content).json()
    assert (told["name"], told["refused"]) == ('Leaves: "2026" / CON', [])
    assert contents(elsewhere.sessions.project(told["id"]).workspace) == contents(workspace)
    again = bring(elsewhere.browser(), answer.content).json()
    assert again["name"] == 'Leaves: "2026" / CON (2)'
    # other programs, and a project that it is dropped into, have the classes as folders
    plain = Workspace(tmp_path / "plain")
    dropped = tmp_path / "dropped.zip"
    dropped.write_bytes(answer.content)
    plain.take([Upload(dropped.name, dropped)])
    assert len(plain.pictures) == 3
    assert sum(picture.label is None for picture in plain.pictures) == 1


def test_work_without_a_project_is_exported_too(sessions: Sessions) -> None:
    client = app_clients.browser(sessions)
    send(client, "oak/a.png", drawn(1)[0][1])
    answer = client.get("/farshot/export")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert sorted(archive.namelist()) == ["project/oak/a.png", "project/project.json"]


def test_no_path_of_this_computer_is_exported(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    base = tmp_path / "secret" / "clip"
    base.mkdir(parents=True)
    workspace.choose(Setup(str(base)))
    assert b"secret" not in b"".join(exported(workspace, "x"))
    assert file_name("../../x") == "x.zip"
    assert file_name("con") == "_con.zip"


PICTURE = {"file": "a.png", "name": "a.png", "label": None}
FINE: dict[str, Any] = {
    "format": 1,
    "name": "x",
    "classes": [{"name": "a", "description": ""}],
    "settings": {"model": "mini", "method": "clap", "quick": False, "wanted": 0.8},
    "pictures": [PICTURE],
}


def packed(about: Any = FINE, **files: bytes) -> bytes:
    """A zip with this JSON, or text, and files by name."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        text = about if isinstance(about, str) else json.dumps(about)
        archive.writestr("x/project.json", text)
        for name, data in (files or {"a.png": PNG}).items():
            archive.writestr(f"x/{name}", data)
    return out.getvalue()


def twice(data: bytes) -> bytes:
    """A zip with another description in another folder."""
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("y/project.json", json.dumps(FINE))
    return out.getvalue()


def bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        pictures = [{**PICTURE, "file": f"{n}.png"} for n in range(60)]
        archive.writestr("project.json", json.dumps({**FINE, "pictures": pictures}))
        for one in pictures:
            archive.writestr(str(one["file"]), b"\x89PNG\r\n\x1a\n" + bytes(300_000))
    return out.getvalue()


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "no zip": (lambda: b"hello", "damaged or not whole"),
    "no project": (lambda: zipped("a.png", PNG), "no project that farshot exported"),
    "two descriptions": (lambda: twice(packed()), "no project that farshot exported"),
    "no JSON": (lambda: packed("{"), "project.json is damaged"),
    "deep JSON": (lambda: packed("[" * 99999), "project.json is damaged"),
    "a list": (lambda: packed([]), "project.json is damaged"),
    "a newer format": (lambda: packed({**FINE, "format": 2}), "newer farshot"),
    "no name": (lambda: packed({**FINE, "name": 7}), "project.json is damaged"),
    "no classes": (lambda: packed({**FINE, "classes": {"a": 1}}), "project.json is damaged"),
    "no class": (lambda: packed({**FINE, "classes": ["a"]}), "project.json is damaged"),
    "a class twice": (lambda: packed({**FINE, "classes": FINE["classes"] * 2}), "is there twice"),
    "another label": (lambda: packed({**FINE, "pictures": [{**PICTURE, "label": "b"}]}), "is damaged"),
    "a share above one": (
        lambda: packed({**FINE, "settings": {**FINE["settings"], "wanted": 1.5}}),
        "project.json is damaged",
    ),
    "a number for text": (lambda: packed({**FINE, "pictures": [{**PICTURE, "file": 3}]}), "is damaged"),
    "too many pictures": (lambda: packed({**FINE, "pictures": [PICTURE] * 101}), "at most 100"),
    "a bomb": (bomb, "many times its own size"),
    "over the limit": (lambda: packed(FINE, **{"a.png": bytes(20_000_000)}), "over"),
}


def zipped(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_projects_file_is_refused_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    make, said = HOSTILE[kind]
    limits = Limits(images=100, file_bytes=30_000, unpacked_bytes=100_000)
    here = Place(tmp_path / "kept", limits)
    answer = bring(here.browser(), make(), "<b>%41.zip")
    assert answer.status_code == 400
    assert answer.text.startswith("<b>%41.zip: ")
    assert said in answer.text
    assert not list(here.root.iterdir())


def test_pictures_of_a_projects_file_are_checked_as_uploads_are(here: Place) -> None:
    files = {
        "text.png": b"x" * 100,
        "zip.png": zipped("a.png", PNG),
        "fine.png": PNG,
        "huge.png": image_bytes.png(30000, 30000, 8, 2, b""),
    }
    wanted = [*files, "missing.png", "../../../etc/passwd", "/etc/passwd"]
    about = {
        **FINE,
        "pictures": [{**PICTURE, "file": name, "name": f"../{name}", "label": "a"} for name in wanted],
    }
    told = bring(here.browser(), packed(about, **files)).json()
    assert [one.partition(":")[0] for one in told["refused"]] == [
        "text.png",
        "zip.png",
        "huge.png",
        "missing.png",
        "passwd",
        "passwd",
    ]
    (picture,) = here.sessions.project(told["id"]).workspace.pictures
    assert (picture.name, picture.label) == ("fine.png", "a")


def test_a_model_is_exported_by_its_own_name_and_found_where_that_is_clear(tmp_path: Path) -> None:
    checkpoint = tmp_path / "of me" / "clip.safetensors"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"x")
    workspace = labelled(tmp_path, 1)
    workspace.choose(Setup(str(checkpoint)))
    file = tmp_path / "x.zip"
    file.write_bytes(b"".join(exported(workspace, "p")))
    with zipfile.ZipFile(file) as archive:
        assert json.loads(archive.read("p/project.json"))["settings"]["model"] == "clip.safetensors"
    here, there = str(tmp_path / "a" / "clip.safetensors"), str(tmp_path / "b" / "clip.safetensors")
    for number, (offered, chosen) in enumerate((([here, "mini"], here), ([here, there, "mini"], "mini"))):
        other = Workspace(tmp_path / str(number))
        imported(file, other, offered)
        assert other.choice.model == chosen


def test_models_of_one_name_are_listed_apart_without_their_whole_path(tmp_path: Path) -> None:
    given = [str(tmp_path / name) for name in ("first/final", "second/final", "clip.safetensors")]
    for folder in given[:2]:
        Path(folder).mkdir(parents=True)
    Path(given[2]).write_bytes(b"x")
    found = models(given)[:3]
    assert [one.name for one in found] == given
    assert [one.title for one in found] == ["first/final", "second/final", "clip.safetensors"]
    assert found[2].about == "A CLIP in a file of this computer."
    assert all(one.here for one in found)
