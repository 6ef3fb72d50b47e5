"""Models that the page downloads from a local substitute for the hub, with all that can go wrong."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from farshot.app import get_model, offers, view
from farshot.app.models import MINI, is_here, models
from farshot.app.offers import OFFERS, Offer, how_long
from farshot.app.pages import Page
from farshot.app.projects import Projects
from farshot.app.sessions import COOKIE, Session, Sessions, last_model, new_token
from farshot.app.workspace.encoders import Encoders
from farshot.model.config import TextConfig, VisionConfig
from tests import app_clients
from tests.bench_helpers import tiny_checkpoint
from tests.hub_server import WEIGHTS, Hub, hub_server, use_endpoint
from tests.pages import Page as Read

pytestmark = app_clients.marks

OFFER = Offer("ada/clip", "Ada's CLIP", "Everything that Ada saw.", "MIT", 1.0, 16)
WAIT = 60  # seconds for a download to end


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("hub") / "clip")


@pytest.fixture
def hub(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(get_model, "OFFERS", (OFFER,))
    with hub_server({"ada/clip": repo}, tmp_path / "cache", monkeypatch) as running:
        yield running


class Person:
    """Somebody in front of the page."""

    def __init__(self, page: Page) -> None:
        self.page, self.token = page, new_token()

    @property
    def request(self) -> gr.Request:
        return gr.Request(headers={"cookie": f"{COOKIE}={self.token}"})

    @property
    def session(self) -> Session:
        return self.page.sessions.get(self.token)

    @property
    def model(self) -> str:
        return self.session.workspace.choice.model

    def clicks(self, model: str = OFFER.model) -> Iterator[list[Any]]:
        assert self.page.get is not None
        return self.page.get.download(gr.EventData(None, {"model": model}), self.request)

    def downloads(self) -> str:
        """Clicks and waits for the end; what is said then."""
        return str(list(self.clicks())[-1][0]["value"])


@pytest.fixture
def page(encoders: Encoders, tmp_path: Path) -> Page:
    return Page(Sessions(tmp_path / "sessions"), encoders, [MINI], downloads=True)


@pytest.fixture
def person(page: Page) -> Person:
    return Person(page)


def fetches(page: Page) -> Any:
    assert page.get is not None
    return page.get.fetches


def test_one_click_brings_a_model_and_chooses_it(person: Person, hub: Hub) -> None:
    seen = list(person.clicks())
    said, stop, listed, dropdown, about = seen[-1]
    assert "Ada&#39;s CLIP is on this computer now and chosen for this project" in said["value"]
    assert stop["visible"] is False
    assert "On this computer" in listed
    assert dropdown["value"] == OFFER.title and dropdown["choices"] == [MINI.title, OFFER.title]
    assert "Everything that Ada saw. Licence: MIT." in about
    assert person.model == OFFER.model and is_here(OFFER)
    # it is used like any other, and found again at the next start
    assert person.page.encoders.get(OFFER.model).size == 32
    assert OFFER.model in person.page.train.here()


def test_a_model_that_is_here_is_offered_at_the_start(
    person: Person, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farshot.app.models.OFFERS", (OFFER,))
    assert [one.name for one in models()] == ["mini"]
    person.downloads()
    assert [one.name for one in models()] == ["ada/clip", "mini"]
    assert models()[0].title == OFFER.title


def test_progress_is_told_in_bytes_while_it_comes(person: Person, hub: Hub, repo: Path) -> None:
    hub.gate.clear()
    steps = person.clicks()
    next(steps)
    assert hub.halfway.wait(WAIT)
    job = fetches(person.page).job
    size = (repo / WEIGHTS).stat().st_size
    while not job.done:
        job.wait(0.01)
    shown = next(steps)
    assert job.total == size and 0 < job.done < size
    assert f"of {size / 1e6:.1f} MB" in shown[0]["value"] and f'max="{size}"' in shown[0]["value"]
    assert shown[1]["visible"] is True
    hub.gate.set()
    assert "on this computer now" in list(steps)[-1][0]["value"]
    assert job.error is None


def test_two_people_download_a_model_once(page: Page, hub: Hub) -> None:
    hub.gate.clear()
    ada, bob = Person(page), Person(page)
    first, second = ada.clicks(), bob.clicks()
    next(first)
    assert hub.halfway.wait(WAIT)
    next(second)
    other = Offer("ada/other", "Another", "", "", 1.0, 16)
    with pytest.raises(get_model.FarshotError, match=r"Ada's CLIP is being downloaded; wait for it, or stop"):
        fetches(page).start(other, bob.session)
    hub.gate.set()
    assert all("on this computer now" in list(steps)[-1][0]["value"] for steps in (first, second))
    assert hub.transfers == [""]
    assert (ada.model, bob.model) == (OFFER.model, OFFER.model)


def test_a_connection_that_breaks_off_is_taken_up_where_it_broke(
    person: Person, hub: Hub, repo: Path
) -> None:
    hub.broken = 2
    assert "on this computer now" in person.downloads()
    first, *more = hub.transfers
    assert first == "" and len(more) == 2
    starts = [int(one.removeprefix("bytes=").rstrip("-")) for one in more]
    assert 0 < starts[0] < starts[1] < (repo / WEIGHTS).stat().st_size


def test_one_that_breaks_off_for_good_is_one_sentence(person: Person, hub: Hub, repo: Path) -> None:
    hub.broken = 1
    steps = person.clicks()
    hub.gate.clear()
    next(steps)
    assert hub.halfway.wait(WAIT)
    hub.refused["ada/clip"] = (503, "")
    hub.gate.set()
    said = list(steps)[-1][0]["value"]
    assert "was not downloaded" in said and "the hub cannot be reached" in said
    assert person.model == "mini" and not is_here(OFFER)


def test_stop_leaves_no_model_and_the_next_click_brings_it(person: Person, hub: Hub, tmp_path: Path) -> None:
    hub.gate.clear()
    steps = person.clicks()
    next(steps)
    assert hub.halfway.wait(WAIT)
    person.page.get.stop_download()  # type: ignore[union-attr]
    job = fetches(person.page).job
    assert "stopping" in view.render("getting.html", title="", job=job, done=0, total=0)
    hub.gate.set()
    said = list(steps)[-1]
    assert "was stopped" in said[0]["value"]
    assert person.model == "mini" and not is_here(OFFER)
    assert said[3]["value"] == MINI.title
    assert not list((tmp_path / "cache").rglob("model.safetensors"))
    assert "on this computer now" in person.downloads()


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (404, "RepoNotFound", "The hub has no model ada/clip"),
        (403, "GatedRepo", "asks for a login: accept its terms on the hub, then run `hf auth login`"),
        (401, "GatedRepo", "asks for a login"),
        (403, "", "asks for a login"),
        (500, "", "the hub cannot be reached"),
    ],
)
def test_a_refusal_is_one_sentence(person: Person, hub: Hub, status: int, code: str, words: str) -> None:
    hub.refused["ada/clip"] = (status, code)
    said = person.downloads()
    assert words.replace("`", "`") in said and 'role="alert"' in said
    assert person.model == "mini" and not is_here(OFFER)


def test_without_a_network_it_says_so(
    person: Person, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_endpoint("http://127.0.0.1:9", tmp_path / "cache", monkeypatch)  # where nobody listens
    assert "the hub cannot be reached" in person.downloads()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "the hub cannot be reached" in person.downloads()
    assert person.model == "mini"


def test_a_disk_with_too_little_space_is_found_before(
    person: Person, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("farshot.storage.hub.shutil.disk_usage", lambda place: usage(0, 0, 150_000_000))
    said = person.downloads()
    assert "has 150 MB free; free some space" in said
    assert not hub.transfers and person.model == "mini"


def test_a_damaged_file_is_not_chosen(person: Person, hub: Hub, repo: Path, tmp_path: Path) -> None:
    bad = shutil.copytree(repo, tmp_path / "bad")
    (bad / WEIGHTS).write_bytes((bad / WEIGHTS).read_bytes()[:-100])
    hub.repos["ada/clip"] = bad
    assert "cannot be read" in person.downloads()
    assert person.model == "mini"


def test_what_others_can_reach_has_no_downloads(encoders: Encoders, tmp_path: Path) -> None:
    made = Page(Sessions(tmp_path), encoders, [MINI])
    shown = str(made.build().config)
    assert made.get is None and "get-model" not in shown


def test_new_projects_begin_with_the_model_chosen_last(encoders: Encoders, tmp_path: Path, hub: Hub) -> None:
    root = tmp_path / "kept"
    root.mkdir()
    sessions = Sessions(root, keep=True)
    projects = Projects(sessions, ["mini"])
    made = Page(sessions, encoders, [MINI], projects, downloads=True)
    session = sessions.project(projects.create("Leaves"))
    assert last_model(root) is None
    fetches(made).start(OFFER, session).wait(WAIT)
    assert session.workspace.choice.model == OFFER.model
    assert last_model(root) == OFFER.model and OFFER.model in projects.models
    assert sessions.project(projects.create("Bark")).workspace.choice.model == OFFER.model
    (root / ".farshot-settings.json").write_text("[")
    assert last_model(root) is None


def test_browsers_without_projects_remember_nothing(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    sessions.remember("ada/clip")
    assert sessions.choice.model == "mini" and not list(tmp_path.iterdir())


# The list ------------------------------------------------------------------------------------------------


def test_the_list_says_size_licence_purpose_and_time(page: Page, person: Person) -> None:
    assert page.get is not None
    shown = list(page.get.show(person.request))[-1][2]
    Read(shown)
    assert "not measured yet" not in shown and shown.count("for 100 pictures") == len(OFFERS) <= 10
    for one in OFFERS:
        assert one.size in shown and f'data-model="{one.model}"' in shown
        assert one.good_for.replace("'", "&#39;") in shown and one.licence.replace("'", "&#39;") in shown


def test_times_are_in_proportion_to_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = (next(one for one in OFFERS if one.patch == patch) for patch in (32, 14))
    assert 8e9 < small.work < 9e9 and 155e9 < large.work < 170e9  # as their authors count them
    assert how_long(small, 1e-11) == "about 9 s for 100 pictures"
    monkeypatch.setattr(offers, "TIMED", 1)
    ticks = iter(range(0, 1000, 2))
    monkeypatch.setattr(offers.time, "perf_counter", lambda: float(next(ticks)))
    per_operation = offers.measured(offers.torch.device("cpu"))
    assert how_long(Offer("", "", "", "", 1, 16), per_operation).startswith("about 40 min")  # 2 s a block


def test_sizes_are_those_of_the_architectures() -> None:
    for one in OFFERS:
        if "CLIP" not in one.title or one.model.startswith(("google", "hf-hub:microsoft")):
            continue
        words = 768 if one.width == 1024 else 512
        vision = VisionConfig(
            one.width, one.depth, 12, 4 * one.width, words, "gelu", 1e-5, pre_norm=True, patch=one.patch
        )
        text = TextConfig(words, 12, 8, 4 * words, words, "gelu", 1e-5, vocabulary=49408, length=77)
        count = sum(_numbers(shape) for tower in (vision, text) for shape in tower.tensor_shapes().values())
        assert one.parameters == pytest.approx(count / 1e6, rel=0.005), one.title


def _numbers(shape: tuple[int, ...]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total
