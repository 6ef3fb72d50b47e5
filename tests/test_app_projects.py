"""Projects of the app without a browser: who sees them, what changes them, and the folder that holds them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from farshot.app import folders
from farshot.app.access import Access
from farshot.app.server import Options, serving
from farshot.app.sessions import COOKIE, Sessions, new_token
from farshot.app.workspace import Workspace
from farshot.app.workspace.encoders import Report
from farshot.errors import DataError, SettingError
from farshot.storage.atomic import whole_folder
from farshot.web.address import bound
from tests import app_clients
from tests.app_clients import HEADER, Place, bring, do
from tests.workspaces import drawn, labelled, uploads

pytestmark = app_clients.marks


@pytest.fixture
def here(tmp_path: Path) -> Place:
    return Place(tmp_path / "kept")


# Who sees them -------------------------------------------------------------------------------------------


def test_other_users_of_the_computer_see_no_projects(here: Place) -> None:
    id = here.projects.create("Secret leaves")
    ours, eve = here.browser(), here.stranger()
    assert "Secret leaves" in ours.get("/").text
    assert ours.get(f"/p/{id}/").text == "the page of a project"
    paths = ["/", "/?token=", f"/?token={new_token()}", f"/p/{id}/", f"/p/{id}/farshot/export"]
    for path in [*paths, f"/p/{id}/farshot/status", f"/p/{id}/config", "/farshot/start", "/config"]:
        for cookie in (None, new_token(), "", "a" * 300):
            eve.cookies.clear()
            if cookie is not None:
                eve.cookies.set(here.access.cookie, cookie)
            answer = eve.get(path)
            assert answer.status_code in (401, 403), path
            assert "leaves" not in answer.text
            assert "set-cookie" not in answer.headers
    eve.cookies.clear()
    for posted in (do(eve, do="create", name="x"), do(eve, do="delete", id=id), bring(eve, b"x")):
        assert posted.status_code == 403
    assert eve.post(f"/p/{id}/farshot/upload", content=b"x", headers=HEADER).status_code == 403
    assert [one.name for one in here.projects.all()] == ["Secret leaves"]


def test_the_secret_becomes_a_cookie_that_scripts_cannot_read_and_leaves_the_address(here: Place) -> None:
    answer = here.stranger().get(f"/?token={here.secret}")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert here.secret not in cookie + answer.text
    assert "location.replace(location.pathname)" in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_a_cookie_outlives_the_app_and_a_secret_does_not(here: Place) -> None:
    client = here.browser()
    again = Access(b"k" * 32, here.sessions.has)
    assert again.holds(client.cookies[here.access.cookie])
    assert not again.opens(here.secret)
    other = Access(b"l" * 32, here.sessions.has)  # of another folder, whose cookies do not replace ours
    assert not other.holds(client.cookies[here.access.cookie])
    assert other.cookie != here.access.cookie != COOKIE


def test_a_password_gives_access_where_other_computers_are_served(here: Place) -> None:
    client = here.stranger(("farshot", "word"))
    assert client.get("/").status_code == 401
    assert "Projects" in client.get("/", auth=("farshot", "word")).text


def test_a_link_on_another_page_does_not_replace_a_browsers_cookie(sessions: Sessions, here: Place) -> None:
    """Browsers withhold the cookie from such a request; the page asks again by itself."""
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    for client in (app_clients.browser(sessions), here.browser()):
        client.cookies.clear()
        answer = client.get("/", headers=link)
        assert "set-cookie" not in answer.headers
        assert "location.replace" in answer.text
    # the page that opens the browser is such a link
    assert "set-cookie" in here.stranger().get(f"/?token={here.secret}", headers=link).headers


def test_the_projects_header_cannot_be_sent(here: Place) -> None:
    id = here.projects.create("one")
    client = here.browser()
    assert client.get("/farshot/status", headers={"x-farshot-project": id}).status_code == 409
    assert (
        client.post("/gradio_api/queue/join", headers={"x-farshot-project": id}, json={}).status_code == 404
    )


# The list ------------------------------------------------------------------------------------------------


def test_a_project_is_created_filled_renamed_and_found_by_the_next_app(here: Place) -> None:
    client = here.browser()
    id = do(client, do="create", name="  Leaves\n of 2026 ").json()["id"]
    assert send_to(client, id, "oak/a.png", drawn(1)[0][1]).status_code == 200
    assert client.get(f"/p/{id}/farshot/status").json()["busy"] is False
    assert do(client, do="rename", id=id, name="Bäume").json() == {"id": id}
    (one,) = Place(here.root).projects.all()
    assert (one.id, one.name, one.pictures, one.labelled, one.classes) == (id, "Bäume", 1, 1, 1)
    assert (here.root / id).stat().st_mode & 0o777 == 0o700
    page = client.get("/").text
    assert "1 picture, 1 labelled, 1 class." in page
    assert "Saved here." in page


def send_to(client: TestClient, id: str, name: str, data: bytes) -> Any:
    return client.post(f"/p/{id}/farshot/upload", params={"name": name}, content=data, headers=HEADER)


def test_two_projects_of_one_browser_are_not_mixed(here: Place) -> None:
    client = here.browser()
    first, second = here.projects.create("first"), here.projects.create("second")
    send_to(client, first, "a.png", drawn(1)[0][1])
    assert [len(here.sessions.project(id).workspace.pictures) for id in (first, second)] == [1, 0]
    (picture,) = here.sessions.project(first).workspace.pictures
    answer = client.get(f"/p/{first}/farshot/thumbnail/{picture.id}")
    assert (answer.status_code, "no-store" in answer.headers["cache-control"]) == (200, False)
    assert client.get(f"/p/{second}/farshot/thumbnail/{picture.id}").status_code == 404


@pytest.mark.parametrize(
    ("name", "said"),
    [("", "a name"), (" \u202e\n", "a name"), ("x" * 81, "too long"), ("LEAVES", "already")],
)
def test_a_name_that_cannot_be_used_is_one_sentence(here: Place, name: str, said: str) -> None:
    client = here.browser()
    do(client, do="create", name="Leaves")
    other = do(client, do="create", name="Other").json()["id"]
    for answer in (do(client, do="create", name=name), do(client, do="rename", id=other, name=name)):
        assert answer.status_code == 400
        assert said in answer.text
    assert sorted(one.name for one in here.projects.all()) == ["Leaves", "Other"]


def test_a_name_is_shown_as_text(here: Place) -> None:
    here.projects.create("<script>alert(1)</script>")
    assert "<script>alert" not in here.browser().get("/").text


@pytest.mark.parametrize(
    "told", [b"", b"[]", b"{", b"[" * 99999, b'{"do": "rm"}', b'{"do": "create", "name": 7}']
)
def test_what_is_no_wish_is_refused(here: Place, told: bytes) -> None:
    client = here.browser()
    assert client.post("/farshot/projects", content=told, headers=HEADER).status_code == 400
    assert client.post("/farshot/projects", content=told).status_code == 403


def test_deleting_touches_nothing_outside_the_project(here: Place, tmp_path: Path) -> None:
    client = here.browser()
    mine = tmp_path / "mine.png"
    mine.write_bytes(b"mine")
    gone, other = (do(client, do="create", name=name).json()["id"] for name in ("gone", "other"))
    (here.root / gone / "pictures" / "link").symlink_to(tmp_path)
    link = here.root / ("a" * 32)
    link.symlink_to(here.root / other)
    elsewhere = tmp_path / "elsewhere" / ("e" * 32)
    (elsewhere / "pictures").mkdir(parents=True)
    for id in (
        "a" * 32,
        f"../elsewhere/{elsewhere.name}",
        str(elsewhere),
        "..",
        "../mine.png",
        "b" * 32,
        ".",
        "",
        f"{other}/pictures",
    ):
        assert do(client, do="delete", id=id).status_code == 400
    assert do(client, do="delete", id=gone).status_code == 200
    assert mine.read_bytes() == b"mine"
    assert elsewhere.is_dir()
    assert {entry.name for entry in here.root.iterdir()} == {other, link.name}
    assert client.get(f"/p/{gone}/").headers["location"] == "/"
    assert client.get(f"/p/{gone}/farshot/status").status_code == 404
    assert send_to(client, gone, "a.png", b"x").status_code == 404
    assert not (here.root / gone).exists()


def test_a_damaged_project_is_listed_with_what_is_wrong_and_can_be_deleted(here: Place) -> None:
    id = here.projects.create("broken")
    (here.root / id / "state.json").write_text("{")
    (here.root / id / "project.json").write_text("[7]")
    client = here.browser()
    assert "is damaged" in client.get("/").text
    assert do(client, do="delete", id=id).status_code == 200
    assert here.projects.all() == []


def test_work_that_an_earlier_version_kept_is_a_project(here: Place) -> None:
    labelled(here.root, 1)
    (here.root / "workspace").rename(here.root / ("c" * 32))
    (here.root / ("d" * 32) / "pictures").mkdir(parents=True)  # of a browser that brought nothing
    (one,) = here.projects.all()
    assert one.name.startswith("Pictures of 20")
    assert (one.pictures, one.labelled) == (2, 2)
    here.projects.rename(one.id, "Old")
    assert [one.name for one in here.projects.all()] == ["Old"]


def test_projects_that_nobody_uses_make_room_in_memory(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farshot.app.sessions.MOST_SESSIONS", 1)
    first, second = here.projects.create("first"), here.projects.create("second")
    here.sessions.project(first)
    with pytest.raises(DataError, match="try again later"):
        here.sessions.project(second)
    here.sessions.project(first).used -= 601
    here.sessions.project(second)
    assert here.sessions.has(first)


# The folder ----------------------------------------------------------------------------------------------


def test_two_apps_do_not_use_one_folder(tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    with folders.kept(keep) as first:
        first.tell_address("http://127.0.0.1:7860/?token=x")
        said = r"in use by another farshot app at http\S+token=x: open that one"
        with pytest.raises(DataError, match=said), folders.kept(keep):
            pass
        for private in (".farshot-app", ".farshot-key"):
            assert stat.S_IMODE((keep / private).stat().st_mode) == 0o600
    with folders.kept(keep) as again:
        assert again.key == first.key


def test_an_app_that_was_killed_does_not_keep_others_from_its_folder(tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    keep.mkdir()
    code = (
        "import fcntl, os, sys\n"
        "fcntl.flock(os.open(sys.argv[1] + '/.farshot-app', os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX)\n"
        "os.mkdir(sys.argv[1] + '/.arriving-' + 32 * '0')\n"
        "print('locked', flush=True)\n"
        "input()\n"
    )
    command = [sys.executable, "-c", code, str(keep)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "locked\n"
        with pytest.raises(DataError, match="in use by another farshot app: open"), folders.kept(keep):
            pass
        program.kill()
        program.wait(10)
    assert len(list(keep.glob(".arriving-*"))) == 1
    with folders.kept(keep):
        assert not list(keep.glob(".arriving-*"))


def test_a_key_that_others_can_read_is_replaced(tmp_path: Path) -> None:
    with folders.kept(tmp_path / "kept") as first:
        (first.folder / ".farshot-key").chmod(0o644)
    with folders.kept(tmp_path / "kept") as again:
        assert again.key != first.key
        assert len(again.key) == 32


def test_the_address_is_not_on_the_browsers_command_line(tmp_path: Path) -> None:
    """Other users see command lines; the page that leads to the address is for this user alone."""
    with folders.kept(tmp_path / "kept") as kept:
        place = kept.opening("http://127.0.0.1:7860/?token=x")
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
        assert "http://127.0.0.1:7860/?token=x" in place.read_text()
    assert not place.exists()


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("mine")
    with pytest.raises(DataError, match="holds something else"), folders.kept(tmp_path):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.docx"]


def test_the_running_app_has_its_port_before_it_says_so(tmp_path: Path) -> None:
    with serving(Options(keep=tmp_path / "kept")) as running:
        address = httpx.URL(running.url)
        assert "Projects" in page_behind(running.url)
        assert httpx.get(address.copy_with(query=None)).status_code == 401
        assert address.port is not None
        with pytest.raises(SettingError, match="cannot be used"):
            bound("127.0.0.1", [address.port], listening=True)
        with (
            pytest.raises(DataError, match="in use by another") as told,
            serving(Options(keep=tmp_path / "kept")),
        ):
            pass
        assert running.url in str(told.value)


def page_behind(address: str) -> str:
    """The page that a browser shows in the end."""
    with httpx.Client() as client:
        client.get(address)
        return client.get(httpx.URL(address).copy_with(query=None)).text


# Deleted while something is made ---------------------------------------------------------------------------


def test_a_project_that_is_deleted_while_a_model_is_saved_leaves_nothing(here: Place) -> None:
    id = here.projects.create("Leaves")
    session = here.sessions.project(id)
    going = threading.Event()

    def work(report: Report) -> None:
        try:
            while True:
                report("working", 0, 0)
                going.set()
        finally:  # the last thing that a job does
            with whole_folder(session.workspace.folder / "adapted", lambda _: None) as staging:
                (staging / "farshot.json").write_text("{}")

    job = session.start(work)
    assert going.wait(10)
    here.projects.delete(id)
    assert job.stopped
    assert not job.running
    assert [entry.name for entry in here.root.iterdir() if id in entry.name] == []
    with folders.kept(here.root):
        pass


def test_a_browser_that_forgets_everything_does_not_get_the_model_back(sessions: Sessions) -> None:
    token = new_token()
    session = sessions.get(token)
    going = threading.Event()

    def work(report: Report) -> None:
        going.set()
        try:
            while True:
                report("working", 0, 0)
        finally:
            sessions.get(token)  # the page asks again and again
            with whole_folder(session.workspace.folder / "adapted", lambda _: None) as staging:
                (staging / "farshot.json").write_text("{}")

    job = session.start(work)
    assert going.wait(10)
    sessions.forget(token)
    job.wait(10)
    assert not session.workspace.folder.exists()
    assert not sessions.get(token).workspace.adapted.exists()


def test_the_rest_of_a_deleted_project_is_removed_and_nothing_else(here: Place) -> None:
    rest, other = here.root / ("a" * 32), here.root / ("b" * 32)
    for folder in (rest / "adapted", other / "photos"):
        folder.mkdir(parents=True)
        (folder / "x").write_text("x")
    for name in ("predictions.json", "run.json", "left_out.json", "left_out_before.json"):
        (rest / name).write_text("{}")
    with pytest.raises(DataError, match="something else"), folders.kept(here.root):
        pass
    assert (other / "photos" / "x").exists()
    shutil.rmtree(other)
    with folders.kept(here.root):
        assert not rest.exists()


def test_pictures_that_should_be_gone_are_deleted_at_the_start_and_at_the_end(here: Place) -> None:
    id, other = here.projects.create("Leaves"), here.projects.create("Notes")
    place = here.root / id
    arriving = here.projects.arriving()

    def removed() -> list[Path]:
        return [file for name in ("removed", "incoming") for file in (place / name).rglob("*")]

    def leave() -> None:  # as an app does that is killed
        send_to(here.browser(), id, "a.png", drawn(1)[0][1])
        workspace = here.sessions.project(id).workspace
        workspace.remove([picture.id for picture in workspace.pictures])
        (place / "incoming").mkdir(exist_ok=True)
        (place / "incoming" / "half").write_bytes(b"x")
        arriving.write_bytes(b"half a project")
        assert len(removed()) == 2

    leave()
    with folders.kept(here.root):  # another project is opened, this one never
        assert removed() == []
        assert not arriving.exists()
        here = Place(here.root)
        leave()
        Sessions(here.root, keep=True).project(other)
    assert removed() == []
    assert not arriving.exists()


def test_an_app_where_there_are_no_locks_deletes_nothing_of_another_one(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    id = here.projects.create("Leaves")
    send_to(here.browser(), id, "a.png", drawn(1)[0][1])
    workspace = here.sessions.project(id).workspace
    picture = workspace.pictures[0]
    workspace.remove([picture.id])
    arriving, deleted = here.projects.arriving(), here.root / f"{folders.DELETED}{'0' * 32}"
    arriving.write_bytes(b"half a project")
    (deleted / "pictures").mkdir(parents=True)
    with here.sessions.project(id).arrival() as arrival:
        arrival.path.write_bytes(b"half a picture")
        with folders.kept(here.root):
            assert not deleted.exists()
        assert arrival.path.exists()
    assert arriving.exists()
    workspace.undo()
    assert workspace.path(picture).is_file()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_folder_that_was_taken_away_hides_no_other_error(
    tmp_path: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error), folders.kept(tmp_path / "kept") as kept:
        shutil.rmtree(kept.folder)
        raise error


# root may read anything, so a child gives up root before it opens the folder
_AS_NOBODY = """
import os, sys
from pathlib import Path
from farshot.app.folders import kept
from farshot.errors import DataError
if os.geteuid() == 0:
    os.setgid(65534), os.setuid(65534)
