"""The app's texts: each language has all of them, all are used, names in them stay names, and a request gets
the language that it asks for."""

from __future__ import annotations

import json
import re
import string
import threading
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import farshot.app
from farshot.app import opening, texts, view
from farshot.app.html import render, script_texts
from farshot.app.jobs import Job
from farshot.app.sessions import Note, Sessions
from farshot.app.texts import Fault, Text, speaking, text
from farshot.app.translated import Translated, translated
from farshot.app.workspace import ClassWords, Workspace
from farshot.app.workspace.encoders import Report
from farshot.errors import DataError
from farshot.model.catalogue import TOY_NOTE
from tests import app_clients
from tests.app_clients import Place, browser, do, send, session_of
from tests.workspaces import drawn

pytestmark = app_clients.marks

APP = Path(farshot.app.__file__).parent
OTHERS = [language for language in texts.languages() if language != "en"]
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "{name}",
    "{name.__class__}",
    "%s %(name)s",
    "\"quoted\" & 'quoted'",
)
NAMES = {"farshot", "farshot app", "labels.csv"}
"""What templates say in every language: names of programs and options."""

KEYS_MADE = re.compile(
    r"answers\.(all|unsure|none|sure)|take\.(model|onnx|web|report|predictions)"
    r"|class\.(name|description)_too_long|language\.name|labels\.(two_(label|group)|of_(model|test))"
)
"""Keys that are put together where they are used."""


def forms(language: str, key: str) -> list[str]:
    found = texts.catalogue(language)[key]
    return [found] if isinstance(found, str) else [found["one"], found["other"]]


def places(written: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(written) if name is not None}


def sources(*kinds: str) -> dict[str, str]:
    files = [file for kind in kinds for file in sorted(APP.rglob(f"*.{kind}"))]
    return {str(file.relative_to(APP)): file.read_text(encoding="utf-8") for file in files}


# The catalogues ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", OTHERS)
def test_a_language_has_the_texts_of_english_with_the_same_places_for_values(language: str) -> None:
    english, other = texts.catalogue("en"), texts.catalogue(language)
    assert list(other) == list(english)
    for key in english:
        assert isinstance(other[key], type(english[key])), key
        for one, its in zip(forms("en", key), forms(language, key), strict=True):
            assert places(its) == places(one), key
            assert all(name.isidentifier() for name in places(its)), key  # no way into a value
            assert its.strip() == its != "", key
            tags = re.compile(r"<[^>]*>")
            assert sorted(map(len, tags.findall(its))) == sorted(map(len, tags.findall(one))), key


def test_a_language_is_called_by_its_own_name() -> None:
    names = {code: texts.catalogue(code)["language.name"] for code in texts.languages()}
    assert names | {"de": "Deutsch", "en": "English", "es": "Español"} == names
    assert len(set(names.values())) == len(names)


def test_a_plural_is_chosen_by_a_number_that_its_text_shows() -> None:
    for key, found in texts.catalogue("en").items():
        if isinstance(found, dict):
            assert set(found) == {"one", "other"} and "n" in places(found["other"]), key


def test_a_text_is_html_that_needs_no_escape() -> None:
    """Texts are put into templates as they are, be it into an attribute."""
    for language in texts.languages():
        for key in texts.catalogue(language):
            for written in forms(language, key):
                outside = re.sub(r"</?(b|i|a|kbd|code|span)( [a-z]+(=\"[^\"]*\")?)*>", "", written)
                quotes = "" if key.startswith("js.") else '"'  # scripts show text, not HTML
                assert not set(outside) & {"<", ">", "&", *quotes}, (language, key)


def test_every_text_that_is_asked_for_exists() -> None:
    asked = re.compile(r"""\b(?:t|text|Text|Fault|html)\(\s*["']([a-z0-9_.]+)["'](?! ~)""")
    for name, source in sources("py", "html").items():
        for key in asked.findall(source):
            assert key in texts.catalogue("en"), (name, key)
    for name, source in sources("js").items():
        for key in re.findall(r"farshotText\('([a-z_]+)'", source):
            assert f"js.{key}" in texts.catalogue("en"), (name, key)


def test_every_text_is_used() -> None:
    python, scripts = "\n".join(sources("py", "html").values()), "\n".join(sources("js").values())
    for key in texts.catalogue("en"):
        used = f'"{key}"' in python or f"{{{{ {key} }}}}" in python or KEYS_MADE.fullmatch(key)
        in_script = rf"(farshotText\(|say\(|Error: ).*'{key.removeprefix('js.')}'"
        assert used or (key.startswith("js.") and re.search(in_script, scripts)), key


# No text elsewhere ---------------------------------------------------------------------------------------


