"""What each click and key on the app's page does, without a browser: events as one would send them."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from farshot import load
from farshot.app import models as app_models
from farshot.app import view
from farshot.app.actions import act_in_order
from farshot.app.choices import LATER, OTHER, about_method
from farshot.app.pages import Page
from farshot.app.sessions import COOKIE, Sessions, new_token
from farshot.app.tiles import tiles
from farshot.app.workspace import Setup
from farshot.app.workspace.encoders import Encoders, Report
from farshot.evaluation.calibration import Limit
from farshot.methods import available
from farshot.methods.catalogue import FAST
from tests import app_clients
from tests.pages import Page as Tags
from tests.workspaces import CLASSES, drawn, uploads

pytestmark = app_clients.marks


SHOWN = (app_models.MINI.title, FAST, FAST, False)
"""Model, way, method and "Quick" as the page shows them."""


class Person:
    """Somebody in front of the page: events as a browser would send them."""

    def __init__(self, page: Page, folder: Path, token: str = "") -> None:
        self.page, self.folder = page, folder
        self.token = token or new_token()
        self.number = 0
        self.session = page.sessions.get(self.token)
        self.given = ""  # the classes as the page has had them last

    @property
    def request(self) -> gr.Request:
        return gr.Request(headers={"cookie": f"{COOKIE}={self.token}"})

    def act(self, **told: Any) -> list[Any]:
        if told.get("do") != "forget":
            self.number += 1
            sent = {"page": "page", "first": self.number, "acts": [told]}
            act_in_order(self.session, self.page.encoders, sent)
        return self.has(self.page.act(self.given, gr.EventData(None, told), self.request))

    def brings(self, pictures: list[tuple[str, bytes]], name: str, into: str = LATER) -> list[Any]:
        for upload in uploads(self.folder / name, pictures):
            self.session.take(upload, into)
        return self.has(self.page.receive(self.given, gr.EventData(None, {"last": True}), self.request))

    def names(self, text: str) -> list[Any]:
        """Writes classes into their field, and saves them."""
        return self.has(self.page.name_classes(text, self.given, self.request))

    def renames(self, old: str | None, new: str) -> list[Any]:
        return self.has(self.page.rename_class(old, new, self.request))

    def has(self, drawn: list[Any]) -> list[Any]:
        """The page is drawn."""
        self.given = drawn[15] if isinstance(drawn[15], str) else self.given
        return drawn

    def waits(self) -> list[Any]:
        """Follows the job to its end."""
        seen = list(self.page.follow(self.request))
        return seen[-1]


@pytest.fixture(scope="module")
def page(encoders: Encoders, tmp_path_factory: pytest.TempPathFactory) -> Page:
    made = Page(Sessions(tmp_path_factory.mktemp("sessions")), encoders, [app_models.MINI])
    made.build()
    return made


@pytest.fixture
def person(page: Page, tmp_path: Path) -> Person:
    return Person(page, tmp_path)


def said(drawn: list[Any]) -> str:
    return str(drawn[0]["value"])


def test_the_whole_way(person: Person) -> None:
    page, session = person.page, person.session
    person.names("\n".join(CLASSES))
    drawn_now = person.brings(drawn(3), "first")
    assert "6 new pictures" in said(drawn_now)
    ids = [picture.id for picture in session.workspace.pictures]
    person.act(do="label", value=CLASSES[0], ids=ids[:3])
    drawn_now = person.act(do="label", value=CLASSES[1], ids=ids[3:])
    assert [row[2] for row in tiles(session)["tiles"]] == [0] * 3 + [1] * 3
    assert 'fs-count">6<' in drawn_now[2]
    page.choose(*SHOWN, person.request)
    page.start_adapting(*SHOWN, person.request)
    last = person.waits()
    assert "Expected accuracy on new pictures" in last[6]
    # new pictures are asked about at once
    person.brings(drawn(2, start=3000), "second")
    last = person.waits()
    assert last[4].count("fs-tile") == 4
    chosen = session.workspace.unlabelled[0].id
    last = person.act(do="show", value="", ids=[chosen])
    assert "What it really shows" in last[4]
    assert 'alt="Similarity' in last[4] or "Similarity to" in last[4]
    # a correction, then once more
    other = session.workspace.unlabelled[1].id
    assert f'data-picture="{chosen}"' in last[4]
    assert "Choose pictures first" in said(person.act(do="correct", value=CLASSES[1], ids=[]))
    session.view.chosen = other  # by a second tab
    person.act(do="correct", value=CLASSES[1], ids=[chosen], next=other)
    assert session.workspace.picture(chosen).label == CLASSES[1]
    assert session.workspace.picture(other).label is None
    assert session.view.chosen == other
    last = person.act(do="page", value="0", ids=[])
    assert "Something has changed since" in last[5]
    assert last[8]["value"] == "Train again with your corrections"
    page.start_adapting(*SHOWN, person.request)
    last = person.waits()
    assert "Something has changed since" not in last[6]
    person.act(do="make", value="predictions", ids=[])
    last = person.waits()
    assert "farshot/download/predictions" in last[7]
    assert "farshot/download/model" not in last[7]
    page.start_suggesting(person.request)
    last = person.waits()
    assert "fs-suggested" in last[4]
    # a page that is loaded again shows all of it
    again = page.load(person.request)
    assert (again[14]["value"], again[14]["interactive"]) == ("\n".join(CLASSES), True)
    assert [again[15]["value"], *again[16:19]] == list(SHOWN)
    assert "Expected accuracy on new pictures" in again[5]
    last = person.act(do="forget", value="", ids=[])
    assert "Everything is forgotten" in said(last)
    assert "No pictures yet" in last[2]


def test_classes_can_be_written_once_the_page_shows_those_that_there_are(person: Person) -> None:
    """What a person wrote before would be lost."""
    assert not person.page.classes.interactive
    assert person.page.load(person.request)[14] == gr.update(value="", interactive=True)


def test_pictures_that_come_while_a_model_is_made_are_asked_about_after_it(person: Person) -> None:
    person.names("\n".join(CLASSES))
    for label in CLASSES:
        person.brings([one for one in drawn(2) if one[0] == label], label, label)
    person.page.choose(*SHOWN, person.request)
    going, finish = threading.Event(), threading.Event()

    def slow(_report: object) -> None:
        going.set()
        assert finish.wait(30)

    person.page.start_adapting(*SHOWN, person.request)
    person.waits()
    person.session.start(slow)
    assert going.wait(10)
    assert "2 new pictures" in said(person.brings(drawn(1, start=3000), "late"))
    finish.set()
    assert person.waits()[4].count('class="fs-tile') == 2


def test_the_class_of_new_pictures_starts_anew_when_the_classes_change(person: Person) -> None:
    first = person.names("a\nb")
    into = next(one for one in first if isinstance(one, dict) and "choices" in one)
    assert into["value"] == LATER
    again = person.act(do="page", value="0", ids=[])
    into = next(one for one in again if isinstance(one, dict) and "choices" in one)
    assert "value" not in into


def test_a_list_that_cannot_be_used_stays_as_it_was_typed(person: Person) -> None:
    person.names("a\nb")
    for text in ("a\nb\nB", "a\nb\n" + "x" * 99):
        assert person.names(text)[-2:] == [gr.skip()] * 2
    assert person.session.workspace.class_names == ("a", "b")


def test_a_label_is_the_class_that_the_page_shows_also_where_another_page_changed_the_classes(
    person: Person,
) -> None:
    person.names("benign\nmalignant")
    person.brings(drawn(1), "first")
    first, second = (picture.id for picture in person.session.workspace.pictures)
    page = Tags(person.act(do="page", value="0", ids=[])[2])
    shown = [tag["data-value"] for _, tag in page.tags if tag.get("data-do") == "label"]
    another = Person(person.page, person.folder, person.token)
    another.given = person.given
    another.names("malignant\nharmless")
    person.act(do="label", value=shown[1], ids=[first])
    assert person.session.workspace.picture(first).label == "malignant"
    refused = person.act(do="label", value=shown[0], ids=[second])
    assert "The classes have changed" in said(refused)
    assert person.session.workspace.picture(second).label is None
    person.act(do="label", value=shown[2], ids=[first])
    assert person.session.workspace.picture(first).label is None


def test_a_list_that_is_older_than_the_classes_deletes_none(person: Person) -> None:
    person.names("a\nb")
    another = Person(person.page, person.folder, person.token)
    another.given = person.given
    person.names("b\na: some words\nc")
    person.act(do="page", value="0", ids=[])
    refused = another.names("a\nb\nother")
    assert "The classes were changed on another page" in said(refused)
    assert refused[14:16] == ["b\na: some words\nc"] * 2
    assert refused[7]["value"] == LATER  # a class that was chosen for new pictures may be gone
    assert person.session.workspace.class_names == ("b", "a", "c")
    another.names("b\na: some words\nc\nother")
    assert person.session.workspace.descriptions()["a"] == "some words"
    assert person.session.workspace.class_names == ("b", "a", "c", "other")
    # each page gets what it lacks with its next action
    assert person.act(do="page", value="0", ids=[])[14] == "b\na: some words\nc\nother"
    assert another.act(do="page", value="0", ids=[])[14] == gr.skip()


def test_a_colon_in_the_name_of_a_class_is_no_description(person: Person) -> None:
    workspace = person.session.workspace
    person.names("one\ntwo\nICD")
    person.renames("one", "ratio 1:2")
    person.renames("two", "ICD: 10")
    person.brings(drawn(1), "first", "ICD: 10")
    for more, described in (("", {}), (": some: words", {"ICD: 10": "some: words"})):
        person.names(f"ratio 1:2\nicd: 10{more}\nICD\nnew: its words")
        person.names(f"ratio 1:2\nICD: 10{more}\nICD\nnew: its words")
        assert workspace.class_names == ("ratio 1:2", "ICD: 10", "ICD", "new")
        assert workspace.counts["ICD: 10"] == 2
        found = {one.name: one.description for one in workspace.classes if one.description}
        assert found == {**described, "new": "its words"}
        assert person.names(person.given)[14] == person.given


def test_a_list_whose_answer_was_lost_can_be_saved_again(person: Person) -> None:
    person.names("a\nb")
    person.given = ""
    assert "another page" not in said(person.names("a\nb\n"))
    assert person.given == "a\nb"


def test_a_class_is_renamed_by_its_identity(person: Person) -> None:
    person.names("a\nb")
    person.brings(drawn(2), "first", "a")
    drawn_now = person.renames("a", "spots")
    assert "a is now called spots" in said(drawn_now)
    assert drawn_now[-3:] == ["spots\nb", "spots\nb", ""]
    assert person.session.workspace.counts == {"spots": 4, "b": 0}
    assert drawn_now[10]["choices"] == ["spots", "b"]
    refused = person.renames("spots", "B")
    assert "there twice" in said(refused)
    assert refused[-3:] == [gr.skip()] * 3
    assert "Choose the class" in said(person.renames(None, "x"))


def test_what_the_page_shows_is_what_is_adapted(person: Person) -> None:
    """The choice travels with the click, not only with an event before it."""
    person.names("\n".join(CLASSES))
    for label in CLASSES:
        person.brings([one for one in drawn(2) if one[0] == label], label, label)
    person.session.workspace.choose(Setup("mini", "clap"))
    person.page.start_adapting(SHOWN[0], OTHER, "prototypes", False, person.request)
    person.waits()
    run = view.current(person.session)
    assert run is not None
    assert run.choice == Setup("mini", "prototypes")


def test_the_limit_that_is_chosen_counts_at_once_and_is_in_the_models_folder(person: Person) -> None:
    person.names("\n".join(CLASSES))
    for label in CLASSES:
        person.brings([one for one in drawn(4) if one[0] == label], label, label)
    person.page.start_adapting(*SHOWN, person.request)
    person.waits()
    workspace, stamp = person.session.workspace, person.session.workspace.stamp()
    found = []
    for wanted in (0.5, 0.9, 0.99):
        person.act(do="limit", value=str(wanted), ids=[])
        assert "Something has changed" not in person.waits()[6]
        run = view.current(person.session)
        assert run is not None
        assert run.certainty is not None
        kept = load(workspace.adapted, device="cpu")
        assert kept.held_out_ is not None
        assert repr(run.certainty) == repr(kept.held_out_.certainty(wanted))  # NaN is not equal to itself
        assert kept.limit_ == Limit.of(run.certainty)
        found.append(kept.limit_)
    assert len(set(found)) == 3
    assert workspace.stamp() == stamp  # nothing to adapt again for
    person.page.start_adapting(*SHOWN, person.request)
    person.waits()
    assert load(workspace.adapted, device="cpu").limit_.wanted == 0.99


def test_the_board_counts_the_pictures_of_each_filter(person: Person) -> None:
    person.names("a\nb")
    person.brings(drawn(2), "first", "a")
    html = person.brings(drawn(1, start=3000), "second")[2]
    counts = re.findall(r'data-filter="(\w+)".*?fs-count">(\d+)<', html)
    assert counts == [("all", "6"), ("none", "2"), ("0", "4"), ("1", "0")]


def test_many_answers_come_in_pages(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "PER_PAGE", 4)
    person.names("\n".join(CLASSES))
    for label in CLASSES:
        person.brings([one for one in drawn(2) if one[0] == label], label, label)
    person.page.start_adapting(*SHOWN, person.request)
    person.waits()
    person.brings(drawn(5, start=3000), "more")
    assert person.waits()[4].count('class="fs-tile') == 4
    last = person.act(do="page", value="2", ids=[])[3]
    assert "page 3 of 3" in last
    assert last.count('class="fs-tile') == 2
    assert "page 3 of 3" in person.act(do="page", value="77", ids=[])[3]


def test_labelling_goes_on_while_a_model_is_made(person: Person) -> None:
    """The board has the labels, and undo, before the job has ended."""
    person.names("\n".join(CLASSES))
    person.brings(drawn(1), "first")
    first, second = (picture.id for picture in person.session.workspace.pictures)
    going, finish = threading.Event(), threading.Event()

    def slow(report: Report) -> None:
        with person.page.encoders.turn(report):
            going.set()
            assert finish.wait(30)

    job = person.session.start(slow)
    assert going.wait(10)
    person.act(do="label", value=CLASSES[0], ids=[first, second])
    assert [row[2] for row in tiles(person.session)["tiles"]] == [0, 0]
    person.act(do="undo", value="", ids=[])
    drawn_now = person.act(do="label", value=CLASSES[1], ids=[second])
    assert [row[2] for row in tiles(person.session)["tiles"]] == [-1, 1]
    assert "of 1 picture" in drawn_now[2]
    assert job.running
    finish.set()
    person.waits()


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"do": "label", "value": "", "ids": []},
        {"do": "label", "value": "0", "ids": ["x"]},
        {"do": "no-class", "value": "", "ids": ["x"]},
        {"do": "label", "value": "", "ids": ["../../state"]},
        {"do": "remove", "value": "", "ids": []},
        {"do": "make", "value": "../../etc/passwd", "ids": []},
        {"do": "make", "value": "model", "ids": [7]},
        {"do": "rm -rf", "value": "", "ids": []},
        {"do": "label", "value": {"a": 1}, "ids": []},
        {"do": "label", "value": "", "ids": ["x"] * 6000},
    ],
)
def test_what_a_page_may_send_by_mistake_or_on_purpose_is_one_sentence(person: Person, told: Any) -> None:
    drawn_now = person.act(**told)
    text = said(drawn_now)
    assert 'role="alert"' in text
    assert text.count("<p>") == 1
    assert person.session.workspace.pictures == ()


def test_adapting_without_labels_says_what_is_missing(person: Person) -> None:
    assert "at least two classes" in said(person.page.start_adapting(*SHOWN, person.request))
    assert person.session.job is None


def test_hostile_names_of_classes_stay_text(person: Person) -> None:
    names = ["<img src=x onerror=alert(1)>", "${alert(1)}", "{{constructor}}", "\u202egnp.exe"]
    person.names("\n".join(names))
    person.brings(drawn(1), "first", names[0])
    html = person.act(do="page", value="0", ids=[])[2]
    assert "<img src=x" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    assert "\u202e" not in html


def test_a_browser_without_cookies_is_told(person: Person) -> None:
    with pytest.raises(gr.Error, match="cookies"):
        person.page.load(gr.Request(headers={}))


def test_a_model_that_is_no_longer_offered_gives_way_to_the_first(person: Person) -> None:
    person.session.workspace.choose(Setup("gone/away", "clap", True))
    title, *others = person.page.load(person.request)[15:19]
    assert [title["value"], *others] == [SHOWN[0], FAST, FAST, True]


def test_every_method_has_a_plain_sentence_and_transductive_ones_are_left_out(person: Person) -> None:
    for name, method in available().items():
        if method.kind == "transductive":
            assert name not in person.page.methods
        elif method.__module__.startswith("farshot."):
            assert method.plain
            assert about_method(method).endswith(".")
            assert method.plain.split()[0].islower()
