"""The exported web page in a real browser, without any other network than the page's server."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page

from farshot import FewShotClassifier
from farshot.export import export
from farshot.export.about import load_exact
from farshot.randomness import numpy_generator
from tests import browsing
from tests.browsing import DESKTOP, PHONE, Watch
from tests.pages import serving
from tests.toy import world_table

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(browsing.CHROMIUM is None, reason="there is no Chromium on this machine"),
]

TABLE = world_table(count=400)
LABELLED = TABLE.subset(range(0, 40, 2))
CLASSIFY = """async () => {
  const model = await (await import('./model.js')).load();
  const found = [];
  for (const file of document.getElementById('given').files) {
    const start = performance.now();
    const answer = await model.classifyFile(file);
    found.push({ probabilities: answer.probabilities, p: answer.p, ms: performance.now() - start });
  }
  return found;
}"""


def _drawn(folder: Path, count: int) -> list[Path]:
    """Pictures of many sizes, formats and orientations, as files."""
    generator = numpy_generator("test", "drawn")
    files = []
    for number in range(count):
        width, height = (int(side) for side in generator.integers(40, 700, 2))
        if number % 25 == 0:
            width, height = 2600, 1900  # of which Python decodes a draft for the reading squash
        picture = Image.fromarray(np.asarray(TABLE.images[40 + number % (len(TABLE) - 40)]))
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        turned = Image.Exif()
        ending = ("jpg", "png", "webp", "jpg")[number % 4]
        turned[0x0112] = 1 if ending == "webp" else 1 + number % 8  # of WebP, Chromium ignores it
        if ending != "jpg" and number % 3 == 0:
            picture.putalpha(Image.linear_gradient("L").resize(picture.size))
        options = {"quality": 90} if ending == "jpg" else {"lossless": True} if ending == "webp" else {}
        files.append(folder / f"{number}.{ending}")
        picture.save(files[-1], exif=turned, **options)
    return files


def _opened(page: Page, address: str) -> Watch:
    watch = Watch(page, address)
    page.route(lambda asked: not asked.startswith((address, "blob:")), lambda route: route.abort())
    page.goto(f"{address}/index.html")
    page.get_by_text("Ready.", exact=True).wait_for(timeout=120_000)
    return watch


def _accessible(page: Page) -> None:
    for size in (DESKTOP, PHONE):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            found = Axe().run(page).response["violations"]
            assert [(one["id"], one["nodes"][0]["target"]) for one in found] == []


@pytest.fixture(scope="module")
def page_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of the bundled mini CLIP, adapted to 20 pictures; the runtime comes from the npm registry."""
    above = tmp_path_factory.mktemp("web")
    FewShotClassifier("mini", "tip-adapter", calibrate=True).fit(LABELLED).save(above / "adapted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FARSHOT_CACHE", str(above / "cache"))
        export(load_exact(above / "adapted"), "web", above / "page")
    return above


@pytest.mark.parametrize("reading", ["model", pytest.param("squash", id="drafts")])
def test_a_browser_gives_100_pictures_the_labels_of_python(reading: str, page_folder: Path, tmp_path: Path):
    """Offline except for the server of the page: no other request, no error, the same numbers."""
    made = load_exact(page_folder / "adapted")
    place = page_folder / "page"
    if reading != "model":
        FewShotClassifier("mini", "tip-adapter", settings={"reading": reading}).fit(LABELLED).save(
            tmp_path / "a"
        )
        made, place = load_exact(tmp_path / "a"), tmp_path / "page"
        runtime = next((page_folder / "cache").glob("onnxruntime-web-*"))
        export(made, "web", place, runtime=runtime)
    files = _drawn(tmp_path, 100)
    with serving(place) as (address, _), browsing.browser() as browser:
        page = browser.new_page()
        watch = _opened(page, address)
        page.evaluate(
            "() => { const one = document.createElement('input'); one.type = 'file'; one.multiple = true; "
            "one.id = 'given'; document.body.append(one); }"
        )
        page.set_input_files("#given", files)
        found = page.evaluate(CLASSIFY)
    theirs = np.array([one["probabilities"] for one in found], dtype=np.float32)
    ours = made.predict_proba(files)
    difference = float(np.abs(theirs - ours).max())
    milliseconds = statistics.median(one["ms"] for one in found)
    print(f"largest difference {difference:.1e}, {milliseconds:.0f} ms per picture")
    assert np.array_equal(theirs.argmax(1), ours.argmax(1))
    assert len(set(ours.argmax(1))) == 2  # the test would see a browser that gives one label to all
    assert difference < (1e-4 if reading == "model" else 0.01)  # browsers have no drafts of large JPEGs
    np.testing.assert_allclose([one["p"] for one in found], made.familiarity(files), atol=1 / 20)
    assert watch.faults == []


def test_the_page_says_in_plain_words_what_it_found(page_folder: Path, tmp_path: Path):
    files = _drawn(tmp_path, 2)
    odd = tmp_path / "flat.png"
    Image.new("RGB", (60, 60), (255, 0, 255)).save(odd)
    (tmp_path / "list.txt").write_text("not a picture")
    made = load_exact(page_folder / "adapted")
    row = made.predict_proba(files[:1])[0]
    with serving(page_folder / "page") as (address, _), browsing.browser() as browser:
        page = browser.new_page()
        watch = _opened(page, address)
        _accessible(page)
        page.set_input_files("#files", [*files, odd, tmp_path / "list.txt"])
        page.get_by_text("list.txt was not read.").wait_for(timeout=30_000)
        cards = page.locator("#answers > li")
        assert cards.count() == 4
        first = " ".join(cards.nth(3).inner_text().split())
        certain = f"{100 * row.max():.1f} %" if made.calibrated_ else f"{row.max():.3f}"
        assert first.startswith(f"{made.classes_[row.argmax()]} {files[0].name}") and certain in first
        unlike = made.familiarity([odd])[0] <= 0.05
        assert ("Unlike anything labelled" in cards.nth(1).inner_text()) == unlike
        assert "cannot read it as a picture" in cards.nth(0).inner_text()
        page.evaluate(
            """async () => {
              const data = new DataTransfer();
              const answer = await fetch('icon.svg');
              data.items.add(new File([await answer.blob()], 'icon.svg', { type: 'image/svg+xml' }));
              document.dispatchEvent(new DragEvent('drop', { dataTransfer: data, cancelable: true }));
            }"""
        )
        page.locator("#answers > li").nth(4).wait_for(timeout=30_000)
        _accessible(page)
    assert watch.faults == []


def test_the_camera_is_classified_and_a_picture_of_it_kept(page_folder: Path):
    made = load_exact(page_folder / "adapted")
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with serving(page_folder / "page") as (address, _), browsing.browser(*camera) as browser:
        page = browser.new_context(permissions=["camera"], viewport=PHONE).new_page()  # type: ignore[arg-type]
        watch = _opened(page, address)
        page.click("#camera")
        answers = [*map(str, made.classes_), "Unlike anything labelled"]
        said = re.compile("|".join(map(re.escape, answers)))
        page.locator("#live").filter(has_text=said).wait_for(timeout=60_000)
        page.click("#keep")
        page.locator("#answers > li").first.wait_for(timeout=60_000)
        assert "picture 1" in page.locator("#answers > li").first.inner_text()
        _accessible(page)
        page.click("#stop")
        assert page.locator("#view").is_hidden() and page.locator("#camera").is_visible()
        assert page.evaluate("document.getElementById('video').srcObject") is None
    assert watch.faults == []
