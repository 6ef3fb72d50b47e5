"""`farshot predict` gives the same rows whichever workers compute them, and whichever of them die."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from farshot import FewShotClassifier, load
from farshot.classifier import distributed, stream
from farshot.classifier.distributed import Worker, predict_parts_on, setup_for
from farshot.data.table import ImageTable, ReadingNote
from farshot.errors import FarshotError, SettingError
from farshot.workers.executors import Finished, Lost
from farshot.workers.processes import Processes
from tests.input_helpers import Farshot, picture, refusal, rows_of
from tests.machines import MAIN, kill, started, workers_alive


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (stream, distributed):
        monkeypatch.setattr(module, "AT_ONCE", 2)


class Several:
    """Workers that share one; the last that got a chunk answers first, and some chunks are lost."""

    def __init__(self, worker: Worker, lost: Sequence[tuple[int, int]] = ()) -> None:
        self.worker, self.lost = worker, list(lost)
        self.chunks: dict[int, tuple[int, int]] = {}
        self.given: list[tuple[int, int]] = []

    def idle(self) -> Sequence[int]:
        return [number for number in range(3) if number not in self.chunks]

    def loads(self, worker: int) -> Sequence[int]:
        return self.worker.loads

    def give(self, worker: int, chunk: tuple[int, int]) -> None:
        assert worker not in self.chunks
        self.chunks[worker] = chunk
        self.given.append(chunk)

    def wait(self, seconds: float) -> list[Finished | Lost]:
        chunk = self.chunks.pop(max(self.chunks))
        if chunk in self.lost:
            self.lost.remove(chunk)
            return [Lost(chunk, "a lost cable")]
        return [Finished(chunk, self.worker.compute(chunk))]


def table_of(folder: Path) -> ImageTable:
    return ImageTable(tuple(sorted(folder.iterdir())), None, (), ())


def test_parts_come_in_order_though_workers_answer_in_another_and_some_die(
    adapted: Path, pictures: Path
) -> None:
    classifier, table = load(adapted), table_of(pictures)
    done: list[tuple[int, int]] = []
    classifier.set_params(progress=lambda *numbers: done.append(numbers))
    worker = setup_for(classifier, adapted, table, p_values=True).worker("cpu")
    executor = Several(worker, lost=[(0, 2), (0, 2), (6, 8)])
    parts = list(predict_parts_on(executor, classifier, table))
    assert np.concatenate([part.rows for part in parts]).tolist() == list(range(12))
    alone = list(stream.predict_parts(classifier, table, p_values=True))
    for part, expected in zip(parts, alone, strict=True):
        np.testing.assert_allclose(part.logits, expected.logits, rtol=1e-5, atol=1e-5)
        assert part.p_values is not None
        assert expected.p_values is not None
        np.testing.assert_allclose(part.p_values, expected.p_values)
    assert executor.given.count((0, 2)) == 3
    assert done[:6] == [(2, 12), (4, 12), (6, 12), (8, 12), (10, 12), (12, 12)]


def test_images_that_kill_every_worker_are_named(adapted: Path, pictures: Path) -> None:
    classifier, table = load(adapted), table_of(pictures)
    worker = setup_for(classifier, adapted, table).worker("cpu")
    with pytest.raises(
        FarshotError, match=r"3 workers died with the images from .*2\.png to .*3\.png \(a lo"
    ):
        list(predict_parts_on(Several(worker, lost=[(2, 4)] * 3), classifier, table))


def test_what_waits_for_a_slow_part_is_bounded(
    adapted: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "MOST_WAITING", 3)
    classifier, table = load(adapted), table_of(pictures)
    executor = Several(setup_for(classifier, adapted, table).worker("cpu"))
    parts = predict_parts_on(executor, classifier, table)
    next(parts)
    assert len(executor.given) <= 3
    assert len(list(parts)) == 5


def test_faults_and_notes_come_from_workers(adapted: Path, tmp_path: Path) -> None:
    for number in range(4):
        picture(number).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes(b"no picture")
    picture(9).save(tmp_path / "3.tiff", save_all=True, append_images=[picture(10)])
    (tmp_path / "3.png").unlink()
    classifier, table = load(adapted), table_of(tmp_path)
    worker = setup_for(classifier, adapted, table).worker("cpu")
    with pytest.warns(ReadingNote, match="page"):
        parts = list(predict_parts_on(Several(worker), classifier, table))
    assert [list(part.faults) for part in parts] == [[1], []]
    assert "1.png" in parts[0].faults[1]


@pytest.mark.slow
def test_processes_give_the_rows_of_one_though_one_of_them_is_killed(
    farshot: Farshot, adapted: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give, killed = Processes.give, []

    def killing(self: Processes, worker: int, chunk: object) -> None:
        give(self, worker, chunk)
        if not killed:
            killed.append(worker)
            self.members[worker].process.kill()

    monkeypatch.setattr(Processes, "give", killing)
    whole = farshot("predict", adapted, pictures, "--csv")
    out = tmp_path / "rows.csv"
    told = farshot("predict", adapted, pictures, "--out", out, "--workers", 2, "--device", "cpu")
    assert (told.code, told.err) == (0, "")
    assert killed
    assert out.read_text(encoding="utf-8") == whole.out


def test_what_several_workers_cannot_do_is_refused(
    farshot: Farshot, place: Path, adapted: Path, pictures: Path, tmp_path: Path
) -> None:
    both = ("--workers", 2, "--device", "cpu")
    assert "add --executor ray" in refusal(farshot("predict", adapted, pictures, "--address", "auto"))
    together = tmp_path / "together"
    images = sorted((place / "data").rglob("*.png"))
    classifier = FewShotClassifier(place / "clip", "transclip", device="cpu")
    classifier.fit(images, [image.parent.name for image in images]).save(together)
    out = tmp_path / "rows.csv"
    told = farshot("predict", together, pictures, "--out", out, *both)
    assert "transclip predicts all images together" in refusal(told)
    assert not out.exists()
    classifier = load(adapted)
    setup = setup_for(classifier, adapted, table_of(pictures))
    with pytest.raises(FarshotError, match="is not the driver's; copy the same"):
        replace(setup, identity="0" * 32).worker("cpu")
    with pytest.raises(FarshotError, match=r"has farshot .*, the driver 0\.0; install the same"):
        replace(setup, version="0.0").worker("cpu")
    with pytest.raises(SettingError, match="leave out --executor"):
        setup_for(load(together), together, table_of(pictures))


IMAGES = 10_000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
@pytest.mark.timeout(1200)
def test_worker_node_and_driver_die_while_ten_thousand_pictures_are_predicted(
    adapted: Path, tmp_path: Path, two_nodes, monkeypatch: pytest.MonkeyPatch, farshot: Farshot
) -> None:
    monkeypatch.undo()  # parts of the real size
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(IMAGES):
        picture(number).save(folder / f"{number:05d}.png", compress_level=0)
    out = tmp_path / "rows.csv"
    command = [sys.executable, "-c", MAIN, "predict", str(adapted), str(folder), "--out", str(out)]
    command += ["--executor", "ray", "--address", two_nodes.address]

    def until(rows: int, driver) -> int:
        while not out.exists() or (found := out.read_bytes().count(b"\n")) < rows:
            assert driver.poll() is None, driver.communicate()[1]
            time.sleep(0.02)
        return found

    driver = started(command)
    found = until(200, driver)
    workers_alive()[0].kill()
    found = until(found + 200, driver)
    two_nodes.remove_node(two_nodes.nodes_for_test[1], allow_graceful=False)
    until(found + 200, driver)
    kill(driver)
    assert 600 < out.read_bytes().count(b"\n") < IMAGES
    again = started(command)
    _, err = again.communicate(timeout=900)
    assert again.returncode == 0, err
    assert "rows were in" in err
    rows = rows_of(out)
    assert [Path(row[0]).name for row in rows[1:]] == [f"{number:05d}.png" for number in range(IMAGES)]
    assert list(tmp_path.glob("*unfinished*")) == []
    classifier = load(adapted)
    expected = classifier.predict_proba(sorted(folder.iterdir())[::50])
    np.testing.assert_allclose(np.array([row[2:5] for row in rows[1::50]], dtype=float), expected, atol=1e-4)
