"""Shapes and types of every function of farshot are checked while tests run; fixtures that tests share."""

import asyncio
import gc
import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# threads of small models wait for each other more than they compute, most of all on a machine that is busy
os.environ.setdefault("OMP_NUM_THREADS", "1")
# a shell that starts the tests in the background has them ignore Ctrl-C, which some of them send
signal.signal(signal.SIGINT, signal.default_int_handler)

from jaxtyping import install_import_hook  # noqa: E402

from tests import typecheck  # noqa: E402, F401  the hook finds it by name

install_import_hook("farshot", "tests.typecheck.check")  # before anything of farshot is imported

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

from farshot import FewShotClassifier  # noqa: E402
from farshot.data.table import ImageTable  # noqa: E402
from farshot.images import reading  # noqa: E402
from farshot.model.encoder import Encoder  # noqa: E402
from farshot.model.find import load_encoder  # noqa: E402
from tests import explain_helpers  # noqa: E402
from tests.bench_helpers import tiny_checkpoint  # noqa: E402
from tests.checkpoints import write_checkpoint  # noqa: E402
from tests.explain_helpers import SHORT, WORLD, images_of  # noqa: E402
from tests.input_helpers import Farshot, adapted_in, class_folders, command_line, picture  # noqa: E402

hypothesis.settings.register_profile(
    "farshot", deadline=None
)  # how long an example takes says how busy the machine is
hypothesis.settings.load_profile("farshot")

if TYPE_CHECKING:
    from farshot.app.sessions import Sessions
    from farshot.app.workspace.encoders import Encoders
    from tests.serve_helpers import Service


@pytest.fixture(scope="session")
def mini_encoder() -> Encoder:
    """The bundled mini CLIP."""
    return load_encoder("mini")


@pytest.fixture
def mini(mini_encoder: Encoder) -> Iterator[Encoder]:
    """The mini CLIP; a test must leave it as it found it: its weights the same to the bit and without
    gradients."""
    towers = (mini_encoder.vision, mini_encoder.text)
    before = [{name: value.clone() for name, value in tower.tensors.items()} for tower in towers]
    yield mini_encoder
    for tower, kept in zip(towers, before, strict=True):
        assert tower.tensors.keys() == kept.keys()
        assert all(torch.equal(value, kept[name]) for name, value in tower.tensors.items())
        assert not any(value.requires_grad or value.grad is not None for value in tower.tensors.values())


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP with random weights, in the hub's format."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "clip")


@pytest.fixture
def real_images() -> Path:
    """The folder of real images, where this machine has one."""
    place = os.environ.get("FARSHOT_TEST_DATA")
    if not place:
        pytest.skip("FARSHOT_TEST_DATA does not name a folder of real images")
    return Path(place)


@pytest.fixture
def farshot(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Farshot:
    """Runs command lines as the `farshot` program would."""
    return command_line(capfd, monkeypatch)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint `clip` and labelled images `data` of 3 classes x 3, for the module."""
    place = tmp_path_factory.mktemp("place")
    tiny_checkpoint(place / "clip")
    class_folders(place / "data")
    return place


@pytest.fixture(scope="module")
def adapted(place: Path) -> Path:
    """A model adapted to them, in `place / "adapted"`."""
    return adapted_in(place)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures, one with the name of a formula and one with a line end."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(10):
        picture(900 + number).save(folder / f"{number}.png")
    picture(950).save(folder / "=1+1,2.png")
    picture(951).save(folder / 'line\nend "quoted".png')
    return folder


@pytest.fixture(scope="module")
def probe(place: Path) -> Path:
    """A calibrated model of a method on frozen features, adapted to them, in `place / "probe"`."""
    from tests.serve_helpers import fitted

    fitted(place, "linear-probe", calibrate=True).save(place / "probe")
    return place / "probe"


@pytest.fixture(scope="module")
def served(probe: Path) -> "Iterator[Service]":
    """A prediction service of it in this process."""
    from tests.serve_helpers import service

    with service(probe) as running:
        yield running


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every image that the test decodes, in order."""
    found: list[object] = []
    decode = reading.decode
    monkeypatch.setattr(
        reading, "decode", lambda source, *a, **k: found.append(source) or decode(source, *a, **k)
    )
    return found


@pytest.fixture(scope="module")
def encoders() -> "Encoders":
    """The app's encoders, on the processor."""
    from farshot.app.workspace.encoders import Encoders

    return Encoders("cpu")


@pytest.fixture
def sessions(tmp_path: Path) -> "Sessions":
    """The app's sessions in an empty folder."""
    from farshot.app.sessions import Sessions

    return Sessions(tmp_path / "sessions")


@pytest.fixture(scope="module")
def gradio_leftovers() -> Iterator[None]:
    """Gradio leaves event loops to the garbage collector, the last one as the loop of this thread: they go
    here, not in a test that knows nothing of them."""
    yield
    asyncio.set_event_loop(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def atha() -> FewShotClassifier:
    """A short run of atha on a mini world."""
    return explain_helpers.adapted("atha", **SHORT)


@pytest.fixture(scope="module")
def zero_shot() -> FewShotClassifier:
    """Zero-shot on the same classes."""
    return explain_helpers.adapted("zero-shot")


@pytest.fixture(scope="module")
def queries() -> ImageTable:
    """Images of these classes that neither has seen."""
    return images_of(WORLD, range(100, 106))


@pytest.fixture(scope="module", autouse=True)
def _features_of_this_module() -> None:
    """Features that another module computed in other batches may differ in the last bits."""
    from farshot.model import features

    features.SHARED = features.FeatureCache()


@pytest.fixture
def two_nodes() -> Iterator[object]:
    """A head that computes nothing, and two nodes of one processor each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    cluster.nodes_for_test = [cluster.add_node(num_cpus=1) for _ in range(2)]
    try:
        yield cluster
    finally:
        cluster.shutdown()
