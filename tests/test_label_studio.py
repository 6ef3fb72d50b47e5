"""The ML backend of Label Studio: what it predicts, what it learns from, and what it does not fetch."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from farshot import FewShotClassifier, load
from farshot.data.given import labelled_table
from farshot.errors import DataError, SettingError
from farshot.label_studio.instance import Instance
from farshot.label_studio.labels import control_of
from farshot.label_studio.options import Limits, Options
from tests.image_bytes import encoded
from tests.input_helpers import Farshot, picture
from tests.input_helpers import refusal as refused_command
from tests.label_studio_helpers import (
    CLASSES,
    TOKEN,
    Backend,
    FakeLabelStudio,
    backend,
    configured,
    data_url,
    fake_label_studio,
    given,
)
from tests.serve_helpers import fitted, refusal


@pytest.fixture
def fake() -> Iterator[FakeLabelStudio]:
    """A Label Studio without tasks."""
    with fake_label_studio() as running:
        yield running


@pytest.fixture(scope="module")
def ready(probe: Path) -> Iterator[tuple[Backend, FakeLabelStudio]]:
    """A backend of a calibrated model of cat, dog and owl, which learns nothing, and its Label Studio."""
    with fake_label_studio() as running, backend(probe, running.url, labels=1000) as served:
        yield served, running


def png(number: int) -> bytes:
    return encoded(picture(number), "PNG")


# Predictions -------------------------------------------------------------------------------------------


def test_a_project_connects_and_its_tasks_get_calibrated_predictions(
    ready: tuple[Backend, FakeLabelStudio], place: Path
):
    served, fake = ready
    health = served.client.get("/health").json()
    version = served.setup().json()["model_version"]
    assert health["status"] == "UP" and health["model_version"] == version
    assert served.client.get("/versions").json() == {"versions": [version]}
    files = sorted((place / "data").rglob("*.png"))
    tasks = [fake.add(number, file.read_bytes()) for number, file in enumerate(files)]
    answer = served.predict(*tasks, {"id": 99, "data": {"image": data_url(files[0].read_bytes())}}).json()
    assert answer["model_version"] == version and "errors" not in answer
    model = load(place / "probe", device="cpu")
    expected = [*model.predict(files), model.predict(files[:1])[0]]
    scores = [*model.predict_proba(files).max(axis=1)]
    for found, label in zip(answer["results"], expected, strict=True):
        value = {"choices": [label]}
        assert found["result"] == [
            {"from_name": "choice", "to_name": "image", "type": "choices", "value": value}
        ]
        assert found["model_version"] == version
    assert [one["score"] for one in answer["results"][:-1]] == pytest.approx(scores, abs=1e-4)


def test_scores_that_are_not_calibrated_are_left_out(adapted: Path, fake: FakeLabelStudio):
    with backend(adapted, fake.url) as served:
        (found,) = served.predict(fake.add(1, png(1))).json()["results"]
    assert found["result"] and "score" not in found


def test_classes_that_the_project_lacks_are_refused(ready: tuple[Backend, FakeLabelStudio]):
    served, fake = ready
    for response in (
        served.setup(configured("cat", "dog")),
        served.predict(fake.add(1, png(1)), config=configured("cat", "dog")),
    ):
        assert "the classes 'owl', which are no Choices of 'choice'" in refusal(response, 409)


def test_another_project_is_refused(ready: tuple[Backend, FakeLabelStudio]):
    served, _ = ready
    served.setup()
    assert "belongs to project 5, not 6" in refusal(served.setup(project="6.17"), 409)
    body = {"action": "ANNOTATION_CREATED", "annotation": {"task": 1}, "project": {"id": 6}}
    assert "not the one that is served" in refusal(served.client.post("/webhook", json=body), 409)


# What is not fetched -----------------------------------------------------------------------------------

OTHERS = [
    ("http://169.254.169.254/latest/meta-data/", "farshot fetches pictures only from"),
    ("https://evil.example/data/upload/1.png", "only from"),
    ("//evil.example/data/upload/1.png", "only from"),
    ("HTTP://127.0.0.1:1/data/upload/1.png", "only from"),
    ("http://user:word@HOST/data/upload/5/1.png", "only from"),
    ("http://HOST@evil.example/data/upload/5/1.png", "only from"),
    ("file:///etc/passwd", "only from"),
    ("s3://bucket/1.png", "only from"),
    ("/etc/passwd", "only /data/upload/ and /data/local-files/"),
    ("/api/users/", "only /data/upload/ and /data/local-files/"),
    ("http://HOST/api/users/", "only /data/upload/ and /data/local-files/"),
    ("1.png", "only /data/upload/ and /data/local-files/"),
    ("/data/upload/../../api/users/", "no plain path"),
    ("/data/upload/%2e%2e/%2e%2e/api/users/", "no plain path"),
    ("/data/upload/%252e%252e/api/users/", "no plain path"),
    ("/data/upload/..\\api", "no plain path"),
    ("/data/local-files/?d=../../etc/passwd", "no plain path"),
    ("/data/local-files/?d=a%2F..%2F..%2Fetc", "no plain path"),
    ("/data/upload/5/1.png\r\nx: y", "no plain path"),
    ("data:text/plain,hello", "no base64"),
    ("data:image/png;base64,####", "base64 is damaged"),
    ("", "no picture in this column"),
    (None, "no picture in this column"),
    (["/data/upload/5/1.png"], "no picture in this column"),
    ({"a": 1}, "no picture in this column"),
]


@pytest.mark.parametrize(("value", "words"), OTHERS, ids=[str(value)[:40] for value, _ in OTHERS])
def test_what_is_no_picture_of_label_studio_is_never_asked_for(
    ready: tuple[Backend, FakeLabelStudio], value: Any, words: str
):
    served, fake = ready
    asked = len(fake.asked)
    if isinstance(value, str):
        value = value.replace("HOST", fake.url.removeprefix("http://"))
    good = fake.add(2, png(2))
    answer = served.predict({"id": 1, "data": {"image": value}}, good).json()
    assert answer["results"][0] == [] and answer["results"][1]["result"]
    assert words in answer["errors"]["1"] and answer["errors"]["1"].endswith(".")
    assert [path for path, _ in fake.asked[asked:]] == ["/data/upload/5/2.png"]
    assert "task 1 has no prediction" in served.hear("task 1 ")


def test_pictures_that_cannot_be_used_have_a_sentence_each(ready: tuple[Backend, FakeLabelStudio]):
    served, fake = ready
    bomb = encoded(Image.new("1", (9000, 9000)), "PNG")
    tasks = [
        fake.add(number, data)
        for number, data in enumerate([b"", b"nonsense", bomb, b"\x89PNG" + b"\0" * 31_000_000], start=11)
    ]
    gone = {"id": 15, "data": {"image": "/data/upload/5/gone.png"}}
    fake.files["/data/upload/5/away.png"] = "http://169.254.169.254/"
    away = {"id": 16, "data": {"image": f"{fake.url}/data/upload/5/away.png"}}
    answer = served.predict(
        *tasks, gone, away, {"id": 17}, {"data": {"image": "/x"}}, fake.add(18, png(3))
    ).json()
    assert answer["results"][:-1] == [[]] * 8 and answer["results"][-1]["result"]
    words = {
        "11": "empty",
        "12": "no image",
        "13": "pixels",
        "14": "over 30 MB",
        "15": "does not have its picture (404)",
        "16": "elsewhere",
        "17": "no data",
        "8": "only",
    }
    assert answer["errors"].keys() == words.keys()
    for name, part in words.items():
        assert part in answer["errors"][name]
    assert all(len(sentence) < 500 for sentence in answer["errors"].values())


def test_the_token_goes_to_label_studio_alone_and_a_personal_one_is_renewed(fake: FakeLabelStudio):
    fake.files["/data/upload/5/1.png"] = b"picture"
    instance = Instance(fake.url, TOKEN, 100)
    assert instance.picture("/data/upload/5/1.png") == b"picture"
    assert fake.asked[-1] == ("/data/upload/5/1.png", f"Token {TOKEN}")
    instance.close()
    instance = Instance(f"{fake.url}/", "head.body.tail", 100)
    assert instance.picture("/data/upload/5/1.png") == b"picture"
    fake.tokens = {"Bearer access-2"}  # the first access has run out
    assert instance.picture("/data/upload/5/1.png") == b"picture"
    assert fake.renewed == 2
    instance.close()
    instance = Instance(fake.url, "wrong", 100)
    with pytest.raises(DataError, match="refuses \\(401\\); set LABEL_STUDIO_API_KEY"):
        instance.picture("/data/upload/5/1.png")
    instance.close()
    instance = Instance(fake.url, None, 100)
    with pytest.raises(DataError, match="needs a token: set LABEL_STUDIO_API_KEY"):
        instance.picture("/data/upload/5/1.png")
    instance.close()


def test_a_label_studio_below_a_path_keeps_it(fake: FakeLabelStudio):
    fake.files["/studio/data/upload/5/1.png"] = b"picture"
    instance = Instance(f"{fake.url}/studio", TOKEN, 100)
    assert instance.picture("/studio/data/upload/5/1.png") == b"picture"
    assert instance.picture("/data/upload/5/1.png") == b"picture"
    instance.close()


# Requests ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/predict", b"", 400),
        ("/predict", b"[1]", 400),
        ("/predict", b"[" * 100_000, 400),
        ("/predict", b"\xff\xfe", 400),
        ("/predict", b"{}", 400),
        ("/predict", b'{"tasks": [1], "label_config": "<View/>"}', 400),
        ("/predict", b'{"tasks": [], "label_config": 3}', 400),
        ("/predict", b'{"tasks": [], "label_config": "<View"}', 422),
        ("/predict", b'{"tasks": [], "label_config": "<View/>"}', 422),
        ("/predict", b"[" * 1_000_001, 413),
        ("/setup", b"{}", 400),
        ("/setup", b'{"project": true, "schema": "<View/>"}', 400),
        ("/webhook", b"{}", 400),
        ("/webhook", b'{"action": "ANNOTATION_CREATED"}', 400),
        ("/webhook", b'{"action": "START_TRAINING", "project": {"id": "x"}}', 400),
        ("/train", b'{"project": null}', 400),
        ("/nothing", b"{}", 404),
        ("/health", b"{}", 405),
    ],
)
def test_nonsense_is_refused_with_a_sentence(
    ready: tuple[Backend, FakeLabelStudio], path: str, body: bytes, status: int
):
    assert refusal(ready[0].client.post(path, content=body), status)


def test_requests_are_bounded(probe: Path):
    with backend(probe, "http://127.0.0.1:1", limits=Limits(tasks=2, request_bytes=1000)) as served:
        many = served.predict(*({"id": n, "data": {}} for n in range(3)))
        assert "at most 2 tasks" in refusal(many, 413)
        assert "over" in refusal(served.client.post("/predict", content=b" " * 2000), 413)


def test_other_computers_need_the_key(probe: Path):
    with pytest.raises(SettingError, match="must bring a key"):
        Options(probe, "http://127.0.0.1:1", host="0.0.0.0")
    key = "0123456789abcdef"
    with backend(probe, "http://127.0.0.1:1", host="0.0.0.0", api_key=key) as served:
        assert refusal(served.setup(), 401)
        assert refusal(served.client.post("/webhook", json={"action": "x"}, auth=("any", "wrong")), 401)
        health = served.client.get("/health").json()
        assert health["status"] == "UP" and "project" not in health
        schema = {"project": "5", "schema": configured()}
        assert served.client.post("/setup", json=schema, auth=("any", key)).status_code == 200
        broken = {"authorization": "Basic ####"}
        assert refusal(served.client.post("/setup", json=schema, headers=broken), 401)


# Learning ----------------------------------------------------------------------------------------------


def test_labels_are_learned_in_the_background_and_survive_a_restart(
    place: Path, tmp_path: Path, fake: FakeLabelStudio
):
    folder, model = tmp_path / "model", str(place / "clip")
    for number in range(6):
        fake.add(number, png(number), CLASSES[number % 2] if number < 4 else None)
    with backend(folder, fake.url, model=model) as served:
        assert served.setup(project=5).json() == {"model_version": None}
        assert served.predict(fake.tasks[0]).json() == {"results": [[]], "model_version": None}
        served.hear("adapted to 4 pictures")  # they were there before it connected
        first = served.setup().json()["model_version"]
        assert first.startswith("farshot-")
        results = served.predict(*fake.tasks).json()["results"]
        assert {one["result"][0]["value"]["choices"][0] for one in results} <= {"cat", "dog"}
        # a label that changes and one that goes count as two, new ones as one each
        fake.tasks[0]["annotations"] = [given("dog")]
        fake.tasks[1]["annotations"] = []
        served.labelled(0, 1)
        fake.tasks[4]["annotations"] = [given("owl")]
        served.labelled(4)
        assert served.setup().json()["model_version"] == first
        fake.tasks[5]["annotations"] = [given("cat"), given("owl", id=2), given("dog", was_cancelled=True)]
        served.labelled(5)
        served.hear("adapted to 5 pictures")
        second = served.setup().json()["model_version"]
        assert second != first
    assert sorted(load(folder, device="cpu").classes_) == ["cat", "dog", "owl"]
    fake.tasks[2]["annotations"] = [given("owl")]
    with backend(folder, fake.url, labels=1) as served:  # a label that came while it did not run
        served.hear("1 of them new or changed")
        assert served.hear("now answers")
        assert served.setup().json()["model_version"] != second
    with backend(folder, fake.url) as served:
        asked = len(fake.asked)
        body = {"action": "START_TRAINING", "project": {"id": 5}}
        assert served.client.post("/webhook", json=body).status_code == 201
    assert not [path for path, _ in fake.asked[asked:] if path.startswith("/data")]  # nothing is new


def test_labels_are_found_without_webhooks_when_it_connects_again(
    place: Path, tmp_path: Path, fake: FakeLabelStudio
):
    options = {"model": str(place / "clip"), "limits": Limits(look_seconds=0)}
    with backend(tmp_path / "model", fake.url, **options) as served:
        served.setup()
        for number in range(4):
            fake.add(number, png(number), CLASSES[number % 2])
        fake.files["/data/upload/5/0.png"] = b"nonsense"
        fake.files["/data/upload/5/2.png"] = b"nonsense"
        served.setup()
        served.hear("Not adapted: Pictures of two classes are needed")
        asked = len(fake.asked)
        served.setup()  # what failed is not tried again by itself
        served.client.post("/webhook", json={"action": "TASKS_CREATED", "project": {"id": 5}})
        fake.tasks[3]["annotations"] = [given("owl")]
        served.setup()
        served.hear("adapted to 2 pictures")
        assert len([path for path, _ in fake.asked[asked:] if path.startswith("/data")]) == 4


def test_what_it_waits_for_and_why_it_failed_is_said(place: Path, tmp_path: Path, fake: FakeLabelStudio):
    for number in range(4):
        fake.add(number, png(number), "cat")
    with backend(tmp_path / "model", fake.url, model=str(place / "clip"), labels=4) as served:
        served.setup()
        assert "All labels so far are cat" in served.hear("Not adapted")
        fake.tasks[3]["annotations"] = [given("dog")]
        fake.files["/data/upload/5/3.png"] = b"nonsense"
        served.labelled(3)
        assert "only 3 of 4 labelled ones can be used (the first, task 3: " in served.hear("Not adapted")
        fake.files["/data/upload/5/3.png"] = png(0)
        served.labelled(3)
        assert "Tasks 0 and 3 show one picture" in served.hear("Not adapted")
        assert "Tasks 0 and 3" in served.client.get("/health").json()["note"]
        fake.files["/data/upload/5/3.png"] = png(3)
        served.labelled(3)
        served.hear("adapted to 4 pictures")
        fake.tasks[0]["annotations"] = [given("dog")]
        fake.files.clear()  # the model before stays
        version = served.setup().json()["model_version"]
        served.client.post("/train", json={"project": "5.1700000000"})
        served.hear("Not adapted")
        assert served.setup().json()["model_version"] == version
        assert served.predict({"id": 1, "data": {"image": data_url(png(1))}}).json()["results"][0]["result"]


def test_labelled_tasks_without_a_certain_class_are_left_out_and_named_once(
    place: Path, tmp_path: Path, fake: FakeLabelStudio
):
    for number in range(5):
        fake.add(number, png(number), CLASSES[number % 2])
    fake.tasks[4]["annotations"][0]["result"] *= 2
    fake.add(5, png(5), "none of the choices")
    fake.add(6, png(6), CLASSES[0])["data"]["group"] = ["a", "b"]
    options = {"model": str(place / "clip"), "limits": Limits(look_seconds=0)}
    with backend(tmp_path / "model", fake.url, **options) as served:
        served.setup()
        told = served.hear("no certain")
        assert told.startswith("2 labelled tasks have no certain label, split or group: task 4: it has 2 cl")
        assert "task 6: its data: group must be text or a number, not ['a', 'b']; correct" in told
        served.hear("adapted to 4 pictures")
        served.client.post("/train", json={"project": 5})
        fake.tasks[0]["annotations"] = []
        served.client.post("/train", json={"project": 5})
        assert served.said.get(timeout=60).startswith("Adapting to 3 labels")


def test_a_model_of_files_keeps_them_when_labels_are_added(
    place: Path, tmp_path: Path, fake: FakeLabelStudio
):
    folder = tmp_path / "model"
    fitted(place, "linear-probe").save(folder)
    for number in range(4):
        fake.add(number, png(500 + number), CLASSES[number % 3])
    with backend(folder, fake.url) as served:
        served.setup()
        served.hear("adapted to 13 pictures")
    with backend(folder, fake.url, labels=1) as served:
        fake.tasks[0]["annotations"] = [given("owl")]
        served.labelled(0)
        served.hear("adapted to 13 pictures")


@pytest.mark.parametrize("kind", ["arrays", "without places"])
def test_a_model_whose_pictures_lie_nowhere_is_refused_and_stays(
    place: Path, tmp_path: Path, fake: FakeLabelStudio, kind: str
):
    folder = tmp_path / "model"
    if kind == "arrays":
        model = FewShotClassifier(place / "clip", "linear-probe", device="cpu")
        model.fit([picture(number) for number in range(6)], [*CLASSES] * 2).save(folder)
    else:
        fitted(place, "linear-probe").save(folder)
        (folder / "labelled.json").unlink()
    before = (folder / "farshot.json").read_bytes()
    with (
        pytest.raises(DataError, match="does not know where its images lie: they were not files"),
        backend(folder, fake.url),
    ):
        pass
    assert (folder / "farshot.json").read_bytes() == before


def test_a_model_of_an_earlier_version_and_its_labels_goes_on(
    place: Path, tmp_path: Path, fake: FakeLabelStudio
):
    folder, state = tmp_path / "model", tmp_path / "model.label-studio.json"
    model = FewShotClassifier(place / "clip", "linear-probe", calibrate=False, device="cpu")
    model.fit([picture(number) for number in range(4)], [*CLASSES[:2]] * 2).save(folder)
    told = {"format": 1, "project": 5, "labels": {str(n): CLASSES[n % 2] for n in range(4)}}
    state.write_text(json.dumps(told), encoding="utf-8")  # it had no "pictures"
    for number in range(5):
        fake.add(number, png(number), CLASSES[number % 2])
    with backend(folder, fake.url, labels=1) as served:
        served.setup()
        served.hear("adapted to 5 pictures")
    with backend(folder, fake.url, labels=1) as served:
        assert served.setup().json()["model_version"]
    lost = "does not know where its images lie: they were not files"
    for text, why in [
        ("{", r"is damaged .*put back a copy, or name another folder"),
        (json.dumps({"format": 1, "project": 5, "labels": {}}), lost),  # adapted before it connected
        (None, lost),
    ]:
        state.unlink() if text is None else state.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=why), backend(folder, fake.url):
            pass


def test_a_kept_picture_that_shows_something_else_is_refused(
    place: Path, tmp_path: Path, fake: FakeLabelStudio
):
    files = [tmp_path / f"{number}.png" for number in range(4)]
    for number, file in enumerate(files):
        file.write_bytes(png(number))
    folder = tmp_path / "model"
    model = FewShotClassifier(place / "clip", "linear-probe", device="cpu")
    model.fit(files, [*CLASSES[:2]] * 2).save(folder)
    files[0].write_bytes(png(100))
    for number in range(4):
        fake.add(number, png(500 + number), CLASSES[number % 2])
    with backend(folder, fake.url) as served:
        version = served.setup().json()["model_version"]
        assert f"{files[0]}, which is no longer there or has changed" in served.hear("Not adapted")
        assert served.setup().json()["model_version"] == version


def test_groups_and_splits_of_tasks_count_and_groups_of_the_model_stay(
    place: Path, tmp_path: Path, fake: FakeLabelStudio
):
    folder = tmp_path / "model"
    files = sorted((place / "data").rglob("*.png"))
    table, _ = labelled_table(files, [file.parent.name for file in files])
    model = FewShotClassifier(place / "clip", "linear-probe", device="cpu")
    before = [f"plant {number // 3}" for number in range(len(files))]
    model.fit(replace(table, groups=tuple(before))).save(folder)
    more = [
        {"group": "plant 0"},
        {"group": 7, "split": "train"},
        {},
        {"split": "validation"},
        {"split": "test"},
        {"split": "holdout"},
    ]
    for number, columns in enumerate(more):
        fake.add(number, png(500 + number), CLASSES[number % 3])["data"] |= columns
    with backend(folder, fake.url, labels=3) as served:
        served.setup()
        assert served.hear("since their split") == (
            "3 labelled tasks are not learned from, since their split is not train: task 3: validation. "
            "task 4: test. task 5: holdout."
        )
        served.hear(f"adapted to {len(files) + 3} pictures")
    groups = [one["group"] for one in load(folder, device="cpu").support_places_]
    assert groups[:-1] == [*before, "plant 0", "7"] and groups[-1] not in groups[:-1]


def test_labels_of_pictures_that_could_not_be_read_are_learned_later(
    place: Path, tmp_path: Path, fake: FakeLabelStudio
):
    for number in range(6):
        fake.add(number, png(number), CLASSES[number % 2])
    gone = {path: fake.files.pop(path) for path in list(fake.files)[4:]}
    options = {"model": str(place / "clip"), "labels": 2, "limits": Limits(look_seconds=0)}
    start = {"action": "START_TRAINING", "project": {"id": 5}}
    with backend(tmp_path / "model", fake.url, **options) as served:
        served.setup()
        served.hear("adapted to 4 pictures")
        asked = len(fake.asked)
        served.setup()  # by itself it is not tried again
        fake.tasks[0]["annotations"] = []
        served.setup()
        path, one = gone.popitem()
        fake.files[path] = one
        served.client.post("/webhook", json=start)
        served.hear("adapted to 4 pictures")  # without the first, with the last
        assert len([path for path, _ in fake.asked[asked:] if path.startswith("/data")]) == 5
        fake.files |= gone
        served.client.post("/webhook", json=start)
        served.hear("adapted to 5 pictures")


def test_labels_are_new_where_the_model_was_removed(place: Path, tmp_path: Path, fake: FakeLabelStudio):
    folder, model = tmp_path / "model", str(place / "clip")
    for number in range(4):
        fake.add(number, png(number), CLASSES[number % 2])
    for _ in range(2):
        with backend(folder, fake.url, model=model) as served:
            served.setup()
            served.hear("adapted to 4 pictures")
        shutil.rmtree(folder)


def test_it_ends_while_it_adapts(place: Path, tmp_path: Path, fake: FakeLabelStudio):
    for number in range(4):
        fake.add(number, png(number), CLASSES[number % 2])
    settings = {"steps": "100000", "views": "none"}
    options = {"model": str(place / "clip"), "method": "prompt-lora", "settings": settings}
    with backend(tmp_path / "model", fake.url, **options) as served:
        served.setup()
        served.hear("Adapting to 4 labels")
    assert not (tmp_path / "model").exists()


# Options and configurations ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><View>&b;</View>", "document type"),
        ("<View>", "is no XML"),
        ('<View><Text name="t" value="$t"/><Choices name="c" toName="t"/></View>', "no Choices of an Image"),
        (configured(more='<Choices name="more" toName="image"/>'), "several Choices ('choice', 'more')"),
        (configured().replace("<Choices", '<Choices choice="multiple"'), "several classes for a picture"),
        (configured().replace('value="$image"', 'value="image"'), "no column"),
        (
            configured().replace('<Choice value="cat"/>', '<Choice value="a"><Choice value="b"/></Choice>'),
            "nested",
        ),
    ],
)
def test_configurations_that_cannot_be_used_are_refused(config: str, words: str):
    with pytest.raises(DataError) as error:
        control_of(config)
    assert words in str(error.value)


def test_the_choices_can_be_named_and_may_have_aliases():
    config = configured(
        more='<Choices name="more" toName="image"><Choice value="A cat" alias="c"/></Choices>'
    )
    assert control_of(config, "more").classes == {"c": "A cat"}
    with pytest.raises(DataError, match="no Choices 'other'"):
        control_of(config, "other")


def test_the_command_refuses_what_it_cannot_use(farshot: Farshot, tmp_path: Path, adapted: Path):
    mini = ("--model", "mini", "--port", "0")
    told = farshot("label-studio", tmp_path / "new", "--label-studio", "ftp://x", *mini)
    assert "is no address of a Label Studio" in refused_command(told)
    assert "transductive" in refused_command(
        farshot("label-studio", tmp_path / "new", "--method", "transclip", *mini)
    )
    assert "name it with --method" in refused_command(
        farshot("label-studio", tmp_path / "new", "--set", "steps=1", *mini)
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    assert "not an adapted model" in refused_command(farshot("label-studio", tmp_path / "full", *mini))
    state = adapted.with_name("adapted.label-studio.json")
    state.write_text(json.dumps({"format": 1, "project": "x", "labels": {}}), encoding="utf-8")
    assert "is damaged" in refused_command(farshot("label-studio", adapted, "--port", "0"))
    state.write_text(json.dumps({"format": 1, "project": 4, "labels": {}}), encoding="utf-8")
    told = farshot("label-studio", adapted, "--port", "0", "--project", "5")
    assert "belongs to project 4, not 5" in refused_command(told)
    state.unlink()


def test_base64_is_read_within_limits(fake: FakeLabelStudio):
    instance = Instance(fake.url, None, 100)
    head = "data:image/png;base64,"
    assert instance.picture(head + base64.b64encode(b"a" * 100).decode()) == b"a" * 100
    with pytest.raises(DataError, match="over"):
        instance.picture(head + base64.b64encode(b"a" * 110).decode())
    instance.close()
