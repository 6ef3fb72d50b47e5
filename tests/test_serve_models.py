"""The models of a service, and how they follow replaced folders."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from farshot import FewShotClassifier
from farshot.images.options import ReadOptions
from farshot.serve.models import Models
from tests.serve_helpers import fitted, good, refusal, service


def test_several_models_are_told_apart_by_their_names(probe: Path, adapted: Path):
    with service(probe, f"leaves-2={adapted}") as running:
        sentence = refusal(running.send(good()), 404)
        assert sentence == "Several models are served (probe, leaves-2); ask one: /models/probe/predict."
        for name in ("probe", "leaves-2"):
            answer = running.send(good(), path=f"/models/{name}/predict").json()
            assert answer["model"] == name
            (row,) = answer["images"]
            assert row["calibrated"] == (name == "probe")
        unknown = refusal(running.send(good(), path="/models/%1b[2Jx/predict"), 404)
        assert unknown == "There is no model '[2Jx'; there are probe, leaves-2."
        listed = running.client.get("/models").json()["models"]
        assert [one["name"] for one in listed] == ["probe", "leaves-2"]
        assert listed[0] == running.client.get("/models/probe").json()
        assert listed[0]["classes"] == ["cat", "dog", "owl"]
        assert listed[0]["smallest_reject"] == 0.1 and listed[0]["largest_coverage"] == 0.9
        assert listed[1]["largest_coverage"] is None


def test_names_that_cannot_be_told_apart_or_written_are_refused(probe: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="are both called probe; name one of them: OTHER="):
        Models([str(probe), f"probe={tmp_path}"])
    with pytest.raises(ValueError, match=r"'a b' cannot be part of an address"):
        Models([str(tmp_path / "a b")])


def test_a_link_is_served_under_its_own_name(probe: Path, tmp_path: Path):
    (tmp_path / "current").symlink_to(probe)
    with service(tmp_path / "current") as running:
        assert running.send(good(), path="/models/current/predict").json()["model"] == "current"


def test_a_model_of_images_with_more_bands_is_served(place: Path):
    folder = place / "bands"
    fitted(place, "linear-probe").save(folder)
    about = json.loads((folder / "farshot.json").read_text())
    about["preprocessing"] = ReadOptions(bands=(4, 3, 2)).to_dict()
    (folder / "farshot.json").write_text(json.dumps(about))
    with service(folder) as running:
        assert "it has no band 4" in refusal(running.send(good()), 422)


def test_a_failed_look_is_not_the_last(place: Path):
    folder = place / "looked"
    fitted(place, "linear-probe").save(folder)
    with service(folder) as running:
        looks, enough = list[int](), threading.Event()

        def failing() -> None:
            looks.append(1)
            if len(looks) == 3:
                enough.set()
            raise OSError("the error stream is closed")

        running.models.look = failing  # type: ignore[method-assign]
        running.models.start(0.01)
        assert enough.wait(60)


def test_a_replaced_model_takes_the_place_of_the_old_one(place: Path):
    folder = place / "replaced"
    fitted(place, "linear-probe").save(folder)
    with service(folder) as running:
        old = running.send(good()).json()
        running.models.look()
        assert running.send(good()).json() == old
        fitted(place, "prototypes").save(folder)
        running.models.look()
        assert running.send(good()).json() == old  # it may still be being written
        running.models.look()
        new = running.send(good()).json()
        assert new["version"] != old["version"]
        assert new["images"][0]["probabilities"] != old["images"][0]["probabilities"]
        assert running.client.get("/models/replaced").json()["method"] == "prototypes"
        assert running.client.get("/health").json()["status"] == "ok"
        assert len(running.told) == 1 and "replaced is now what is in" in running.told[0]
        counted = running.client.get("/metrics").text
        assert 'farshot_reloads_total{model="replaced",outcome="exchanged"} 1.0' in counted


def test_a_request_ends_with_the_model_that_it_began_with(place: Path):
    folder = place / "swapped"
    fitted(place, "linear-probe").save(folder)
    with service(folder) as running:
        one = running.models.served["swapped"]
        old, predict = one.version, one.version.predict

        def swapping(pictures: Any) -> Any:
            fitted(place, "prototypes").save(folder)
            running.models.look()
            running.models.look()
            return predict(pictures)

        old.predict = swapping  # type: ignore[method-assign]
        answer = running.send(good()).json()
        assert answer["version"] == old.id != one.version.id


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("farshot.json", b"{", "farshot.json is damaged"),
        ("parts.safetensors", b"\x00" * 20, "parts.safetensors is damaged"),
        (None, b"", "is gone"),
    ],
)
def test_a_bad_replacement_leaves_the_old_model_and_health_says_so(
    place: Path, tmp_path: Path, file: str | None, content: bytes, words: str
):
    folder = tmp_path / "model"
    made = fitted(place, "linear-probe")
    made.save(folder)
    with service(folder) as running:
        old = running.send(good()).json()
        if file is None:
            folder.rename(tmp_path / "away")
        else:
            (folder / file).write_bytes(content)
        for _ in range(4):
            running.models.look()
        assert running.send(good()).json() == old
        health = running.client.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        error = health.json()["models"]["model"]["error"]
        assert words in error and "is still served." in error
        assert running.told == [error]  # once
        assert running.client.get("/models/model").json()["error"] == error
        if file is None:
            (tmp_path / "away").rename(folder)
        else:
            shutil.rmtree(folder)
            fitted(place, "prototypes").save(folder)
        for _ in range(2):
            running.models.look()
        assert running.client.get("/health").json()["status"] == "ok"
        assert (running.send(good()).json()["version"] == old["version"]) == (file is None)


def test_a_folder_that_failed_is_tried_again_when_what_it_lacked_may_be_there(place: Path, tmp_path: Path):
    folder, base = tmp_path / "model", tmp_path / "clip"
    fitted(place, "linear-probe").save(folder)
    shutil.copytree(place / "clip", base)
    clock = [1000.0]
    with service(folder) as running:
        running.models.clock = lambda: clock[0]
        (one,) = running.models.served.values()
        old = one.version
        images = sorted((place / "data").rglob("*.png"))
        made = FewShotClassifier(base, "prototypes", device="cpu")
        made.fit(images, [image.parent.name for image in images])
        shutil.rmtree(folder)
        made.save(folder)
        base.rename(tmp_path / "away")
        for _ in range(4):
            running.models.look()
        assert one.version is old and one.fault is not None and len(running.told) == 1
        (tmp_path / "away").rename(base)
        running.models.look()
        assert one.version is old  # not at every look
        clock[0] += 31
        running.models.look()
        assert one.version is not old and one.fault is None, one.fault
