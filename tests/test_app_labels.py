"""What the board of all pictures asks the app for: tiles, pictures for the large view, tables of labels."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from farshot.app import actions
from farshot.app.sessions import Session, Sessions
from farshot.app.workspace import ClassWords
from farshot.app.workspace.encoders import Encoders
from farshot.app.workspace.thumbnails import LARGE
from farshot.data.readers import unlabelled
from farshot.model.encoder import Encoder
from farshot.pick import pick_first
from farshot.pick.sheet import write_choice
from tests import app_clients
from tests.app_clients import HEADER, browser, send, session_of
from tests.workspaces import CLASSES, drawn

pytestmark = app_clients.marks


@pytest.fixture
def client(sessions: Sessions) -> TestClient:
    """A browser with two classes and 0.png to 3.png, two pictures of each class, without labels."""
    made = browser(sessions)
    for number, (_, data) in enumerate(drawn(2)):
        send(made, f"{number}.png", data)
    session_of(sessions, made).workspace.name_classes([ClassWords(name) for name in CLASSES])
    return made


@pytest.fixture
def session(sessions: Sessions, client: TestClient) -> Session:
    found: Session = session_of(sessions, client)
    found.arrived()
    return found


def labels(session: Session) -> list[str | None]:
    return [picture.label for picture in session.workspace.pictures]


def table(client: TestClient, text: str, name: str = "labels.csv") -> Any:
    return send(client, name, text.encode())


# Tiles and large pictures ----------------------------------------------------------------------------------


def test_tiles_tell_what_the_board_shows(client: TestClient, session: Session) -> None:
    ids = [picture.id for picture in session.workspace.pictures]
    session.workspace.label([ids[2]], CLASSES[1])
    session.view.suggested = {ids[3]: "it differs", ids[0]: "typical", ids[2]: "labelled since"}
    session.changed()
    told = client.get("/farshot/tiles").json()
    assert told["tiles"] == [
        [ids[0], "0.png", -1, None, "typical"],
        [ids[1], "1.png", -1, None, ""],
        [ids[2], "2.png", 1, None, ""],
        [ids[3], "3.png", -1, None, "it differs"],
    ]
    assert [one["name"] for one in told["classes"]] == list(CLASSES)
    assert (told["suggested"], told["model"], told["version"]) == (
        [ids[3], ids[0], ids[2]],
        False,
        session.version,
    )


def test_tiles_of_pictures_with_a_prediction_have_its_margin(
    client: TestClient, session: Session, encoders: Encoders
) -> None:
    ids = [picture.id for picture in session.workspace.pictures]
    session.workspace.label(ids[:1], CLASSES[0])
    session.workspace.label(ids[2:3], CLASSES[1])
    before = session.version
    job = actions.start_adapting(session, encoders)
    job.wait(60)
    assert job.error is None
    assert session.version > before  # so that a page asks for the tiles again
    told = client.get("/farshot/tiles").json()
    margins = [row[3] for row in told["tiles"]]
    assert told["model"]
    assert [margin is None for margin in margins] == [True, False, True, False]
    assert all(0 <= margin <= 1 for margin in margins if margin is not None)


def jpeg(width: int, height: int, orientation: int) -> bytes:
    """Its left half is red, its right half blue, as stored."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = pixels[:, width // 2 :, 2] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif.tobytes())
    return buffer.getvalue()


