"""The prediction service: what it answers."""

from __future__ import annotations

import base64
import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tools.site_hooks import outside_loads

from farshot import load
from farshot.evaluation.calibration import Limit
from farshot.serve.options import Batching
from tests import hostile_files, hostile_images
from tests.input_helpers import Farshot, picture
from tests.serve_helpers import Service, files_of, fitted, good, refusal, service


def various(folder: Path) -> list[Path]:
    """Pictures that are read in different ways: a draft, deep values, an animation, turned, transparent."""
    folder.mkdir()
    large = picture(1, 40, 30).resize((2600, 2000))
    large.save(folder / "large.jpg")
    deep = np.random.default_rng(2).integers(0, 4096, (30, 40), dtype=np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    film = [picture(number) for number in (3, 4)]
    film[0].save(folder / "film.gif", save_all=True, append_images=film[1:])
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(5).save(folder / "turned.jpg", exif=exif)
    picture(6).convert("RGBA").save(folder / "clear.webp")
    return sorted(folder.iterdir())


# Predictions -------------------------------------------------------------------------------------------


def same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """Equal fields, the numbers up to what another batch changes."""
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours["image"] == Path(theirs["image"]).name
        assert {**ours, "image": 0, "probabilities": 0, "note": 0} == {
            **theirs,
            "image": 0,
            "probabilities": 0,
            "note": 0,
        }
        assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=2e-6)


@pytest.mark.filterwarnings("ignore::farshot.data.table.ReadingNote")
@pytest.mark.parametrize("batch", [1, 2, 32])
def test_answers_are_those_of_farshot_predict(probe: Path, farshot: Farshot, tmp_path: Path, batch: int):
    paths = various(tmp_path / "new")
    files = [(path.name, path.read_bytes()) for path in paths]
    told = farshot("predict", probe, *paths, "--json", "--reject", "0.3", "--coverage", "0.8")
    wanted = json.loads(told.out)
    assert {row["rejected"] for row in wanted} <= {True, False} and len(wanted) == 5
    with service(probe, batching=Batching(batch)) as running:
        by_form = running.send(*files, reject="0.3", coverage="0.8").json()
        by_json = running.send_json(*files, reject=0.3, coverage=0.8).json()
        by_address = running.send(*files, path="/predict?reject=0.3&coverage=0.8").json()
    same(by_form["images"], wanted)
    same(by_json["images"], wanted)
    same(by_address["images"], wanted)


def test_a_fine_tuned_model_that_is_not_calibrated_answers_as_predict_does(adapted: Path, farshot: Farshot):
    files = files_of(adapted.parent)
    paths = sorted((adapted.parent / "data").rglob("*.png"))
    wanted = json.loads(farshot("predict", adapted, *paths, "--json").out)
    with service(adapted, batching=Batching(4)) as running:
        answer = running.send(*files).json()
        assert answer["model"] == "adapted"
        assert not any(row["calibrated"] for row in answer["images"])
        same(answer["images"], wanted)
        sentence = refusal(running.send(*files, coverage="0.8"), 400)
        assert "need cross-validated predictions" in sentence


def test_what_was_left_out_of_an_image_is_noted(served: Service, tmp_path: Path):
    films = [path for path in various(tmp_path / "new") if path.name == "film.gif"]
    (row,) = served.send(*[(path.name, path.read_bytes()) for path in films]).json()["images"]
    assert row["note"] == "it is an animation; the first frame is read."
    assert "note" not in served.send(good()).json()["images"][0]


def test_every_image_is_decoded_once(served: Service, decoded: list[object]):
    assert served.send(good(1), good(2), ("bad.png", b"x")).status_code == 200
    assert len(decoded) == 2


def test_images_of_a_request_are_answered_in_their_order_with_the_bad_ones(served: Service):
    files = [good(1), ("bad.png", b"\x89PNG\r\n\x1a\n"), good(2), ("text.png", b"hello"), ("", good(3)[1])]
    response = served.send_json(*files)
    assert response.status_code == 200
    rows = response.json()["images"]
    assert [row["image"] for row in rows] == ["1.png", "bad.png", "2.png", "text.png", "image 5"]
    assert [set(row) == {"image", "error"} for row in rows] == [False, True, False, True, False]
    alone = served.send(good(2)).json()["images"][0]
    assert rows[2]["probabilities"] == pytest.approx(alone["probabilities"], abs=2e-6)


def test_a_request_without_a_usable_image_is_refused(served: Service):
    assert refusal(served.send(("a.png", b"hello")), 422).startswith("a.png: this is no image")
    both = refusal(served.send(("a.png", b"hello"), ("b.png", b"")), 422)
    assert both.startswith("None of the 2 images can be used; the first, a.png: this is no image")


def hostile(folder: Path) -> list[tuple[str, str, bytes, str, int]]:
    return [*hostile_images.images(), *hostile_files.files(folder / "ran")]


def test_every_hostile_image_is_refused_with_its_sentence(served: Service, tmp_path: Path):
    for kind, _, data, words, taken in hostile(tmp_path):
        response = served.send((f"{kind}.png", data))
        if taken:
            assert response.status_code == 200, (kind, response.text)
        else:
            sentence = refusal(response, 422)
            zipped = data.startswith(b"PK")  # the app opens zips
            assert ("a zip archive" if zipped else words) in sentence, (kind, sentence)
    assert not (tmp_path / "ran").exists()
    assert served.send(good()).status_code == 200