def test_templates_hold_no_text() -> None:
    for name, source in sources("html").items():
        for made in (r"<style>.*?</style>", r"<script>.*?</script>", r"{%.*?%}", r"{{.*?}}", r"&[a-z]+;"):
            source = re.sub(made, "", source, flags=re.DOTALL)
        shown = re.findall(r'(?:aria-label|placeholder|title|alt|data-ask)="([^"]*)"', source)
        shown += [line.strip() for line in re.sub(r"<[^>]*>", "\n", source).splitlines()]
        left = {words for words in shown if re.search("[A-Za-z]", words)} - NAMES
        assert not left, (name, left)


def test_what_the_page_may_show_of_an_error_is_in_the_catalogue() -> None:
    """Errors of `folders` and `server` are for the terminal, where the app was started."""
    for name, source in sources("py").items():
        if name not in ("folders.py", "server.py"):
            assert not re.search(r"\bDataError\(f?[\"']", source), name


def test_scripts_hold_no_sentence() -> None:
    for name, source in sources("js").items():
        code = re.sub(r"(^|\s)//.*", "", source)
        assert not re.findall(r"""['"`][A-Z][a-z]+ [a-z][^'"`]*['"`]""", code), name


# Filling in ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("language", ["en", *OTHERS])
def test_a_hostile_name_stays_a_name(name: str, language: str) -> None:
    with speaking(language):
        assert name in text("answers.said", name=name, certain="99 %")
        nested = text("act.undone", what=Text("board.undo", what=name))
        assert nested.count(name) == 1
        html = texts.html("answers.tile", name=name, said=Markup("<bdi>{}</bdi>").format(name))
        assert html == Markup("{}: <bdi>{}</bdi>").format(name, name)
        note = view.note(Note(Text("act.renamed", old=name, new="x")))
        assert "<img" not in note and str(Markup.escape(name)) in note
        assert "<img" not in render("progress.html", job=_Making(Text("job.making", file=name)))


class _Making:
    def __init__(self, phase: str) -> None:
        self.phase, self.done, self.total = phase, 1, 2


def test_numbers_are_those_of_the_language() -> None:
    def said(language: str, n: int) -> str:
        with speaking(language):
            return text("count.pictures", n=n)

    assert [said("en", n) for n in (0, 1, 2, 5000)] == [
        "0 pictures",
        "1 picture",
        "2 pictures",
        "5,000 pictures",
    ]
    assert [said("de", n) for n in (0, 1, 5000)] == ["0 Bilder", "1 Bild", "5.000 Bilder"]
    assert [said("es", n) for n in (1, 5000, 20_000)] == ["1 imagen", "5000 imágenes", "20.000 imágenes"]
    with speaking("de"):
        assert texts.decimal("62.5") == "62,5"


# Which language ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cookie", "accepted", "expected"),
    [
        (None, None, "en"),
        (None, "de", "de"),
        (None, "de-AT,de;q=0.9,en;q=0.8", "de"),
        (None, "fr-FR,fr;q=0.9,es;q=0.8,en;q=0.7", "es"),
        (None, "en;q=0.5, es;q=0.6", "es"),
        (None, "DE", "de"),
        (None, "fr,ja", "en"),
        (None, "de;q=0, es;q=0.1", "es"),
        (None, "de;q=high", "en"),
        (None, "*,;=,,q=1", "en"),
        ("farshot_language=es", "de", "es"),
        ("other=1; farshot_language=en", "de", "en"),
        ("farshot_language=../en", "de", "de"),
        ('farshot_language="', "de", "de"),
    ],
)
def test_a_choice_comes_before_what_the_browser_accepts(
    cookie: str | None, accepted: str | None, expected: str
) -> None:
    assert texts.chosen(cookie, accepted) == expected


def test_the_list_of_projects_is_in_the_language_of_each_request(tmp_path: Path) -> None:
    client = Place(tmp_path / "kept").browser()
    german = client.get("/", headers={"accept-language": "de-DE,de;q=0.9"})
    assert '<html lang="de">' in german.text and "Neues Projekt" in german.text
    assert "New project" not in german.text
    assert "accept-language" in german.headers["vary"]
    assert '<html lang="en">' in client.get("/").text
    client.cookies.set(texts.COOKIE, "es", domain="127.0.0.1")
    spanish = client.get("/", headers={"accept-language": "de"}).text
    assert '<html lang="es">' in spanish and '<option value="es" lang="es" selected>' in spanish
    assert do(client, do="create", name=" ").text == "Dé un nombre al proyecto."


def test_the_page_for_who_has_no_access_is_in_their_language(tmp_path: Path) -> None:
    answer = Place(tmp_path / "kept").stranger().get("/", headers={"accept-language": "de"})
    assert answer.status_code == 401
    assert '<html lang="de">' in answer.text and "Dieser Browser" in answer.text


