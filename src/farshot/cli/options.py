"""Arguments and options that several commands share, with their help."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farshot.cli import console
from farshot.errors import DataError, SettingError
from farshot.sanitize import plain, short

if TYPE_CHECKING:
    from farshot.images.options import ReadOptions
    from farshot.training.tracking import Tracker

Data = Annotated[
    str,
    typer.Argument(
        help="A folder with one subfolder per class, perhaps within train, val and test; a .zip or .tar of "
        "one; a CSV, Parquet or JSON list; labels of another tool (COCO, CVAT, FiftyOne); WebDataset shards; "
        "a saved dataset; or hf:NAME[:SPLIT]."
    ),
]
Images = Annotated[
    list[Path], typer.Argument(help="Image files; or folders, zips, tars or datasets of them.")
]
Saved = Annotated[Path, typer.Argument(help="The folder of an adapted model, or hf:OWNER/NAME.")]
BaseModel = Annotated[
    str | None, typer.Option("--model", help="Where the base model lies, if no longer where it was.")
]
Range = Annotated[
    tuple[float, float] | None,
    typer.Option(
        "--range",
        metavar="LOW HIGH",
        help="Values that become black and white, for images of more than 8 bits or floating point; by "
        "default inferred for each image.",
    ),
]
Bands = Annotated[
    tuple[int, int, int] | None,
    typer.Option(
        "--bands",
        metavar="R G B",
        help="Bands of TIFF files that become red, green and blue, counted from 1.",
    ),
]
Page = Annotated[
    int | None,
    typer.Option(
        "--page",
        metavar="N",
        min=1,
        help="Page of TIFF and HEIC files, and frame of DICOM files, counted from 1; by default the first.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")]
SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Leave out images that cannot be read.")
]
Level = Annotated[
    int | None,
    typer.Option(
        "--level",
        help="Of a folder: how many folders deep the class folders lie, if that is not clear; 1 is directly "
        "in it.",
        min=1,
    ),
]


Groups = Annotated[
    str | None,
    typer.Option(
        "--groups",
        metavar="COLUMN|REGEX",
        help="Which images belong together, such as those of one patient, so that they are not on both sides "
        "of a split: a column of the table (by default `group`), or a regular expression on each image's "
        "path below the folder, such as 'patient[0-9]+'.",
    ),
]


Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="KIND:PLACE",
        help="Record settings, losses and results: tensorboard:FOLDER, mlflow:FOLDER (or a server's address) "
        "or wandb:PROJECT. Repeatable.",
    ),
]
Download = Annotated[
    bool,
    typer.Option("--download", help="Fetch images that a table names by URL into the cache (FARSHOT_CACHE)."),
]
DataRoot = Annotated[
    Path | None, typer.Option(help="Folder with a subfolder per published pool; or set FARSHOT_DATA.")
]
PoolPaths = Annotated[list[str] | None, typer.Option("--pool-path", help="Where one pool lies: NAME=FOLDER.")]
Cache = Annotated[Path | None, typer.Option(help="Folder for decoded images; or set FARSHOT_CACHE.")]
TasksPerBatch = Annotated[
    int | None, typer.Option(help="Tasks adapted side by side; by default what memory holds.", min=1)
]
MicroBatch = Annotated[
    int | None, typer.Option(help="Most images at once in training: less memory, same result.", min=1)
]
Precision = Annotated[str, typer.Option(help="float32 or bf16.")]
Devices = Annotated[
    str, typer.Option(help="auto or cuda for every GPU here; cuda:1, cpu or mps for one device.")
]
CpusPerWorker = Annotated[
    float, typer.Option(help="With Ray: processors of a worker, which are its threads.")
]
Executor = Annotated[str, typer.Option(help="local, or ray for a cluster.")]
Address = Annotated[
    str | None, typer.Option(help="Of a running Ray cluster, or auto; without it Ray starts here.")
]
Workers = Annotated[
    int | None,
    typer.Option(help="Worker processes; by default one per GPU, with Ray all that fit.", min=1),
]
GpusPerWorker = Annotated[
    float | None, typer.Option(help="With Ray: 0.5 puts two workers on a GPU, 0 computes on processors.")
]


def use_trackers(specs: list[str] | None) -> None:
    """Use the trackers of --track, if there are any, until the command ends.

    Raises:
        SettingError, DataError: as `farshot.trackers.open_tracker`.
    """
    if not specs:
        return
    from farshot.trackers import Several, open_tracker, track

    opened = []
    for spec in specs:
        opened.append(open_tracker(spec))
        console.at_end.push(_closing(opened[-1]))
    console.at_end.enter_context(track(Several(opened)))


def _closing(tracker: Tracker) -> Callable[[type[BaseException] | None, BaseException | None, Any], None]:
    """What closes a tracker at the end of the command, with the outcome."""

    def close(_kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None or (isinstance(error, SystemExit) and not error.code):
            tracker.close("finished")
        else:
            was_stopped = isinstance(error, KeyboardInterrupt | console.Stopped)
            tracker.close("stopped" if was_stopped else "failed")

    return close


def use_downloads(wanted: bool) -> None:
    """Fetch images that are named by URL until the command ends, where --download is given."""
    if not wanted:
        return
    from farshot.data.urls import downloading

    console.at_end.enter_context(downloading(partial(console.progress, "downloading")))


def read_options(
    value_range: tuple[float, float] | None, bands: tuple[int, int, int] | None, page: int | None
) -> ReadOptions:
    """How images are read.

    Raises:
        SettingError: an empty range, or bands that are not counted from 1.
    """
    from farshot.images.options import ReadOptions

    try:
        return ReadOptions(value_range, bands, page)
    except ValueError as error:
        raise SettingError(f"--range, --bands: {error}") from error


def read_settings(pairs: list[str]) -> dict[str, str]:
    """Settings of a method by name, from `--set name=value`.

    Raises:
        SettingError: another form.
        DataError: a setting that is given twice.
    """
    settings: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise SettingError(f"--set takes name=value, not {short(pair)}; for example --set steps=50.")
        if name in settings:
            raise DataError(f"--set {plain(name, 60)} is given twice; give it once.")
        settings[name] = value
    return settings
