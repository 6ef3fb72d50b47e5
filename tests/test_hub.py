"""Adapted models on the hub: what is uploaded, what the card says, and how they are loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import LocalTokenNotFoundError
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from farshot import FewShotClassifier, load
from farshot.classifier.hub import UploadNote, feature_tensors
from farshot.classifier.stream import MeasuringNote
from farshot.errors import DataError, ModelError
from farshot.export import push
from farshot.export.about import load_exact
from farshot.storage.hub import client_error, repository
from tests.input_helpers import Farshot, refusal
from tests.toy import toy_task, world_table

TABLE = world_table(count=120)
TASK = toy_task(TABLE)
SUPPORT, QUERIES = TABLE.subset(TASK.support), TABLE.subset(TASK.query)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Kind(Strict):
    type: str
    name: str | None = None


class Metric(Strict):
    type: str = Field(pattern="^(accuracy|balanced_accuracy)$")
    value: float = Field(ge=0, le=1)
    name: str
    args: dict[str, Any]


class Result(Strict):
    task: Kind
    dataset: Kind
    metrics: list[Metric] = Field(min_length=1)


class Entry(Strict):
    name: str
    results: list[Result] = Field(min_length=1)


class Metadata(Strict):
    """What the hub's documentation of model cards gives as keys and types."""

    base_model: str | None = Field(default=None, pattern="^[^/ ]+/[^/ ]+$")
    base_model_relation: str | None = Field(default=None, pattern="^(adapter|finetune|merge|quantized)$")
    datasets: list[str] | None = None
    library_name: str
    license: str = Field(pattern=r"^[a-z0-9.\-]+$")
    metrics: list[str] | None = None
    pipeline_tag: str = Field(pattern="^(zero-shot-)?image-classification$")
    tags: list[str]
    model_index: list[Entry] | None = Field(default=None, alias="model-index")


def metadata(card: str) -> Metadata:
    """The metadata of a card, which the hub's own client reads as well."""
    found = ModelCard(card, ignore_metadata_errors=False)
    assert found.data.to_dict()
    return Metadata.model_validate(yaml.safe_load(card.split("---")[1]))


class FakeHub:
    """A repository in memory.

    Attributes:
        files: name -> content.
        private: None before it is created.
    """

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, bytes] = {}
        self.folder = folder
        self.private: bool | None = None

    def repo_info(self, repo: str) -> Any:
        return SimpleNamespace(private=self.private)

    def create_repo(self, repo: str, *, private: bool, exist_ok: bool) -> str:
        self.private = private if self.private is None else self.private
        return f"https://hub.example/{repo}"

    def file_exists(self, repo: str, path: str) -> bool:
        return path in self.files

    def hf_hub_download(self, repo: str, path: str) -> str:
        (self.folder / path).write_bytes(self.files[path])
        return str(self.folder / path)

    def create_commit(self, repo: str, operations: list[Any], *, commit_message: str) -> None:
        self.files |= {operation.path_in_repo: operation.path_or_fileobj for operation in operations}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    found = FakeHub(tmp_path)
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: found)
    return found


