"""The published pools by name: BSCD-FSL, further sets of papers on few-shot learning, and MedMNIST+."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from farshot.data.bscd import read_chestx, read_cropdiseases, read_eurosat, read_isic
from farshot.data.layouts import (
    read_aircraft,
    read_dtd,
    read_ham10000,
    read_kather,
    read_nct,
    read_neu,
    read_rsscn7,
)
from farshot.data.listing import Finding, Listing, Published
from farshot.data.medmnist import MEDMNIST
from farshot.errors import DataError

BSCD_FSL = ("eurosat", "cropdiseases", "isic", "chestx")
"""The pools that have always had these names."""

PUBLISHED = {
    "eurosat": Published("EuroSAT", 27_000, 10, "EuroSAT.zip, RGB, 64x64 (Helber et al.)", read_eurosat),
    "cropdiseases": Published(
        "CropDiseases", 43_456, 38, "Kaggle plant-disease, train (PlantVillage)", read_cropdiseases
    ),
    "isic": Published("ISIC", 10_015, 7, "ISIC 2018 task 3, training input and ground truth", read_isic),
    "chestx": Published("ChestX", 25_848, 7, "NIH ChestX-ray14, images and Data_Entry_2017.csv", read_chestx),
    "kather": Published(
        "Kather texture 2016",
        5_000,
        8,
        "Kather_texture_2016_image_tiles_5000.zip (Zenodo 53169)",
        read_kather,
        ("Kather_texture_2016_image_tiles_5000",),
    ),
    "nct-crc": Published(
        "NCT-CRC-HE-100K", 107_180, 9, "NCT-CRC-HE-100K.zip and CRC-VAL-HE-7K.zip (Zenodo 1214456)", read_nct
    ),
    "ham10000": Published(
        "HAM10000",
        10_015,
        7,
        "Kaggle skin-cancer-mnist-ham10000, metadata and two image folders",
        read_ham10000,
    ),
    "rsscn7": Published("RSSCN7", 2_800, 7, "RSSCN7, folders aGrass to gParking (Zou et al.)", read_rsscn7),
    "neu": Published(
        "NEU",
        1_800,
        6,
        "NEU surface defect database, NEU-CLS or NEU-DET (Song and Yan)",
        read_neu,
        ("NEU surface defect database", "NEU-CLS", "NEU-DET"),
    ),
    "dtd": Published("DTD", 5_640, 47, "dtd-r1.0.1.tar.gz (Cimpoi et al.)", read_dtd),
    "aircraft": Published(
        "FGVC Aircraft",
        10_000,
        100,
        "fgvc-aircraft-2013b.tar.gz (Maji et al.)",
        read_aircraft,
        ("fgvc-aircraft-2013b", "fgvc_aircraft"),
    ),
    **MEDMNIST,
}
"""Name on the command line -> pool."""


def read_published(name: str, path: Path) -> Listing:
    """List the files of a published pool, and what is wrong with them.

    Raises:
        DataError: it has not the layout in which it is distributed.
    """
    about = PUBLISHED[name]
    if path.is_file() and name not in MEDMNIST:
        raise DataError(
            f"{path} is a file, and the pool {name} is the folder of {about.title}; give that, or another "
            f"name, such as my-{name}={path}."
        )
    if not path.is_dir() and not path.is_file():
        raise DataError(f"There is no folder {path}; give the folder of {about.title}.")
    found = about.read(path)
    counts = Counter(label for _, label in found.files.values())
    empty = [label for label in found.classes if not counts[label]]
    if empty:
        found.findings.append(
            Finding(f"no image of the class {empty[0]}", f"Fetch {about.title} again: {about.source}.", True)
        )
    images = about.images if found.expected is None else found.expected
    if len(found.files) != images or len(found.classes) != about.classes:
        found.findings.append(
            Finding(
                f"{len(found.files)} images of {len(found.classes)} classes; "
                f"the published pool has {images} of {about.classes}",
                f"Fetch {about.source}; numbers on other images are marked and not comparable with papers.",
                differs=True,
            )
        )
    return found