def test_a_large_picture_is_bounded_and_as_the_model_reads_it(sessions: Sessions) -> None:
    client = browser(sessions)
    send(client, "turned.jpg", jpeg(2400, 1200, 6))  # the camera was turned
    deep = np.zeros((30, 20), np.uint16)
    deep[15:] = 4095  # 12 bits
    buffer = io.BytesIO()
    Image.fromarray(deep).save(buffer, "TIFF")
    send(client, "deep.tif", buffer.getvalue())
    turned, dark = session_of(sessions, client).workspace.pictures
    answer = client.get(f"/farshot/large/{turned.id}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert answer.headers["cache-control"] == "no-store"  # it is deleted when the app ends
    shown = Image.open(io.BytesIO(answer.content))
    assert shown.size == (LARGE // 2, LARGE)
    assert not shown.getexif()
    top, bottom = (np.asarray(shown)[row, 500] for row in (100, LARGE - 100))
    assert (top[0] > 200, bottom[2] > 200) == (True, True)
    shown = Image.open(io.BytesIO(client.get(f"/farshot/large/{dark.id}").content))
    assert shown.size == (20, 30)
    assert np.asarray(shown.convert("L"))[-5:].min() > 240
    assert client.get("/farshot/large/../../state").status_code == 404
    assert client.get("/farshot/large/nothing").status_code == 404


def test_nobody_sees_the_tiles_pictures_and_labels_of_another(sessions: Sessions, client: TestClient) -> None:
    eve, id = browser(sessions), client.get("/farshot/tiles").json()["tiles"][0][0]
    assert client.get(f"/farshot/large/{id}").status_code == 200
    assert eve.get(f"/farshot/large/{id}").status_code == 404
    assert eve.get("/farshot/tiles").json()["tiles"] == []
    assert id not in eve.get("/farshot/labels.csv").text


def test_a_label_of_many_pictures_is_one_action(client: TestClient, session: Session) -> None:
    ids = [picture.id for picture in session.workspace.pictures]
    for number, (do, value) in enumerate(
        (("label", CLASSES[0]), ("remove", ""), ("undo", ""), ("undo", "")), 1
    ):
        told = {"do": do, "value": value, "ids": ids if do != "undo" else []}
        sent = {"page": "p", "first": number, "acts": [told]}
        assert client.post("/farshot/act", json=sent, headers=HEADER).status_code == 200
        wanted = {1: [CLASSES[0]] * 4, 2: [], 3: [CLASSES[0]] * 4, 4: [None] * 4}[number]
        assert labels(session) == wanted


# Tables of labels ------------------------------------------------------------------------------------------


def test_the_labels_file_gives_back_the_labels(client: TestClient, session: Session) -> None:
    ids = [picture.id for picture in session.workspace.pictures]
    session.workspace.rename_class(CLASSES[0], "=1+1")
    for id, name in zip(ids[:3], ("=1+1", CLASSES[1], "=1+1"), strict=True):
        session.workspace.label([id], name)
    answer = client.get("/farshot/labels.csv")
    assert "labels.csv" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert [row["label"] for row in rows] == ["'=1+1", CLASSES[1], "'=1+1", ""]
    wanted = labels(session)
    session.workspace.label(ids, None)
    assert send(client, "labels.csv", answer.content).json()["labels"] == "labels.csv: 3 labels set."
    assert labels(session) == wanted
    assert session.workspace.class_names == ("=1+1", CLASSES[1])
    assert session.workspace.undo() == "the labels of labels.csv"
    assert labels(session) == [None] * 4
    session.workspace.redo()
    assert labels(session) == wanted


def test_labels_come_by_file_name_and_bring_classes(
    client: TestClient, session: Session, encoders: Encoders
) -> None:
    send(client, "3.png", drawn(1, start=4000)[0][1])  # another picture of this name
    session.arrived()
    first = session.workspace.pictures[0]
    session.workspace.label([first.id], CLASSES[0])
    text = (
        f"path;label\nphotos/0.png;{CLASSES[0]}\nC:\\photos\\1.png;{CLASSES[1].upper()}\n2.png; mildew \n"
        "3.png;mildew\ngone.png;mildew\n0.png;\n"
    )
    answer = table(client, text, "photos/Mine.CSV")
    assert answer.json()["labels"] == (
        "Mine.CSV: 2 labels set, 1 as before, 1 name unknown: gone.png, 1 name of several pictures: 3.png."
    )
    assert labels(session)[:3] == [CLASSES[0], CLASSES[1], "mildew"]
    assert labels(session)[3] is None
    assert session.workspace.class_names == (*CLASSES, "mildew")
    actions.received(session, encoders)
    assert session.note.text.startswith("Mine.CSV: 2 labels set")
    assert session.note.undo
    session.workspace.undo()
    assert labels(session)[:3] == [CLASSES[0], None, None]
    assert session.workspace.class_names == CLASSES


def test_a_label_never_goes_to_another_picture_of_the_same_name(client: TestClient, session: Session) -> None:
    send(client, "0.png", drawn(1, start=4000)[0][1])  # another picture of this name
    workspace = session.workspace
    ids = [picture.id for picture in workspace.pictures]
    workspace.label_each({ids[0]: CLASSES[0], ids[1]: CLASSES[1], ids[4]: CLASSES[1]})
    saved = client.get("/farshot/labels.csv").content
    workspace.remove([ids[0]])
    workspace.label(ids[1:], None)
    assert send(client, "labels.csv", saved).json()["labels"] == (
        "labels.csv: 2 labels set, 1 name unknown: 0.png."
    )
    assert labels(session) == [CLASSES[1], None, None, CLASSES[1]]
    table(client, f"image,label,id\n2.png,{CLASSES[0]},number 7\n")  # an id of another program
    assert labels(session) == [CLASSES[1], CLASSES[0], None, CLASSES[1]]
    table(client, f"name,path,label,id\n,3.png,{CLASSES[0]},{ids[1]}\n,2.png,{CLASSES[1]},{ids[0]}\n")
    assert labels(session) == [CLASSES[0], CLASSES[0], None, CLASSES[1]]  # ids[0] is not here, ids[1] is


def test_ids_that_only_look_like_those_of_pictures_are_passed_over(
    client: TestClient, session: Session
) -> None:
    a, b = CLASSES
    told = table(client, f"id,path,label\n{'a' * 32},0.png,{a}\n{'b' * 32},1.png,{b}\n").json()
    assert told["labels"] == "labels.csv: 2 labels set."
    assert labels(session) == [a, b, None, None]


def test_of_predictions_the_label_is_meant(client: TestClient, session: Session) -> None:
    table(client, f"image,label,class,sure\n0.png,{CLASSES[0]},{CLASSES[1]},yes\n1.png,,{CLASSES[1]},yes\n")
    assert labels(session)[:2] == [CLASSES[0], None]
    table(client, f"image,class\n1.png,{CLASSES[1]}\n")
    assert labels(session)[1] == CLASSES[1]


def test_labels_of_a_model_and_of_pictures_to_measure_on_are_left_out(
    client: TestClient, session: Session
) -> None:
    a, b = CLASSES
    told = table(client, f"path,label,by\n0.png,{a},person\n1.png,{a},model\n2.png,{b},\n").json()
    assert told["labels"] == "labels.csv: 2 labels set, 1 label of a model left out."
    assert labels(session) == [a, None, b, None]
    told = table(client, f"path,label,split\n1.png,{a},train\n2.png,{a},val\n3.png,{b},Test\n").json()
    assert told["labels"] == "labels.csv: 1 label set, 2 rows of other splits than train left out."
    assert labels(session) == [a, a, b, None]
    told = table(client, f"path,label,split\n2.png,{a},\n3.png,{b},test\n").json()  # of no split
    assert told["labels"] == "labels.csv: 1 label set, 1 row of another split than train left out."
    assert labels(session) == [a, a, a, None]


def test_rows_whose_labels_are_left_out_keep_their_groups(client: TestClient, session: Session) -> None:
    text = "path,label,by,split,group\n0.png,x,model,train,p1\n1.png,x,,test,p1\n2.png,x,,,p2\n"
    told = table(client, text).json()
    assert told["labels"] == (
        "labels.csv: 1 label set, 3 pictures in 2 groups, 1 label of a model left out, "
        "1 row of another split than train left out."
    )
    assert labels(session) == [None, None, "x", None]
    assert [picture.group for picture in session.workspace.pictures] == ["p1", "p1", "p2", None]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,class,x,y\n0.png,x,0.9,0.1\n", "all labels are a model's"),
        ("path,label,by\n0.png,x,model\n", "all labels are a model's"),
        ("path,label,split\n0.png,x,third\n", "'third' is not a split"),
        ("image,name\n0.png,x\n", "no column of labels"),
        ("label\nx\n", "no column of images"),
        ("", "is empty"),
        ("path,label\n0.png,a\n0.png,b\n", "line 3: 0.png has the label 'b', but 'a' in line 2"),
        ("path,label\n0.png\n", "1 cells, but the header has 2"),
        (f"path,label\n0.png,{'x' * 61}\n", "too long"),
        ("path,label\n" + "".join(f"{i}.png,c{i}\n" for i in range(4)) + "x" * 5_000_000, "over 5 MB"),
        ("path,label\n\udcff.png,a\n", "not UTF-8"),
    ],
)
def test_a_table_that_cannot_be_used_changes_nothing(
    client: TestClient, session: Session, text: str, words: str
) -> None:
    version = session.workspace.undoable
    answer = send(client, "bad.csv", text.encode(errors="surrogateescape"))
    assert answer.status_code == 413
    assert words in answer.json()["refused"]
    assert "bad.csv" in answer.json()["refused"] or "xxx" in text
    (refused,) = session.arrived()[1]
    assert words in refused.reason
    assert labels(session) == [None] * 4
    assert session.workspace.class_names == CLASSES
    assert session.workspace.undoable == version


