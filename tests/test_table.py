"""ImageTable: the draw of a support set, subsets, and unreadable images all named at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farshot.data.readers import read_table
from farshot.data.table import ImageTable, path_of
from farshot.errors import DataError
from tests.input_helpers import class_folders, picture, pixels_of


def table_of(*sizes: int) -> ImageTable:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    names = tuple(f"class {c}" for c in range(len(sizes)))
    return ImageTable(tuple(map(str, range(len(labels)))), labels, names, names)


@settings(deadline=None)  # the first draw loads scipy
@given(st.lists(st.integers(3, 9), min_size=1, max_size=5), st.integers(1, 3), st.integers(0, 99))
def test_a_draw_takes_k_of_every_class_and_keeps_the_rest(sizes: list[int], shots: int, seed: int) -> None:
    table = table_of(*sizes)
    support, rest = table.draw(shots, seed)
    assert table.labels is not None
    assert np.bincount(table.labels[support]).tolist() == [shots] * len(sizes)
    assert sorted([*support, *rest]) == list(range(len(table)))
    assert support.tolist() == sorted(support)
    assert np.array_equal(support, table.draw(shots, seed)[0])


def test_another_seed_is_another_draw() -> None:
    draws = {tuple(table_of(20, 20).draw(5, seed)[0]) for seed in range(10)}
    assert len(draws) == 10


def test_a_class_too_small_is_named_with_the_way_out() -> None:
    with pytest.raises(DataError, match=r"class 'class 1' has 2 images, fewer than the 3.*--shots 2"):
        table_of(5, 2, 4).draw(3, 0)
    with pytest.raises(DataError, match="class 'class 1' has no image"):
        table_of(5, 0, 4).draw(1, 0)
    with pytest.raises(DataError, match="no labels"):
        ImageTable(("a.png",), None, (), ()).draw(1, 0)


def test_a_subset_keeps_order_labels_classes_and_hashes() -> None:
    table = ImageTable(tuple(picture(i) for i in range(4)), np.array([0, 0, 1, 1]), ("a", "b"), ("a", "b"))
    hashes = table.ids
    part = table.subset([3, 0])
    assert part.labels is not None
    assert part.labels.tolist() == [1, 0]
    assert part.ids == (hashes[3], hashes[0])
    assert part.classes == ("a", "b")
    assert len(set(hashes)) == 4


def test_pixels_come_in_the_order_asked_for() -> None:
    table = ImageTable(tuple(picture(i, 8, 8) for i in range(5)), None, (), ())
    found = table.pixels([4, 0, 4], "squash", 8)
    assert np.array_equal(found, np.stack([pixels_of(picture(i, 8, 8)) for i in (4, 0, 4)]))
    assert np.asarray(table.pixels([], "squash", 8)).shape == (0, 8, 8, 3)
    shapes = [p.shape for p in table.pixels([0], "reduced", 2)]
    assert shapes == [(4, 4, 3)]


def test_all_unreadable_images_are_listed_at_once(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data")
    (folder / "cat" / "1.png").write_bytes(b"")
    (folder / "owl" / "2.png").write_text("not an image")
    with pytest.raises(DataError) as error:
        read_table(folder).check_readable()
    text = str(error.value)
    assert text.startswith("2 of 9 images cannot be read; fix or remove them, or use --skip-unreadable")
    assert f"{folder / 'cat' / '1.png'}: the file is empty" in text
    assert f"{folder / 'owl' / '2.png'}: this is not an image" in text


def test_a_long_list_is_cut_and_says_how_many_are_left() -> None:
    table = ImageTable(tuple(f"missing{i}.png" for i in range(25)), None, (), ())
    with pytest.raises(DataError, match=r"25 of 25[\s\S]*missing19[\s\S]*and 5 more$"):
        table.check_readable()


def test_unreadable_images_in_memory_are_known_by_their_place() -> None:
    table = ImageTable((picture(0), b"no image", np.zeros((2, 2, 7), np.uint8)), None, (), ())
    with pytest.raises(DataError, match=r"image 2, an image in memory: this is not.*\n.*image 3, an array"):
        table.check_readable()


def test_unreadable_images_are_skipped_if_asked(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data")
    (folder / "cat" / "1.png").write_bytes(b"")
    seen: list[tuple[int, int]] = []
    left = read_table(folder).check_readable(True, lambda done, of: seen.append((done, of)))
    assert len(left) == 8
    assert str(folder / "cat" / "1.png") not in map(str, left.images)
    assert seen == [(i, 9) for i in range(1, 10)]


def test_a_class_left_without_images_is_refused(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data", images=1)
    (folder / "dog" / "0.png").write_bytes(b"")
    with pytest.raises(
        DataError, match="Without the 1 unreadable images there is no image of the class 'dog'"
    ):
        read_table(folder).check_readable(True)
    with pytest.raises(DataError, match="there is no image at all left"):
        ImageTable(("missing.png",), None, (), ()).check_readable(True)


def test_what_an_image_is_called() -> None:
    assert path_of(Path("a/b.png")) == "a/b.png"
    assert path_of(picture(0)) == path_of(b"") == "(in memory)"