@pytest.fixture(scope="module")
def clip_lora(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> FewShotClassifier:
    folder = tmp_path_factory.mktemp("adapted") / "clip-lora"
    settings = {"steps": 3, "batch": 4, "lr": 0.05}
    FewShotClassifier(checkpoint, "clip-lora", settings=settings).fit(SUPPORT).save(folder)
    return load_exact(folder)


@pytest.fixture(scope="module")
def tip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adapted to 10 images, with a cross-validated estimate."""
    folder = tmp_path_factory.mktemp("tip") / "adapted"
    FewShotClassifier("mini", "tip-adapter", calibrate=True).fit(TABLE.subset(range(10))).save(folder)
    return folder


def test_a_card_has_metadata_that_the_hub_understands(tip: Path, fake: FakeHub):
    with pytest.warns(UploadNote, match=r"parts\.safetensors holds features of .+ images \(keys\)"):
        push(tip, "ada/leaves", license="cc-by-4.0", datasets=["ada/photos"])
    card = fake.files["README.md"].decode()
    found = metadata(card)
    assert (found.license, found.datasets, found.library_name) == ("cc-by-4.0", ["ada/photos"], "farshot")
    assert found.base_model is None  # the bundled encoder is not on the hub
    estimate = json.loads((tip / "farshot.json").read_text())["estimate"]
    assert found.model_index is not None
    (result,) = found.model_index[0].results
    assert [one.type for one in result.metrics] == ["accuracy", "balanced_accuracy"]
    accuracy = result.metrics[0]
    assert accuracy.value == round(estimate["accuracy"]["value"], 4)
    assert accuracy.args["interval"] == [round(estimate["accuracy"][end], 4) for end in ("low", "high")]
    assert accuracy.args["images"] == 10 and "cross-validated" in accuracy.args["protocol"]
    assert "**features of the labelled images** (keys)" in card
    assert not {"labelled.safetensors", "labelled.json"} & set(fake.files)


def test_what_should_be_private_is_not_pushed_to_a_public_repository(tip: Path, fake: FakeHub):
    fake.private = False
    with (
        pytest.warns(UploadNote),
        pytest.raises(ModelError, match="ada/leaves is on the hub already, and public"),
    ):
        push(tip, "ada/leaves", private=True)
    assert fake.files == {}
    fake.private = None
    with pytest.warns(UploadNote):
        push(tip, "ada/leaves", private=True)
    assert fake.files and fake.private is True


def test_names_of_groups_are_not_pushed(fake: FakeHub, tmp_path: Path):
    few = TABLE.subset(range(10))
    patients = replace(few, groups=tuple(f"Ann Poe {n % 5}" for n in range(10)))
    FewShotClassifier("mini", "linear-probe").fit(patients).save(tmp_path / "m")
    assert load(tmp_path / "m").support_groups_ == [f"Ann Poe {n}" for n in range(5)]
    push(tmp_path / "m", "ada/leaves")
    assert not any(b"Ann Poe" in content for content in fake.files.values())


def test_a_pushed_model_says_what_it_cannot_leave_out(fake: FakeHub, tmp_path: Path):
    few, again = TABLE.subset(range(10)), tmp_path / "again"
    grouped = replace(few, groups=tuple(f"plant {n}" for n in range(10)))
    for table, says in (
        (few, "adapted to: they count as new"),
        (grouped, "adapted to and other images of the"),
    ):
        made = FewShotClassifier("mini", "prototypes").fit(table)
        made.save(tmp_path / "m")
        made.evaluate(TABLE)  # without a note
        push(tmp_path / "m", "ada/leaves")
        for name, content in fake.files.items():
            again.mkdir(exist_ok=True)
            (again / name).write_bytes(content)
        pushed = load(again)
        pushed.evaluate(TABLE, include_support=True)  # without a note
        pushed.save(tmp_path / "resaved")
        for one in (pushed, load(tmp_path / "resaved")):
            with pytest.warns(MeasuringNote, match=f"near copies of the images that it was {says}"):
                one.evaluate(TABLE)
        assert "neither near copies of them" in fake.files["README.md"].decode()


def test_a_card_without_numbers_has_no_model_index(clip_lora: FewShotClassifier, fake: FakeHub):
    clip_lora.push_to_hub("ada/leaves", model="ada/clip")
    found = metadata(fake.files["README.md"].decode())
    assert (found.model_index, found.metrics, found.license) == (None, None, "unknown")
    assert (found.base_model, found.base_model_relation) == ("ada/clip", "adapter")
    assert found.pipeline_tag == "image-classification"


@pytest.mark.filterwarnings("always::farshot.classifier.hub.UploadNote")
def test_a_card_that_somebody_edited_is_kept_until_asked(
    clip_lora: FewShotClassifier, fake: FakeHub, farshot: Farshot, tmp_path: Path
):
    clip_lora.push_to_hub("ada/leaves", model="ada/clip")
    first = fake.files["README.md"]
    clip_lora.push_to_hub("ada/leaves", model="ada/other")  # its own card may go
    assert fake.files["README.md"] != first
    edited = fake.files["README.md"].replace(b"## Limits", b"## What Ada found out\n\nMuch.\n\n## Limits")
    fake.files["README.md"] = edited
    clip_lora.save(tmp_path / "adapted")
    told = farshot("push", tmp_path / "adapted", "ada/leaves", "--model", "ada/clip")
    assert told.code == 0 and "it is kept" in told.err and "--replace-card" in told.err
    assert fake.files["README.md"] == edited
    assert json.loads(fake.files["farshot.json"])["base_model"] == "ada/clip"
    told = farshot("push", tmp_path / "adapted", "ada/leaves", "--model", "ada/clip", "--replace-card")
    assert told.code == 0 and "it is kept" not in told.err
    assert b"Ada found out" not in fake.files["README.md"]


@pytest.mark.parametrize(
    ("method", "expected"),
    [("tip-adapter", ["keys"]), ("transclip", ["support"]), ("linear-probe", []), ("zero-shot", [])],
)
def test_tensors_with_features_of_labelled_images_are_found(method: str, expected: list[str]):
    made = FewShotClassifier("mini", method).fit(TABLE.subset(range(10)))
    assert made.familiarity_ is not None
    kept = {"features": made.familiarity_.features}
    known = {name: torch.from_numpy(value) for name, value in kept.items()}
    assert feature_tensors(made.adapted_.tensors(), known, 10, 2) == expected
    assert feature_tensors(made.adapted_.tensors(), {}, 10, 2) == expected


def test_of_one_image_a_class_prototypes_are_features():
    made = FewShotClassifier("mini", "prototypes").fit(SUPPORT.subset([0, 3]))
    kept = {"features": torch.from_numpy(made.familiarity_.features)}
    assert feature_tensors(made.adapted_.tensors(), kept, 2, 2) == ["means"]


def test_from_pretrained_takes_a_folder_or_a_name_on_the_hub(
    tip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ours = load(tip).predict_proba(QUERIES)
    assert np.array_equal(FewShotClassifier.from_pretrained(tip).predict_proba(QUERIES), ours)
    asked: list[str] = []

    def download(repo: str, allow_patterns: list[str]) -> str:
        asked.append(repo)
        return str(tip)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    for name in ("ada/leaves", "hf:ada/leaves"):
        found = FewShotClassifier.from_pretrained(name, device="cpu")
        np.testing.assert_allclose(found.predict_proba(QUERIES), ours, atol=1e-6)
    assert set(asked) == {"ada/leaves"}
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="is not an adapted model"):
        FewShotClassifier.from_pretrained("leaves")


def test_a_model_card_is_made_from_the_run(clip_lora, fake: FakeHub, tmp_path: Path):
    clip_lora.save(tmp_path / "adapted")
    measured = {"data": "photos/", "images": 40, "calibration_error": 0.05}
    measured["accuracy"] = {"value": 0.9, "low": 0.77, "high": 0.96}
    (tmp_path / "measured.json").write_text(json.dumps(measured))
    where = push(tmp_path / "adapted", "ada/leaves", model="ada/clip", evaluation=tmp_path / "measured.json")
    assert where == "https://hub.example/ada/leaves"
    sent = fake.files
    card = sent["README.md"].decode()
    assert "90.0 [77.0, 96.0]" in card and "4 labelled images" in card and "base_model: ada/clip" in card
    assert json.loads(sent["farshot.json"])["base_model"] == "ada/clip"
    assert str(tmp_path) not in card and str(tmp_path) not in sent["farshot.json"].decode()
    for name, content in sent.items():  # what arrives there is a model
        (tmp_path / "fetched").mkdir(exist_ok=True)
        (tmp_path / "fetched" / name).write_bytes(content)
    again = load(tmp_path / "fetched", model=clip_lora.model)
    assert np.array_equal(again.predict(QUERIES), clip_lora.predict(QUERIES))
    with pytest.raises(ModelError, match="name its checkpoint on the hub with model=NAME"):
        push(tmp_path / "adapted", "ada/leaves")


def test_an_evaluation_of_another_model_or_of_its_own_images_is_not_published(
    fake: FakeHub, farshot: Farshot, tmp_path: Path
):
    for row, label in enumerate(np.array(TABLE.labels)[:12].tolist()):
        place = tmp_path / "data" / TABLE.classes[label] / f"{row}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        TABLE.image(row).save(place)
    adapt = ("adapt", tmp_path / "data", "--model", "mini", "--method", "prototypes", "--shots", 2)
    for seed in (1, 2):
        assert farshot(*adapt, "--seed", seed, "--out", tmp_path / f"m{seed}").code == 0

    def measured(*options: str) -> Path:
        told = farshot("evaluate", tmp_path / "m1", tmp_path / "data", "--json", *options)
        (tmp_path / "measured.json").write_text(told.out)
        return tmp_path / "measured.json"

    with pytest.raises(DataError, match=r"adapted to, too, .* evaluate without --include-support"):
        push(tmp_path / "m1", "ada/leaves", evaluation=measured("--include-support"))
    with pytest.raises(DataError, match="measured with another model"):
        push(tmp_path / "m2", "ada/leaves", evaluation=measured())
    assert not fake.files
    push(tmp_path / "m1", "ada/leaves", evaluation=measured())
    assert "that it was not adapted to" in fake.files["README.md"].decode()
    earlier = {**json.loads(measured().read_text()), "classes": [{"class": "north"}, {"class": "south"}]}
    del earlier["model"], earlier["include_support"]
    (tmp_path / "measured.json").write_text(json.dumps(earlier))
    with pytest.raises(DataError, match="measured with another model"):
        push(tmp_path / "m1", "ada/leaves", evaluation=tmp_path / "measured.json")


def test_the_hub_out_of_reach_is_one_sentence(farshot: Farshot, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    Image.fromarray(np.asarray(TABLE.images[0])).save(tmp_path / "x.png")
    said = refusal(farshot("predict", "hf:ada/leaves", tmp_path / "x.png"))
    assert "ada/leaves is not in the local cache and the hub cannot be reached" in said
    with pytest.raises(ModelError, match="it is OWNER/NAME"):
        repository("leaves")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (client_error()("Name or service not known"), "cannot be reached (Name or service not known)"),
        (LocalTokenNotFoundError("no token"), "log in first: hf auth login"),
    ],
)
def test_a_push_that_does_not_arrive_is_one_sentence(
    error, words, farshot: Farshot, clip_lora, tmp_path: Path, monkeypatch
):
    class Hub:
        def create_repo(self, *arguments, **options):
            raise error

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    clip_lora.save(tmp_path / "adapted")
    assert words in refusal(farshot("push", tmp_path / "adapted", "ada/leaves", "--model", "ada/clip"))


def test_without_a_network_a_push_says_so(farshot: Farshot, clip_lora, tmp_path: Path, monkeypatch):
    """The hub's own client, towards a port of this machine where nobody listens."""
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: HfApi("http://127.0.0.1:9", token="hf_none"))
    clip_lora.save(tmp_path / "adapted")
    said = refusal(farshot("push", tmp_path / "adapted", "ada/leaves", "--model", "ada/clip"))
    assert "The hub cannot be reached" in said and "nothing was pushed to ada/leaves" in said
