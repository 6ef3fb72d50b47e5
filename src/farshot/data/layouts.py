"""Published pools in the layouts in which their owners, torchvision or Kaggle distribute them: histology,
skin lesions, aerial scenes, steel surfaces, textures and aircraft.

As in farshot.data.bscd, reading a pool reports what is wrong with the step that fixes it. Splits and groups
are those of the owner.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from farshot.data.bscd import ISIC
from farshot.data.found import split_called
from farshot.data.listing import (
    Finding,
    Listing,
    add_class_folders,
    add_listed,
    first_file,
    folder_with,
    pictures,
    read_csv,
    repeated,
)
from farshot.data.text import read_text
from farshot.errors import DataError

KATHER = {
    "01_TUMOR": "Tumor Epithelium",
    "02_STROMA": "Simple Stroma",
    "03_COMPLEX": "Complex Stroma",
    "04_LYMPHO": "Immune Cells",
    "05_DEBRIS": "Debris",
    "06_MUCOSA": "Normal Mucosal Glands",
    "07_ADIPOSE": "Adipose Tissue",
    "08_EMPTY": "Background",
}
NCT = {
    "ADI": "Adipose",
    "BACK": "Background",
    "DEB": "Debris",
    "LYM": "Lymphocytes",
    "MUC": "Mucus",
    "MUS": "Smooth Muscle",
    "NORM": "Normal Colon Mucosa",
    "STR": "Cancer-associated Stroma",
    "TUM": "Colorectal Adenocarcinoma Epithelium",
}
RSSCN7 = {
    "aGrass": "Grass",
    "bField": "Field",
    "cIndustry": "Industrial Area",
    "dRiverLake": "River or Lake",
    "eForest": "Forest",
    "fResident": "Residential Area",
    "gParking": "Parking Lot",
}
NEU = {
    "crazing": "Crazing",
    "inclusion": "Inclusion",
    "patches": "Patches",
    "pitted_surface": "Pitted Surface",
    "rolled-in_scale": "Rolled-in Scale",
    "scratches": "Scratches",
}

_NCT_TRAINING, _NCT_TEST = 100_000, 7_180
_NEU_PREFIXES = {"cr": 0, "in": 1, "pa": 2, "ps": 3, "rs": 4, "sc": 5}
_NUMBERED = re.compile(r"(.+?)_\d+")
_LINE = re.compile(r"(\S+) (.+)")


def read_kather(path: Path) -> Listing:
    """Kather_texture_2016_image_tiles_5000/<nn>_<CLASS>/*.tif."""
    name = "Kather_texture_2016_image_tiles_5000"
    root = folder_with(path, (name, f"{name}/{name}", "."), lambda folder: folder in KATHER)
    if root is None:
        larger = " The ten larger images have no labels." if list(path.glob("*larger_images_10*")) else ""
        raise DataError(f"{path} has no folder 01_TUMOR; unpack {name}.zip there.{larger}")
    found = Listing(root, dict(KATHER))
    add_class_folders(found, list(KATHER))
    return found


def read_nct(path: Path) -> Listing:
    """NCT-CRC-HE-100K/<CLASS>/*.tif for training, and CRC-VAL-HE-7K/<CLASS>/*.tif, of other patients, as test
    images."""
    training = [name for name in ("NCT-CRC-HE-100K", "NCT-CRC-HE-100K-NONORM") if (path / name).is_dir()]
    if not training and any((path / name).is_dir() for name in NCT):
        training, path = [path.name], path.parent
    if not training:
        raise DataError(f"{path} has no folder NCT-CRC-HE-100K; unpack NCT-CRC-HE-100K.zip there.")
    if len(training) > 1:
        raise DataError(f"{path} has both {' and '.join(training)}; move one elsewhere.")
    found = Listing(path, dict(NCT))
    add_class_folders(found, list(NCT), training[0], "train")
    if "NONORM" in training[0].upper():
        found.findings.append(
            Finding(
                "these are the images without colour normalisation",
                "Use NCT-CRC-HE-100K.zip for comparable numbers.",
                differs=True,
            )
        )
    if (path / "CRC-VAL-HE-7K").is_dir():
        add_class_folders(found, list(NCT), "CRC-VAL-HE-7K", "test")
    else:
        found.splits.clear()
        found.expected = _NCT_TRAINING
        found.findings.append(
            Finding(
                f"CRC-VAL-HE-7K, the {_NCT_TEST:,} test images, is not here, so there is no split",
                "Unpack CRC-VAL-HE-7K.zip next to the folder for --protocol split.",
            )
        )
    return found


def read_ham10000(path: Path) -> Listing:
    """HAM10000_metadata.csv (lesion_id, image_id, dx) and HAM10000_images_part_1/ and _2/, as on Kaggle;
    images of a lesion are a group."""
    table = first_file(path, ("HAM10000_metadata.csv", "HAM10000_metadata"))
    if table is None:
        raise DataError(
            f"{path} has no HAM10000_metadata.csv; unpack Kaggle's skin-cancer-mnist-ham10000 there."
        )
    frame = read_csv(table, ["lesion_id", "image_id", "dx"])
    found = Listing(path, {code.lower(): name for code, name in ISIC.items()})
    labels = frame["dx"].astype(str).str.strip()
    odd = frame[~labels.isin(found.classes)]
    if len(odd):
        raise DataError(
            f"{table}, line {odd.index[0] + 2}: {odd['dx'].iloc[0]!r} is not a diagnosis of HAM10000; use "
            "the file as it is distributed."
        )
    lost = frame["lesion_id"].isna()
    if lost.any():
        raise DataError(
            f"{table}, line {int(lost.idxmax()) + 2}: no lesion_id; use the file as it is distributed."
        )
    folders = [path / f"HAM10000_images_part_{part}" for part in (1, 2)]
    missing = [folder.name for folder in folders if not folder.is_dir()]
    if missing:
        raise DataError(f"{path} has no folder {missing[0]}; unpack both folders of images there.")
    places = {file.stem: file for folder in folders for file in pictures(folder)}
    names = [f"{image}.jpg" for image in frame["image_id"]]
    add_listed(
        found,
        {f"{i}.jpg": places.get(i, folders[0] / f"{i}.jpg") for i in frame["image_id"]},
        dict(zip(names, labels, strict=True)),
        table,
    )
    found.groups = {
        name: str(lesion)
        for name, lesion in zip(names, frame["lesion_id"], strict=True)
        if name in found.files
    }
    if len(set(names)) < len(names):
        found.findings.append(repeated(frame["image_id"].tolist(), table))
    return found


def read_rsscn7(path: Path) -> Listing:
    """<letter><Class>/<letter><nnn>.jpg; folders without the letter are taken, too."""
    plain = {name[1:]: words for name, words in RSSCN7.items()}
    for classes in (RSSCN7, plain):
        root = folder_with(path, ("RSSCN7", "RSSCN7-master", "."), classes.__contains__)
        if root is not None:
            found = Listing(root, dict(classes))
            add_class_folders(found, list(classes))
            return found
    raise DataError(f"{path} has no folder aGrass; unpack RSSCN7 there.")


def read_neu(path: Path) -> Listing:
    """Cr_1.bmp, ... in one folder (NEU-CLS), crazing_1.jpg, ... in IMAGES (NEU-DET), a folder per class, or
    Kaggle's train/images and validation/images with a folder per class."""
    for name in (".", "NEU surface defect database", "NEU-CLS", "NEU-DET", "NEU-DET/NEU-DET"):
        base = path / name
        halves = [half for half in ("train", "validation") if (base / half / "images").is_dir()]
        if halves:
            return _neu_halves(base, halves)
        for inside in (".", "IMAGES", "images"):
            if (found := _neu_folder(base / inside)) is not None:
                return found
    raise DataError(
        f"{path} has neither files such as Cr_1.bmp or crazing_1.jpg nor folders such as crazing; unpack the "
        "NEU surface defect database there."
    )


def _neu_halves(base: Path, halves: Sequence[str]) -> Listing:
    found = Listing(base, dict(NEU))
    if len(halves) < 2:
        other = "validation" if halves == ["train"] else "train"
        raise DataError(f"{base} has no folder {other}/images; unpack the whole set there.")
    for half in halves:
        add_class_folders(found, list(NEU), f"{half}/images", split_called(half))
    return found


def _neu_folder(root: Path) -> Listing | None:
    """The images of a folder, by class folders or by the names of files; None where it has neither."""
    if not root.is_dir():
        return None
    found = Listing(root, dict(NEU))
    folders = {_neu_class(entry.name): entry.name for entry in root.iterdir() if entry.is_dir()}
    folders.pop(None, None)
    for label, folder in folders.items():
        for file in pictures(root / folder):
            found.files[f"{folder}/{file.name}"] = (file, str(label))
    if folders:
        return found if found.files else None
    odd = []
    for file in pictures(root):
        numbered = _NUMBERED.fullmatch(file.stem)
        label = _neu_class(numbered[1]) if numbered else None
        if label is None:
            odd.append(file)
        else:
            found.files[file.name] = (file, label)
    if odd and found.files:
        raise DataError(f"{odd[0]} names no class of NEU by its first letters, as Cr_1.bmp does; remove it.")
    return found if found.files else None


def _neu_class(name: str) -> str | None:
    """The class with this prefix or name, whose hyphen may be an underscore."""
    classes = list(NEU)
    if name.lower() in _NEU_PREFIXES:
        return classes[_NEU_PREFIXES[name.lower()]]
    words = {label.replace("-", "_"): label for label in classes}
    return words.get(name.lower().replace("-", "_"))


def read_dtd(path: Path) -> Listing:
    """images/<class>/*.jpg and labels/train1.txt, val1.txt and test1.txt, the first of the owner's ten
    splits."""
    root = next((path / name for name in (".", "dtd", "dtd/dtd") if (path / name / "images").is_dir()), None)
    if root is None:
        raise DataError(f"{path} has no folder images; unpack dtd-r1.0.1.tar.gz there.")
    labels: dict[str, str] = {}
    found = Listing(root, {})
    for split in ("train", "val", "test"):
        table = _needed(root / "labels" / f"{split}1.txt", "dtd-r1.0.1.tar.gz")
        for number, line in enumerate(read_text(table).splitlines(), start=1):
            if not line.strip():
                continue
            label, slash, file = line.strip().partition("/")
            if not (slash and label and file) or "/" in file or label == ".." or file == "..":
                raise DataError(
                    f"{table}, line {number}: {line.strip()!r} is not class/file; fetch it again."
                )
            _add(labels, found, f"images/{label}/{file}", label, split, f"{table}, line {number}")
    found.classes.update({label: label.replace("_", " ") for label in sorted(set(labels.values()))})
    add_listed(found, {name: root / name for name in labels}, labels, root / "labels")
    return found


def read_aircraft(path: Path) -> Listing:
    """data/images/<n>.jpg, data/variants.txt and data/images_variant_{train,val,test}.txt."""
    places = ("data", "fgvc-aircraft-2013b/data", ".")
    root = next((path / name for name in places if (path / name / "images").is_dir()), None)
    if root is None:
        raise DataError(f"{path} has no folder data/images; unpack fgvc-aircraft-2013b.tar.gz there.")
    source = "fgvc-aircraft-2013b.tar.gz"
    variants = [line.strip() for line in read_text(_needed(root / "variants.txt", source)).splitlines()]
    labels: dict[str, str] = {}
    found = Listing(root, {name: name for name in variants if name})
    for split in ("train", "val", "test"):
        table = _needed(root / f"images_variant_{split}.txt", source)
        for number, line in enumerate(read_text(table).splitlines(), start=1):
            if not line.strip():
                continue
            where, row = f"{table}, line {number}", _LINE.fullmatch(line.strip())
            if row is None or "/" in row[1] or "\\" in row[1]:
                raise DataError(f"{where}: {line.strip()!r} is not a number and a variant; fetch it again.")
            if row[2] not in found.classes:
                raise DataError(f"{where}: the variant {row[2]!r} is not in variants.txt; fetch both again.")
            _add(labels, found, f"images/{row[1]}.jpg", row[2], split, where)
    add_listed(found, {name: root / name for name in labels}, labels, root / "images_variant_*.txt")
    return found


def _needed(file: Path, source: str) -> Path:
    """The file, which must be there."""
    if not file.is_file():
        raise DataError(f"There is no {file}; unpack {source} whole.")
    return file


def _add(labels: dict[str, str], found: Listing, name: str, label: str, split: str, where: str) -> None:
    """Note the class and split of an image.

    Raises:
        DataError: it has one already.
    """
    if name in labels:
        raise DataError(
            f"{where}: {name} is listed already, in {found.splits[name]}; fetch the split files again."
        )
    labels[name], found.splits[name] = label, split
