"""DICOM files are read as they say, and nothing of a patient leaves them."""

from __future__ import annotations

import builtins
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import convert_color_space
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from farshot import FewShotClassifier, load
from farshot.data.readers import unlabelled
from farshot.data.table import ReadingNote
from farshot.export.onnx_file import export_onnx
from farshot.images.options import ReadOptions
from farshot.images.reading import UnreadableImage, read_picture
from farshot.model.catalogue import TOY_NOTE
from tests.image_bytes import encoded
from tests.input_helpers import Farshot, picture, pixels_of

PATIENT = "SECRET^NAME"


def dicom(values: np.ndarray, *, syntax: str = ExplicitVRLittleEndian, packed: list | None = None, **more):
    """A DICOM file: (height, width), (height, width, 3), or with frames in front.

    Args:
        packed: the compressed frames, instead of the values.
        more: elements by keyword; None leaves one out.
    """
    colour = values.shape[-1] == 3
    frames = values.shape[0] if values.ndim == 3 + colour else 1
    height, width = values.shape[-3:-1] if colour else values.shape[-2:]
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    dataset.PatientName, dataset.PatientID = PATIENT, PATIENT
    elements = {
        "Rows": height,
        "Columns": width,
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "BitsAllocated": 8 * values.itemsize,
        "BitsStored": 8 * values.itemsize,
        "HighBit": 8 * values.itemsize - 1,
        "PixelRepresentation": int(values.dtype.kind == "i"),
        "NumberOfFrames": frames if frames > 1 else None,
        "PlanarConfiguration": 0 if colour else None,
    }
    for name, value in (elements | more).items():
        if value is not None:
            setattr(dataset, name, value)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    plain = values.astype(values.dtype.newbyteorder(order)).tobytes()
    dataset.PixelData = (plain + bytes(len(plain) % 2)) if packed is None else encapsulate(packed)
    dataset["PixelData"].VR = "OB" if packed is not None or values.itemsize == 1 else "OW"
    if packed is not None:
        dataset["PixelData"].is_undefined_length = True
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def ramp(dtype: str = "uint16", low: int = 0, high: int = 4095) -> np.ndarray:
    return np.linspace(low, high, 24 * 20).astype(dtype).reshape(20, 24)


def refused(data: bytes, **options) -> str:
    with pytest.raises(UnreadableImage) as error:
        read_picture(data, ReadOptions(**options))
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert "SECRET" not in text
    assert error.value.__cause__ is None
    return text


def grey(data: bytes, **options) -> np.ndarray:
    found = pixels_of(read_picture(data, ReadOptions(**options)).image)
    assert (found[..., 0] == found[..., 1]).all()
    return found[..., 0]


