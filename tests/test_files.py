"""Which files of a folder are read: links are followed safely, and one list names what systems leave between
pictures."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from farshot.app.workspace.intake import Upload, take_in
from farshot.app.workspace.limits import Limits
from farshot.data.files import image_files, is_litter, may_be_image, subfolders
from farshot.data.listing import Listing, add_class_folders
from farshot.data.pools import open_pool
from farshot.data.readers import read_table, unlabelled
from farshot.errors import DataError
from tests.bench_helpers import eurosat
from tests.input_helpers import Farshot, class_folders, picture

LITTER = (
    *("@eaDir/1.png", "__MACOSX/._1.png", "$RECYCLE.BIN/1.png", "lost+found/1.png"),
    *("System Volume Information/1.png", "#recycle/1.png", "Icon\r", "Thumbs.db", "ehthumbs.db"),
    *("desktop.ini", ".DS_Store", "._1.png", "1.xmp", "1.png.xmp", "1.AAE", "1.THM"),
    *("1.pngZone.Identifier", "1.png\uf03aZone.Identifier", "1.png\uf022Zone.Identifier"),
)
STREAMS = (  # names that Windows itself cannot create
    *("1.png:Zone.Identifier", "1.png:Zone.Identifier:$DATA", "Thumbs.db:encryptable"),
    *("1.png:SmartScreen", "1.png:AFP_AfpInfo", "1.png:com.dropbox.attributes"),
)
OTHERS = ("1.mp4", "1.MOV", "1.avi", "1.mp3", "notes.txt", "table.tsv", "list.xlsx", "page.htm")


def linked(link: Path, target: Path) -> None:
    try:
        link.symlink_to(target, target_is_directory=target.is_dir())
    except OSError:
        pytest.skip("this system does not let us make links")


def written(folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in image_files(folder)]


# Links ---------------------------------------------------------------------------------------------------


def test_linked_folders_in_a_class_are_read(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", ("cat", "dog"), 1)
    class_folders(tmp_path / "elsewhere", ("more",), 2, start=50)
    linked(data / "cat" / "link", tmp_path / "elsewhere")
    linked(data / "owl", tmp_path / "elsewhere" / "more")
    table = read_table(data, level=1)
    assert table.classes == ("cat", "dog", "owl")
    found = [Path(image).relative_to(data).as_posix() for image in table.images]
    assert found[:3] == ["cat/0.png", "cat/link/more/0.png", "cat/link/more/1.png"]
    assert found[-2:] == ["owl/0.png", "owl/1.png"]


def test_links_in_a_circle_end_and_nothing_is_read_twice(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data", ("b", "c"), 1)
    linked(folder / "b" / "back", folder / "b")
    linked(folder / "a", folder / "c")
    linked(folder / "c" / "other", folder / "b")
    assert names(folder) == ["b/0.png", "c/0.png"]


def test_a_link_to_a_folder_above_is_refused(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", ("cat", "dog"), 1)
    linked(data / "cat" / "up", data)
    with pytest.raises(DataError, match=r"cat.up is a link to a folder that contains it; remove the link"):
        read_table(data)


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", ("cat", "dog"), 1)
    linked(data / "cat" / "gone.png", tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"1 of 3 images cannot be read[^\n]*\n.*gone\.png"):
        read_table(data).check_readable()
    assert len(read_table(data).check_readable(skip_unreadable=True)) == 2
    linked(data / "owl", tmp_path / "gone")
    with pytest.raises(DataError, match="owl is a link to nothing; repair or remove it"):
        read_table(data)


def test_pipes_are_never_opened(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes")
    folder = class_folders(tmp_path / "data", ("cat",), 1)
    os.mkfifo(folder / "pipe.png")
    linked(folder / "link.png", folder / "pipe.png")
    assert names(folder) == ["cat/0.png"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = class_folders(tmp_path / "data", ("cat", "dog"), 1)
    (data / "cat" / "locked").mkdir()
    scandir = os.scandir

    def refusing(path: Path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DataError, match=r"The folder .*locked cannot be read \(Permission denied\)"):
        read_table(data)


# Litter --------------------------------------------------------------------------------------------------


def test_litter_of_systems_is_left_out_of_folders(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", ("cat", "dog"), 1)
    for place in (data, data / "cat", data / "dog"):
        written(place, LITTER + OTHERS)
    table = read_table(data)
    assert table.classes == ("cat", "dog")
    assert [Path(image).name for image in table.images] == ["0.png", "0.png"]
    assert table.notes == ()
    assert [path.name for path in subfolders(data)] == ["cat", "dog"]


def test_second_streams_of_windows_are_left_out_under_any_name() -> None:
    for name in STREAMS:
        for colon in (":", "\uf03a", "\uf022"):
            assert is_litter(["photos", name.replace(":", colon, 1)], hidden=False), name


def test_overviews_and_world_files_of_maps_are_no_pictures(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", ("cat", "dog"), 1)
    for place in (data / "cat", data / "dog"):
        overview = place / "0.tif.ovr"
        picture(3).save(overview, format="TIFF")
        for ending in (".tfw", ".tifw", ".jgw", ".PGW", ".wld", ".prj", ".hdr", ".png.msk"):
            (place / f"0{ending}").write_text("0.5\n0\n0\n-0.5\n440720\n3751320\n")
    assert [Path(image).name for image in read_table(data).images] == ["0.png", "0.png"]
    assert len(unlabelled([data]).images) == 2


def test_litter_among_files_is_left_out_and_a_video_is_named(farshot: Farshot, tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    written(tmp_path, tuple(name for name in LITTER if "/" not in name))
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert unlabelled(files).images == (tmp_path / "a.png",)
    written(tmp_path, ("clip.mp4",))
    assert unlabelled([tmp_path]).images == (tmp_path / "a.png",)
    with pytest.raises(DataError, match=r"clip\.mp4"):
        unlabelled([tmp_path / "a.png", tmp_path / "clip.mp4"]).check_readable()


def test_the_app_has_the_same_list(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    (tmp_path / "x").write_bytes(b"x")
    uploads = [Upload(name, tmp_path / "x") for name in LITTER]
    taken, refused = take_in([*uploads, Upload("a.png", tmp_path / "a.png")], tmp_path / "place", Limits())
    assert ([one.name for one in taken], refused) == (["a.png"], [])
    video = b"\0\0\0\x18ftypisom" + bytes(60)
    (tmp_path / "x").write_bytes(video)
    _, refused = take_in([Upload("cat/1.mp4", tmp_path / "x")], tmp_path / "place", Limits())
    assert "this is a video" in refused[0].reason


def test_published_pools_leave_litter_out(tmp_path: Path) -> None:
    root = eurosat(tmp_path / "eurosat")
    forest = root / "2750" / "Forest"
    (forest / "._Forest_1.jpg").write_bytes(b"x")
    found = Listing(root / "2750", {"Forest": "Forest"})
    add_class_folders(found, ["Forest"])
    assert all("._" not in name for name in found.files)


def test_names_of_pictures_are_no_litter() -> None:
    for name in ("icon.png", "a.JPG", "scan", "a.b.tiff", "recycle.png", "Äpfel.heic", "array.npy"):
        assert may_be_image(name), name
        assert not is_litter(["photos", name], hidden=False)
    for name in ("scan 12.30:45.png", "a:b", "1:encryptable.png", "Identifier"):
        assert may_be_image(name), name
    assert is_litter(["..", ".", ".hidden", "a.png"], hidden=True)
    assert not is_litter([".hidden", "a.png"], hidden=False)


# Names in two Unicode forms ------------------------------------------------------------------------------


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_table", ["NFC", "NFD"])
def test_paths_and_labels_of_tables_may_be_in_another_unicode_form(
    tmp_path: Path, on_disk: str, in_table: str
) -> None:
    folder = tmp_path / unicodedata.normalize(on_disk, "Äpfel")
    folder.mkdir()
    for number in range(2):
        picture(number).save(folder / unicodedata.normalize(on_disk, f"é{number}.png"))
    text = "path,label\nÄpfel/é0.png,früh\nÄpfel/é1.png,spät\n"
    (tmp_path / "list.csv").write_text(unicodedata.normalize(in_table, text), encoding="utf-8")
    table = read_table(tmp_path / "list.csv")
    assert table.classes == ("früh", "spät")
    assert all(Path(image).is_file() for image in table.images)
    (tmp_path / "list.csv").write_text(text.replace("é1", "è1"), encoding="utf-8")
    with pytest.raises(DataError, match="line 3: there is no file"):
        read_table(tmp_path / "list.csv")


def test_one_label_in_two_unicode_forms_is_one_class_of_a_table(tmp_path: Path) -> None:
    for number in range(3):
        picture(number).save(tmp_path / f"{number}.png")
    rows = f"0.png,früh\n1.png,{unicodedata.normalize('NFD', 'früh')}\n2.png,spät\n"
    (tmp_path / "list.csv").write_text("path,label\n" + rows, encoding="utf-8")
    assert read_table(tmp_path / "list.csv").classes == ("früh", "spät")


# Pools by name -------------------------------------------------------------------------------------------


def test_a_pool_is_found_by_its_path_however_its_name_is_written(tmp_path: Path) -> None:
    place = eurosat(tmp_path / "x")
    for name in ("EuroSAT", "eurosat", "EUROSAT"):
        for paths in ({"EuroSAT": place}, {"eurosat": place}):
            pool = open_pool(name, paths=paths)
            assert (pool.name, pool.ids[0]) == ("eurosat", "AnnualCrop/AnnualCrop_1.jpg")
        assert open_pool(f"{name}={place}").table.names[0] == "Annual Crop Land"
    assert open_pool("Mini-Skin", images=1).name == "mini-skin"
    own = class_folders(tmp_path / "own", ("cat", "dog"), 1)
    assert open_pool("Mine", paths={"mine": own}).name == "Mine"
