"""The four pools of BSCD-FSL (Guo et al., 2020), in the layout in which each is distributed.

Reading a pool finds its files and classes, and reports what is wrong with the step that fixes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farshot.data.listing import (
    Finding,
    Listing,
    add_class_folders,
    add_listed,
    augmented_copies,
    folder_with,
    repeated,
)
from farshot.errors import DataError


@dataclass(frozen=True)
class Published:
    """A published pool.

    Attributes:
        title: as papers call it.
        images, classes: how many there are.
        source: where it comes from.
        read: lists its files.
    """

    title: str
    images: int
    classes: int
    source: str
    read: Callable[[Path], Listing]


EUROSAT = {
    "AnnualCrop": "Annual Crop Land",
    "Forest": "Forest",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "River": "River",
    "SeaLake": "Sea or Lake",
}
ISIC = {
    "MEL": "Melanoma",
    "NV": "Melanocytic Nevus",
    "BCC": "Basal Cell Carcinoma",
    "AKIEC": "Actinic Keratosis",
    "BKL": "Benign Keratosis",
    "DF": "Dermatofibroma",
    "VASC": "Vascular Lesion",
}
CHESTX = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumothorax")


def read_eurosat(path: Path) -> Listing:
    """2750/<Class>/<Class>_<n>.jpg."""
    root = folder_with(path, ("2750", "EuroSAT/2750", "EuroSAT", "."), lambda name: name in EUROSAT)
    if root is None:
        raise DataError(f"{path} has no folder 2750/AnnualCrop; unpack EuroSAT.zip (the RGB version) there.")
    found = Listing(root, dict(EUROSAT))
    add_class_folders(found, list(EUROSAT))
    if any(file.suffix.lower() in (".tif", ".tiff") for file, _ in found.files.values()):
        found.findings.append(
            Finding(
                "these are the 13-band .tif files of EuroSAT_MS, not pictures",
                "Use the RGB version, EuroSAT.zip with 2750/*/*.jpg.",
                fatal=True,
            )
        )
    return found


def read_cropdiseases(path: Path) -> Listing:
    """train/<Plant>___<Condition>/*.jpg."""
    root = folder_with(path, ("train", "dataset/train", "."), lambda name: "___" in name)
    if root is None:
        raise DataError(
            f"{path} has no folder train/<Plant>___<Condition>; unpack the Kaggle set plant-disease there."
        )
    folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and "___" in entry.name)
    found = Listing(root, {name: " ".join(name.replace("_", " ").split()) for name in folders})
    add_class_folders(found, folders)
    found.findings += augmented_copies(list(found.files))
    return found


def read_isic(path: Path) -> Listing:
    """ISIC2018_Task3_Training_Input/*.jpg and ISIC2018_Task3_Training_GroundTruth.csv."""
    name = "ISIC2018_Task3_Training_GroundTruth"
    table = _first_file(path, (f"{name}.csv", f"{name}/{name}.csv"))
    if table is None:
        here = {entry.name for entry in path.iterdir() if entry.is_dir()} if path.is_dir() else set()
        if len(here & set(ISIC)) > 1:
            raise DataError(
                f"{path} has folders called {', '.join(sorted(here & set(ISIC)))}: abbreviated names in "
                f"prompts cost about two points. Give the folder with {name}.csv: its classes get full names."
            )
        raise DataError(f"{path} has no {name}.csv; unpack both ISIC 2018 task 3 training archives there.")
    frame = _read_csv(table, ["image", *ISIC])
    found = Listing(path, dict(ISIC))
    hot = frame[list(ISIC)].astype(float) == 1.0
    wrong = frame["image"][hot.sum(axis=1) != 1]
    if len(wrong):
        found.findings.append(
            Finding(
                f"{len(wrong)} rows of {table.name} do not have exactly one 1.0; one is {wrong.iloc[0]}",
                "Fetch the ground truth of task 3 again; it has one label per image.",
                fatal=True,
            )
        )
    folder = path / "ISIC2018_Task3_Training_Input"
    labels = hot.idxmax(axis=1)
    pairs = {f"{folder.name}/{image}.jpg": label for image, label in zip(frame["image"], labels, strict=True)}
    add_listed(found, {name: path / name for name in pairs}, pairs, table)
    if len(pairs) < len(frame):
        found.findings.append(repeated(frame["image"].tolist(), table))
    return found


def read_chestx(path: Path) -> Listing:
    """images/*.png and Data_Entry_2017.csv; rows with exactly one label, one of the seven."""
    table = _first_file(path, ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv"))
    if table is None:
        raise DataError(f"{path} has no Data_Entry_2017.csv; fetch it from the NIH with the images.")
    frame = _read_csv(table, ["Image Index", "Finding Labels"])
    found = Listing(path, {name: name for name in CHESTX})
    if table.name != "Data_Entry_2017.csv":
        found.findings.append(
            Finding(
                f"labels are those of {table.name}, not of Data_Entry_2017.csv",
                "Use Data_Entry_2017.csv for comparable numbers.",
                differs=True,
            )
        )
    labels = frame["Finding Labels"].str.strip()
    several = labels.str.contains("|", regex=False)
    if several.any():
        found.findings.append(
            Finding(f"{int(several.sum())} rows have several labels and are left out, as the protocol says")
        )
    kept = labels.isin(CHESTX)
    pairs = {
        f"images/{name}": label for name, label in zip(frame["Image Index"][kept], labels[kept], strict=True)
    }
    places = _chest_images(path)
    add_listed(found, {name: places.get(Path(name).name, path / name) for name in pairs}, pairs, table)
    if frame["Image Index"].duplicated().any():
        found.findings.append(repeated(frame["Image Index"].tolist(), table))
    return found


PUBLISHED = {
    "eurosat": Published("EuroSAT", 27_000, 10, "EuroSAT.zip, RGB, 64x64 (Helber et al.)", read_eurosat),
    "cropdiseases": Published(
        "CropDiseases", 43_456, 38, "Kaggle plant-disease, train (PlantVillage)", read_cropdiseases
    ),
    "isic": Published("ISIC", 10_015, 7, "ISIC 2018 task 3, training input and ground truth", read_isic),
    "chestx": Published("ChestX", 25_848, 7, "NIH ChestX-ray14, images and Data_Entry_2017.csv", read_chestx),
}
"""Name on the command line -> pool."""


def read_published(name: str, path: Path) -> Listing:
    """List the files of a published pool, and what is wrong with them."""
    if not path.is_dir():
        raise DataError(f"There is no folder {path}; give the folder of {PUBLISHED[name].title}.")
    about, found = PUBLISHED[name], PUBLISHED[name].read(path)
    counts = Counter(label for _, label in found.files.values())
    empty = [label for label in found.classes if not counts[label]]
    if empty:
        found.findings.append(
            Finding(f"no image of the class {empty[0]}", f"Fetch {about.title} again: {about.source}.", True)
        )
    if len(found.files) != about.images or len(found.classes) != about.classes:
        found.findings.append(
            Finding(
                f"{len(found.files)} images of {len(found.classes)} classes; "
                f"the published pool has {about.images} of {about.classes}",
                f"Fetch {about.source}; numbers on other images are marked and not comparable with papers.",
                differs=True,
            )
        )
    return found


def _chest_images(path: Path) -> dict[str, Path]:
    """The path of each picture: in images/, or in the twelve folders images_001/images/ of the original
    archives."""
    folders = [path / "images", *sorted(path.glob("images_*/images"))]
    return {file.name: file for folder in folders if folder.is_dir() for file in folder.iterdir()}


def _first_file(path: Path, names: Sequence[str]) -> Path | None:
    return next((path / name for name in names if (path / name).is_file()), None)


def _read_csv(path: Path, columns: Sequence[str]) -> Any:
    import pandas as pd  # slow to import, and `data list` needs none

    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a table ({str(error).splitlines()[0]}).") from error
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; use the file as it is distributed.")
    return frame