root = Path(sys.argv[1])
(root / ("a" * 32)).mkdir(mode=0, parents=True)
try:
    with kept(root):
        pass
except DataError as error:
    print(error)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs permissions of POSIX")
def test_an_entry_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as place:  # where others than its owner can get to
        Path(place).chmod(0o777)
        root = Path(place) / "kept"
        child = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, root], capture_output=True, text=True, check=True
        )
    assert child.stdout.startswith(f"{root / ('a' * 32)}")
    assert "cannot be read (permission denied)" in child.stdout.lower()


def test_pictures_that_the_state_does_not_know_are_kept(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 1)
    files = sorted((workspace.folder / "pictures").iterdir())
    (log,) = workspace.folder.glob("changes-*.jsonl")
    log.unlink()  # as where a backup was restored in part
    assert not Workspace(workspace.folder).pictures
    assert sorted((workspace.folder / "pictures").iterdir()) == files


def test_pictures_whose_labels_cannot_be_written_are_not_kept(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 1)
    (log,) = workspace.folder.glob("changes-*.jsonl")
    log.unlink()
    log.mkdir()  # nothing can be appended to it
    with pytest.raises(DataError, match="cannot be written"):
        workspace.take(uploads(tmp_path / "more", drawn(1, start=3000)))
    assert len(list((workspace.folder / "pictures").iterdir())) == len(workspace.pictures) == 2