def stretched(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip(np.rint((values.astype(float) - low) * 255 / (high - low)), 0, 255).astype(np.uint8)


# Grey ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_twelve_bits_are_scaled_as_declared(syntax: str) -> None:
    values = ramp(high=3000)
    data = dicom(values, syntax=syntax, BitsStored=12, HighBit=11)
    assert np.array_equal(grey(data), stretched(values, 0, 4095))
    assert read_picture(data).notes == ()


def test_a_window_after_rescaling_is_that_of_the_standard() -> None:
    values = ramp(high=2000)
    data = dicom(values, RescaleSlope="1.5", RescaleIntercept="-1024", WindowCenter="40", WindowWidth="400")
    hounsfield = values * 1.5 - 1024
    expected = np.clip(((hounsfield - 39.5) / 399 + 0.5) * 255, 0, 255)
    assert np.abs(grey(data) - expected).max() <= 0.5001
    assert read_picture(data).notes == ()
    assert np.abs(grey(data, range=(-500, 500)).astype(int) - stretched(hounsfield, -500, 500)).max() <= 1
    exact = dicom(values, WindowCenter="1000", WindowWidth="500", VOILUTFunction="LINEAR_EXACT")
    assert np.array_equal(grey(exact), stretched(values, 750, 1250))
    soft = dicom(values, WindowCenter="1000", WindowWidth="500", VOILUTFunction="SIGMOID")
    assert np.abs(grey(soft) - 255 / (1 + np.exp(-4 * (values - 1000.0) / 500))).max() <= 0.5001
    hard = dicom(values, WindowCenter="1000", WindowWidth="1")
    assert np.array_equal(grey(hard), np.where(values > 999.5, 255, 0))


def test_our_windows_are_those_of_pydicom() -> None:
    values = ramp(high=4095)
    for function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        more = {"WindowCenter": "1700.5", "WindowWidth": "900", "VOILUTFunction": function}
        data = dicom(values, BitsStored=12, HighBit=11, **more)
        theirs = pydicom.pixels.apply_windowing(values, pydicom.dcmread(io.BytesIO(data)))
        assert np.abs(grey(data) - theirs * 255 / 4095).max() <= 0.51


def test_of_several_windows_the_first_and_it_is_said() -> None:
    values = ramp()
    data = dicom(values, WindowCenter=["1000", "50"], WindowWidth=["2000", "10"])
    one = dicom(values, WindowCenter="1000", WindowWidth="2000")
    assert np.array_equal(grey(data), grey(one))
    assert read_picture(data).notes == ("it has 2 windows; the first is used; a range takes its place.",)


def test_without_a_window_signed_values_are_stretched_and_said() -> None:
    values = ramp("int16", -1000, 1000)
    data = dicom(values)
    assert np.array_equal(grey(data), stretched(values, -1000, 1000))
    (note,) = read_picture(data).notes
    assert note.startswith("it has no window; its values from -1000 to 1000 are stretched")
    empty = dicom(values, WindowCenter="", WindowWidth="")
    assert np.array_equal(grey(empty), grey(data))
    flat = dicom(np.zeros((4, 4), np.int16))
    assert grey(flat).tolist() == [[0] * 4] * 4


def test_monochrome1_is_inverted() -> None:
    values = ramp("uint8", 0, 255)
    assert np.array_equal(grey(dicom(values, PhotometricInterpretation="MONOCHROME1")), 255 - values)
    deep = ramp(high=4000)
    inverted = dicom(deep, PhotometricInterpretation="MONOCHROME1", WindowCenter="2000", WindowWidth="4000")
    plain = dicom(deep, WindowCenter="2000", WindowWidth="4000")
    assert np.array_equal(grey(inverted), 255 - grey(plain))


def test_a_table_takes_the_place_of_a_window() -> None:
    values = ramp("uint8", 0, 255)
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [256, 0, 12], (4095 - 16 * np.arange(256)).astype("<u2").tobytes()
    data = dicom(values, VOILUTSequence=Sequence([item]))
    expected = stretched(4095 - 16 * values.astype(int), 0, 4095)
    assert np.array_equal(grey(data), expected)


# Colour --------------------------------------------------------------------------------------------------


def test_colours_planes_and_palettes() -> None:
    values = pixels_of(picture(1))
    assert np.array_equal(pixels_of(read_picture(dicom(values)).image), values)
    planes = np.ascontiguousarray(np.moveaxis(values, 2, 0)).reshape(values.shape)
    data = dicom(planes, PlanarConfiguration=1)
    assert np.array_equal(pixels_of(read_picture(data).image), values)
    ybr = convert_color_space(values, "RGB", "YBR_FULL")
    found = pixels_of(read_picture(dicom(ybr, PhotometricInterpretation="YBR_FULL")).image)
    assert np.abs(found.astype(int) - values).max() <= 3
    tables = {}
    for place, colour in enumerate(("Red", "Green", "Blue")):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        entries = (np.arange(256) * (place + 1) % 256 * 257).astype("<u2")
        tables[f"{colour}PaletteColorLookupTableData"] = entries.tobytes()
    index = ramp("uint8", 0, 255)
    data = dicom(index, PhotometricInterpretation="PALETTE COLOR", **tables)
    expected = np.stack([index.astype(int) * (n + 1) % 256 for n in range(3)], axis=-1)
    assert np.array_equal(pixels_of(read_picture(data).image), expected)


def test_bands_choose_the_order_of_colours() -> None:
    values = pixels_of(picture(1))
    found = read_picture(dicom(values), ReadOptions(bands=(3, 2, 1)))
    assert np.array_equal(pixels_of(found.image), values[..., ::-1])


# Frames and compression ----------------------------------------------------------------------------------


def test_of_several_frames_the_first_or_the_one_that_is_chosen() -> None:
    values = np.stack([ramp("uint8", 0, top) for top in (255, 100, 50)])
    data = dicom(values)
    assert np.array_equal(grey(data), values[0])
    assert read_picture(data).notes == ("it has 3 frames; the first is read (--page chooses another).",)
    for page in (1, 2, 3):
        found = read_picture(data, ReadOptions(page=page))
        assert np.array_equal(pixels_of(found.image)[..., 0], values[page - 1])
        assert found.notes == ()
    assert "it has no frame 4, only 3" in refused(data, page=4)


def test_each_frame_of_an_enhanced_file_has_its_window() -> None:
    values = np.stack([ramp(), ramp()])

    def group(**more: str) -> Dataset:
        item, inner = Dataset(), Dataset()
        for name, value in more.items():
            setattr(inner, name, value)
        item.FrameVOILUTSequence = Sequence([inner])
        return item

    windows = [("1000", "500"), ("3000", "800")]
    groups = Sequence([group(WindowCenter=c, WindowWidth=w) for c, w in windows])
    shared = Dataset()
    rescale = Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = "2", "-10"
    shared.PixelValueTransformationSequence = Sequence([rescale])
    data = dicom(
        values,
        PerFrameFunctionalGroupsSequence=groups,
        SharedFunctionalGroupsSequence=Sequence([shared]),
    )
    for page, (centre, width) in enumerate(windows, 1):
        alone = dicom(
            ramp(), WindowCenter=centre, WindowWidth=width, RescaleSlope="2", RescaleIntercept="-10"
        )
        assert np.array_equal(grey(data, page=page), grey(alone))


def test_compressed_frames_are_decoded() -> None:
    image = picture(1, 48, 40)
    for syntax, kind, photometric, apart in (
        (JPEGBaseline8Bit, "JPEG", "YBR_FULL_422", 1),
        (JPEG2000Lossless, "JPEG2000", "YBR_RCT", 0),
    ):
        more = {"no_jp2": True} if kind == "JPEG2000" else {"quality": 95}
        packed = encoded(image, kind, **more)
        data = dicom(
            pixels_of(image), syntax=syntax, packed=[packed, packed], NumberOfFrames=2,
            PhotometricInterpretation=photometric,
        )  # fmt: skip
        found = pixels_of(read_picture(data, ReadOptions(page=2)).image).astype(int)
        expected = pixels_of(read_picture(packed).image)
        assert np.abs(found - expected).max() <= apart, kind
    dataset = pydicom.dcmread(io.BytesIO(dicom(ramp(), WindowCenter="2000", WindowWidth="3000")))
    dataset.compress(RLELossless, generate_instance_uid=False)
    file = io.BytesIO()
    dataset.save_as(file)
    assert np.array_equal(grey(file.getvalue()), grey(dicom(ramp(), WindowCenter="2000", WindowWidth="3000")))


def test_what_cannot_be_decoded_names_the_compression_and_the_way_out() -> None:
    text = refused(dicom(ramp("uint8", 0, 255), syntax=JPEGLSLossless, packed=[b"\xff\xd8\xff\xf7" * 9]))
    assert "compressed as JPEG-LS Lossless" in text
    assert "pip install pylibjpeg" in text
    assert "damaged or need another decoder" in refused(
        dicom(ramp("uint8", 0, 255), syntax=JPEGBaseline8Bit, packed=[b"\xff\xd8" + bytes(50)])
    )
    assert "stored in an unknown way" in refused(
        dicom(ramp("uint8", 0, 255)).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10009.1.2.7\0")
    )
    assert "compressed as a whole (deflated)" in refused(
        dicom(ramp("uint8", 0, 255), syntax=DeflatedExplicitVRLittleEndian)
    )


# Bounds and privacy --------------------------------------------------------------------------------------


def test_a_picture_that_claims_to_be_huge_is_refused_before_it_is_decoded() -> None:
    assert "over 100 megapixels" in refused(dicom(ramp("uint8", 0, 255), Rows=60000, Columns=60000))
    other = encoded(picture(1, 480, 400), "JPEG")
    assert "is damaged" in refused(dicom(pixels_of(picture(1)), syntax=JPEGBaseline8Bit, packed=[other]))
    scans = encoded(picture(1), "JPEG", progressive=True)
    start = scans.index(b"\xff\xda")
    many = scans[:start] + scans[start:-2] * 40 + scans[-2:]
    assert "too many passes" in refused(dicom(pixels_of(picture(1)), syntax=JPEGBaseline8Bit, packed=[many]))


def test_files_that_hold_no_picture_say_so() -> None:
    dataset = pydicom.dcmread(io.BytesIO(dicom(ramp())))
    del dataset.PixelData
    file = io.BytesIO()
    dataset.save_as(file)
    assert "a DICOM file without a picture" in refused(file.getvalue())
    assert "does not say how its pixels are stored" in refused(bytes(128) + b"DICM" + bytes(300))


@pytest.mark.parametrize("seed", range(3))
def test_damage_anywhere_is_a_sentence_without_the_patient(seed: int, capfd, caplog) -> None:
    whole = np.frombuffer(
        dicom(ramp(), WindowCenter=["1000", "50"], WindowWidth=["2000", "10"], RescaleSlope="2"), np.uint8
    )
    generator = np.random.default_rng(seed)
    for _ in range(150):
        damaged = whole.copy()
        damaged[generator.integers(140, len(whole) - 900, 4)] = generator.integers(0, 256, 4)
        try:
            read_picture(damaged.tobytes())
        except UnreadableImage as error:
            assert str(error).endswith(".")
            assert "SECRET" not in str(error)
    told = capfd.readouterr()
    assert told.out == told.err == ""
    assert "SECRET" not in caplog.text


def test_without_pydicom_the_extra_is_named(monkeypatch) -> None:
    real = builtins.__import__

    def importing(name: str, *more):
        if name.startswith("pydicom"):
            raise ImportError
        return real(name, *more)

    data = dicom(ramp())
    monkeypatch.setattr(builtins, "__import__", importing)
    assert "pip install 'farshot[dicom]'" in refused(data)


def scans(folder: Path) -> list[Path]:
    folder.mkdir()
    paths = []
    for number in range(4):
        values = np.stack([ramp(high=1000 + 700 * number), ramp(high=4000 - 700 * number)])
        paths.append(folder / f"{number}.dcm")
        paths[-1].write_bytes(dicom(values, WindowCenter="1500", WindowWidth="3000"))
    return paths


def test_a_model_reads_frames_as_it_was_adapted_to_and_knows_no_patient(tmp_path: Path) -> None:
    paths = scans(tmp_path / "scans")
    options = {"page": 2, "range": (0, 4000)}
    made = FewShotClassifier("mini", "linear-probe", read_options=options).fit(paths, ["a", "b", "a", "b"])
    made.save(tmp_path / "adapted")
    about = json.loads((tmp_path / "adapted" / "farshot.json").read_text())["preprocessing"]
    assert (about["page"], about["range"], about["bands"]) == (2, [0, 4000], None)
    again = load(tmp_path / "adapted")
    assert again.read_options_ == ReadOptions(range=(0, 4000), page=2)
    images = [read_picture(path, again.read_options_).image for path in paths]
    np.testing.assert_allclose(again.predict_proba(paths), made.predict_proba(images), atol=1e-6)
    for file in (tmp_path / "adapted").rglob("*"):
        assert b"SECRET" not in file.read_bytes(), file


@pytest.mark.filterwarnings("default::farshot.data.table.ReadingNote")
def test_the_command_line_takes_a_frame(tmp_path: Path, farshot: Farshot) -> None:
    for number, path in enumerate(scans(tmp_path / "scans")):
        place = tmp_path / "data" / "ab"[number % 2] / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    adapt = ("adapt", tmp_path / "data", "--model", "mini", "--method", "linear-probe", "--out")
    told = farshot(*adapt, tmp_path / "first")
    assert told.code == 0
    assert "it has 2 frames; the first is read (--page chooses another)" in told.err
    told = farshot(*adapt, tmp_path / "second", "--page", "2")
    assert told.code == 0 and told.err.count("\n") == 1 and TOY_NOTE in told.err
    told = farshot("predict", tmp_path / "second", tmp_path / "data")
    assert told.code == 0 and told.err.count("\n") == 1 and TOY_NOTE in told.err
    assert "SECRET" not in told.out
    told = farshot(*adapt, tmp_path / "third", "--page", "3")
    assert told.code == 2
    assert "it has no frame 3, only 2" in told.err


@pytest.mark.slow
def test_an_export_reads_dicom_where_pydicom_is_and_else_says_so(tmp_path: Path) -> None:
    paths = scans(tmp_path / "scans")
    made = FewShotClassifier("mini", "linear-probe", read_options={"page": 2}).fit(
        paths, ["a", "b", "a", "b"]
    )
    export_onnx(made, tmp_path / "out", unlabelled(paths))
    expected = made.predict(paths)
    for hidden in (("farshot", "torch"), ("farshot", "torch", "pydicom")):
        program = (
            f"import sys; sys.modules.update(dict.fromkeys({hidden})); import runpy; "
            "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
        )
        command = [sys.executable, "-c", program, tmp_path / "out" / "predict.py", *paths]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        if "pydicom" in hidden:
            assert told.returncode == 1
            assert told.stderr.count("pydicom is not installed") == 4
            assert "Traceback" not in told.stderr
        else:
            assert (told.returncode, told.stderr) == (0, "")
            assert [line.split("\t")[1] for line in told.stdout.splitlines()] == list(expected)


def test_a_table_notes_frames_once(tmp_path: Path) -> None:
    table = unlabelled(scans(tmp_path / "scans"))
    with pytest.warns(ReadingNote, match="4 images, the first .*0.dcm: it has 2 frames"):
        table.check_readable()