def test_a_refused_file_is_told_to_each_reader_in_their_language(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    client = browser(sessions)
    client.headers["accept-language"] = "de"
    assert send(client, "a.png", drawn(1)[0][1]).json()["new"] == 1
    told = send(client, "empty.zip", b"PK\x05\x06" + bytes(18)).json()
    assert told["refused"] == "in der ZIP-Datei ist kein Bild; packen Sie die Bilder selbst hinein."
    _, refused = session_of(sessions, client).arrived()
    with speaking("es"):
        note = view.note(Note("", refused))
    assert "no hay ninguna imagen en el zip" in note and "1 no se ha añadido:" in note


def test_what_a_job_says_waits_for_its_reader() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work(report: Report) -> None:
        report(Text("job.training"), 1, 1000)
        begun.set()
        go_on.wait(10)
        raise Fault("class.unknown", name="<hat>")

    job = Job(work)
    assert begun.wait(10)
    with speaking("de"):
        assert "trainiert: 1 von 1.000" in view.progress(job)
    go_on.set()
    job.wait(10)
    assert job.error == "There is no class '<hat>'; name it first."
    with speaking("de"):
        said = view.note(Note(job.error, fault=True))
    assert "Es gibt keine Klasse „&lt;hat&gt;“; legen Sie sie zuerst an." in said


def test_an_error_is_english_where_nobody_reads_it_on_a_page(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    workspace.name_classes([ClassWords("hat"), ClassWords("shoes")])
    with pytest.raises(DataError, match="The class 'hat' is there twice") as caught:
        workspace.name_classes([ClassWords("hat"), ClassWords("Hat")][:1] * 2)
    with speaking("es"):
        assert texts.read(caught.value).startswith("La clase «hat» aparece dos veces")
        assert texts.read(ValueError("of others")) == "of others"


def test_the_page_that_says_that_the_app_starts_is_in_the_language_of_the_request() -> None:
    page = opening.starting_page(None, "de-DE")
    assert '<html lang="de">' in page and "<title>farshot startet</title>" in page
    assert "Die App ist beendet; das Terminal" in page and "{{" not in page


def test_a_sentence_about_the_toy_is_that_of_the_command_line() -> None:
    assert Text("result.toy") == TOY_NOTE


# Gradio's page -------------------------------------------------------------------------------------------


def built() -> str:
    """A page as Gradio sends it, with a label, a template and an English text."""
    with texts.marking():
        config = {
            "label": text("tab.check"),
            "hint": texts.html("foreign.hint", most=1000),
            "value": view.dialogs(),
            "name": "mini",
        }
    told = json.dumps(config, ensure_ascii=False).replace("<", "\\u003c")
    head = '<!doctype html>\n<html\n\tlang="en"\n><head><title>x</title></head>'
    return f"{head}<script>c = {told};</script></html>"


@pytest.mark.parametrize("language", texts.languages())
def test_the_box_for_pictures_knows_how_its_page_says_that_no_class_is_chosen(language: str) -> None:
    with speaking(language):
        box = view.drop_box("drop.hint", "#into input")
        assert f'data-later="{text("pictures.later")}"' in box


def page_client(page: str) -> TestClient:
    async def answer(_request: Any) -> HTMLResponse:
        return HTMLResponse(page)

    routes = [Route("/", answer), Route("/other", lambda _request: PlainTextResponse(text("guard.gone")))]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(Translated)]))


@pytest.mark.parametrize(
    ("language", "label", "key"), [("de", "3. Prüfen", "Rücktaste"), ("en", "3. Check", "Backspace")]
)
def test_gradios_page_is_translated_when_it_is_sent(language: str, label: str, key: str) -> None:
    answer = page_client(built()).get("/", headers={"accept-language": language})
    assert len(answer.content) == int(answer.headers["content-length"])
    assert f'<html lang="{language}"' in answer.text
    assert answer.text.index("window.farshotText") < answer.text.index("<title>")
    config = json.loads(re.findall(r"c = (.*);</script></html>", answer.text)[0])
    assert config["label"] == label and config["name"] == "mini"
    assert f"<kbd>{key}</kbd>" in config["value"]
    assert {"de": "1.000.", "en": "1,000."}[language] in config["hint"]
    assert not set(answer.text) & {texts.MARK, texts.END, texts.END_OF_HTML}


def test_a_text_cannot_end_the_script_that_it_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {**texts.catalogue("en"), "tab.check": "</script>\"\\'&", "js.place": "</script>"}
    monkeypatch.setattr(texts, "catalogue", lambda _language: broken)
    page = translated(built())
    assert page.count("</script>") == built().count("</script>") + 1
    config = json.loads(re.findall(r"c = (.*);</script></html>", page)[0])
    assert config["label"] == "</script>\"\\'&"
    assert "</script>" not in script_texts()


def test_other_answers_go_through_as_they_are() -> None:
    client = page_client("no page of Gradio")
    assert client.get("/").text == "no page of Gradio"
    assert client.get("/other", headers={"accept-language": "es"}).text == "Este proyecto ya no existe."
    assert client.head("/").status_code == 200