def test_names_of_files_cannot_act(served: Service):
    name = "\x1b[2J\u202egnp\r\n.png" + "a" * 5000
    (row,) = served.send_json((name, good()[1])).json()["images"]
    assert row["image"].startswith("[2Jgnp.png") and len(row["image"]) <= 300


def test_explanations_are_pictures(served: Service, adapted: Path):
    rows = served.send(good(1), good(2), explain="true").json()["images"]
    for row in rows:
        kind, _, data = row["explanation"].partition(",")
        assert kind == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).width > 900
    assert rows[0]["explanation"] != rows[1]["explanation"]
    assert "explanation" not in served.send(good(1), explain="false").json()["images"][0]
    with service(adapted) as running:
        assert running.send(good(1), explain="1").json()["images"][0]["explanation"].startswith("data:")


# Transductive methods ----------------------------------------------------------------------------------


def test_images_of_a_transductive_method_are_classified_by_request(place: Path, farshot: Farshot):
    fitted(place, "transclip").save(place / "together")
    files, paths = files_of(place), sorted((place / "data").rglob("*.png"))
    wanted = json.loads(farshot("predict", place / "together", *paths, "--json").out)
    few = json.loads(farshot("predict", place / "together", *paths[:4], "--json").out)
    assert wanted[0]["probabilities"] != few[0]["probabilities"]
    with service(place / "together", batching=Batching(32, 0.05)) as running:
        with ThreadPoolExecutor(4) as pool:
            asked = [files, files[:4], files, files[:4]]
            answers = [one.json()["images"] for one in pool.map(lambda part: running.send(*part), asked)]
        for answer, expected in zip(answers, (wanted, few, wanted, few), strict=True):
            same(answer, expected)
            assert "is transductive" in answer[0]["note"]
        sentence = refusal(running.send(*files, ("bad.png", b"x")), 422)
        assert "1 of 10 images cannot be used" in sentence and "bad.png" in sentence


# About -------------------------------------------------------------------------------------------------


def test_the_page_describes_every_route_and_asks_nobody_else(served: Service):
    page = served.client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert not outside_loads(page.text) and "<script" not in page.text
    schema = served.client.get("/openapi.json").json()
    assert set(schema["paths"]) == {
        *("/predict", "/models/{name}/predict", "/models", "/models/{name}", "/health", "/metrics"),
    }
    for path, verbs in schema["paths"].items():
        assert path in page.text
        for about in verbs.values():
            listed = {one["name"] for one in about.get("parameters", ()) if one["in"] == "path"}
            assert listed == set(re.findall(r"\{(\w+)\}", path))
    assert "HTTPValidationError" not in page.text
    for link in re.findall(r'href="#(\w+)"', page.text):
        assert f'id="{link}"' in page.text
    kinds = schema["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert set(kinds) == {"multipart/form-data", "application/json"}
    fields = schema["components"]["schemas"]["Prediction"]["properties"]
    rows = served.send(good(), ("x", b""), reject="0.2", coverage="0.5", explain="1").json()["images"]
    assert {name for row in rows for name in row} <= set(fields)


def test_the_limit_of_a_model_and_its_answers_are_as_described(probe: Path, tmp_path: Path):
    made = load(probe)
    made.limit_ = Limit(0.9, 0.5)
    made.save(tmp_path / "limited")
    with service(tmp_path / "limited") as limited:
        known = limited.client.get("/openapi.json").json()["components"]["schemas"]
        (model,) = limited.client.get("/models").json()["models"]
        rows = limited.send(good(1), good(2), reject="0.2", coverage="0.5").json()["images"]
    assert set(model) == set(known["Model"]["properties"])
    assert model["limit"] == {"wanted": 0.9, "probability": 0.5}
    assert set(model["limit"]) == set(known["Limit"]["properties"])
    for row in rows:
        assert row["sure"] == (max(row["probabilities"].values()) >= 0.5)
        assert set(row) <= set(known["Prediction"]["properties"])


def test_what_is_not_there_is_said_in_a_sentence(served: Service):
    assert "/docs lists" in refusal(served.client.get("/nothing"), 404)
    assert "GET is not for this address" in refusal(served.client.get("/predict"), 405)
    assert "no model" in refusal(served.client.get("/models/x"), 404)


def test_an_error_of_ours_is_said_and_the_service_goes_on(probe: Path):
    with service(probe) as running:
        version = running.models.served["probe"].version
        predict = version.predict

        def broken(_pictures: Any) -> Any:
            raise RuntimeError("secret")

        version.predict = broken  # type: ignore[method-assign]
        sentence = refusal(running.send(good()), 500)
        assert "RuntimeError" in sentence and "secret" not in sentence
        version.predict = predict  # type: ignore[method-assign]
        assert running.send(good()).status_code == 200


def test_requests_images_and_batches_are_counted(probe: Path):
    with service(probe) as running:
        running.send(good(1), good(2), ("x", b""))
        running.send(("x", b""))
        counted = running.client.get("/metrics")
        assert counted.headers["content-type"].startswith("text/plain; version=0.0.4")
        for line in (
            'farshot_requests_total{path="/predict",status="200"} 1.0',
            'farshot_requests_total{path="/predict",status="422"} 1.0',
            'farshot_images_total{model="probe",outcome="predicted"} 2.0',
            'farshot_images_total{model="probe",outcome="refused"} 2.0',
            "farshot_batch_images_sum 2.0",
            "farshot_request_seconds_count 1.0",
            "farshot_images_inside 0.0",
        ):
            assert line in counted.text, line
        assert "process_resident_memory_bytes" in counted.text
