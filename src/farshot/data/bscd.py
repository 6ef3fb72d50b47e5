"""The four pools of BSCD-FSL (Guo et al., 2020), in the layout in which each is distributed.

Reading a pool finds its files and classes, and reports what is wrong with the step that fixes it.
"""

from __future__ import annotations

import re
from pathlib import Path

from farshot.data.hub import from_parquet, from_saved, parquet_files
from farshot.data.listing import (
    Finding,
    Listing,
    add_class_folders,
    add_listed,
    augmented_copies,
    first_file,
    folder_with,
    read_csv,
    repeated,
)
from farshot.data.saved import is_saved
from farshot.errors import DataError
from farshot.images.member import Member

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


_EUROSAT_WORDS = {"brushland": "HerbaceousVegetation", "sea": "SeaLake", "lake": "SeaLake"}
"""How data sets on the hub begin other names of classes."""


def read_eurosat(path: Path) -> Listing:
    """2750/<Class>/<Class>_<n>.jpg, as in the owner's zip and torchvision's folder eurosat; or a data set of
    the Hugging Face Hub, as Parquet files or saved by `datasets`."""
    places = ("2750", "eurosat/2750", "EuroSAT/2750", "EuroSAT", "EuroSAT_RGB", ".")
    root = folder_with(path, places, lambda name: name in EUROSAT)
    if root is None and (is_saved(path) or parquet_files(path)):
        return _eurosat_rows(path)
    if root is None:
        raise DataError(f"{path} has no folder 2750/AnnualCrop; unpack EuroSAT.zip (the RGB version) there.")
    found = Listing(root, dict(EUROSAT))
    add_class_folders(found, list(EUROSAT))
    if any(name.lower().endswith((".tif", ".tiff")) for name in found.files):
        found.findings.append(
            Finding(
                "these are the 13-band .tif files of EuroSAT_MS, not pictures",
                "Use the RGB version, EuroSAT.zip with 2750/*/*.jpg.",
                fatal=True,
            )
        )
    return found


def _eurosat_rows(path: Path) -> Listing:
    """The rows of a data set of the Hugging Face Hub."""
    rows = from_saved(path) if is_saved(path) else from_parquet(parquet_files(path))
    found = Listing(path, dict(EUROSAT))
    known = {_letters(name): name for name in EUROSAT} | _EUROSAT_WORDS
    for number, (image, label) in enumerate(zip(rows.images, rows.labels, strict=True)):
        matches = {name for start, name in known.items() if _letters(label).startswith(start)}
        if len(matches) != 1:
            raise DataError(
                f"{path} has the class {label!r}, which is none of EuroSAT's ten; use EuroSAT.zip."
            )
        if not isinstance(image, Path | Member):
            raise DataError(f"{path}: the images cannot be read from its files; use EuroSAT.zip.")
        split = rows.splits[number] if rows.splits is not None else "all"
        called = f"{split}/{number:06d}"
        found.files[called] = (image, matches.pop())
        if rows.splits is not None:
            found.splits[called] = split
    found.findings.append(
        Finding(
            "the rows of this data set do not have the owner's file names, so tasks hold other images",
            "Use EuroSAT.zip for the tasks of papers; --protocol split is not affected.",
            differs=True,
        )
    )
    return found


def _letters(name: str) -> str:
    return re.sub("[^a-z]", "", name.lower())


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
    table = first_file(path, (f"{name}.csv", f"{name}/{name}.csv"))
    if table is None:
        here = {entry.name for entry in path.iterdir() if entry.is_dir()} if path.is_dir() else set()
        if len(here & set(ISIC)) > 1:
            raise DataError(
                f"{path} has folders called {', '.join(sorted(here & set(ISIC)))}: abbreviated names in "
                f"prompts cost about two points. Give the folder with {name}.csv: its classes get full names."
            )
        raise DataError(f"{path} has no {name}.csv; unpack both ISIC 2018 task 3 training archives there.")
    frame = read_csv(table, ["image", *ISIC])
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
    table = first_file(path, ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv"))
    if table is None:
        raise DataError(f"{path} has no Data_Entry_2017.csv; fetch it from the NIH with the images.")
    frame = read_csv(table, ["Image Index", "Finding Labels"])
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


def _chest_images(path: Path) -> dict[str, Path]:
    """The path of each picture: in images/, or in the twelve folders images_001/images/ of the original
    archives."""
    folders = [path / "images", *sorted(path.glob("images_*/images"))]
    return {file.name: file for folder in folders if folder.is_dir() for file in folder.iterdir()}