def test_the_table_of_a_pick_sheet_sets_labels_even_where_names_are_equal(
    sessions: Sessions, mini: Encoder, tmp_path: Path
) -> None:
    made = browser(sessions)
    pictures = drawn(2)
    for number, (_, data) in enumerate(pictures):
        (tmp_path / "in" / str(number)).mkdir(parents=True)
        (tmp_path / "in" / str(number) / "photo.png").write_bytes(data)
        send(made, "photo.png", data)
    session = session_of(sessions, made)
    session.workspace.name_classes([ClassWords(CLASSES[0])])
    images = unlabelled([tmp_path / "in"])
    write_choice(tmp_path / "out", pick_first(mini, images, 3, ways=1), images)
    place = tmp_path / "out" / "picked.csv"
    rows = list(csv.DictReader(io.StringIO(place.read_text(encoding="utf-8"))))
    assert len(rows) == 3
    for row in rows[:2]:  # the third is left without a label
        row["label"] = pictures[int(row["path"].split("/")[-2])][0]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    told = table(made, text.getvalue(), "picked.csv").json()
    assert told["labels"] == "picked.csv: 2 labels set."
    by_id = {picture.id: picture.label for picture in session.workspace.pictures}
    assert [by_id.pop(row["id"]) for row in rows] == [rows[0]["label"], rows[1]["label"], None]
    assert set(by_id.values()) == {None}
