"""The published data sets: the real file, and a real download that works, fails or lies."""

import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from packager import datasets, recipe
from packager.artifacts import Dataset, File, SampleFiles
from packager.cache import Cache
from packager.contract import Activation, Contract
from packager.contract.spec import Resize, ResizeMode
from packager.datasets import Samples, arrays, medmnist
from packager.datasets.medmnist import PUBLISHED
from packager.errors import DataError, StorageError
from packager.recipe import ImageData, MedMnistData
from packager.stages.samples import load_samples
from tests.conftest import REPOSITORY, real_data
from tests.contracts import GRAY, RGB

BREAST = MedMnistData(source="medmnist:breastmnist", calibration_samples=64)
CHEST = MedMnistData(source="medmnist:pneumoniamnist", calibration_samples=100)
CONTRACT = Contract(
    input_shape=(1, 28, 28),
    source=GRAY,
    full_scale=255.0,
    mean=(0.33,),
    std=(0.2,),
    activation=Activation.SOFTMAX,
    labels=("malignant", "normal or benign"),
)


def sizes(dataset: Dataset) -> tuple[int, ...]:
    files = dataset.finetune, dataset.validation, dataset.calibration, dataset.evaluation
    return tuple(len(arrays.read(file.path, ("labels",))["labels"]) for file in files)


@pytest.fixture(scope="module")
def breast() -> Path:
    return real_data("breastmnist")


def test_real_breastmnist_becomes_four_splits(breast: Path, cache: Cache) -> None:
    dataset = cache.run(load_samples, datasets.resolve(BREAST, breast), CONTRACT, 0)
    assert sizes(dataset) == (546 - 1 - 64, 78, 64, 156)
    assert not dataset.simulated
    labels = arrays.read(dataset.evaluation.path, ("labels",))["labels"]
    assert np.bincount(labels).tolist() == [42, 114]
    # A quarter of the published training split is malignant, and so of the calibration.
    labels = arrays.read(dataset.calibration.path, ("labels",))["labels"]
    assert np.bincount(labels).tolist() == [17, 47]


def test_frame_that_breastmnist_has_in_train_and_test_is_left_out(
    breast: Path, cache: Cache
) -> None:
    published = arrays.read(
        breast / "breastmnist.npz", ("train_images", "train_labels", "test_images", "test_labels")
    )
    # The publisher's own slip: one picture, in both parts, malignant in one and not in the other.
    np.testing.assert_array_equal(published["train_images"][115], published["test_images"][76])
    assert (published["train_labels"][115], published["test_labels"][76]) == (0, 1)
    dataset = cache.run(load_samples, datasets.resolve(BREAST, breast), CONTRACT, 0)
    assert dataset.origin.endswith("Left out of train, as repeats of another sample: 1 (115).")
    frames = arrays.read(dataset.evaluation.path, ("frames",))["frames"]
    np.testing.assert_array_equal(frames, published["test_images"])


def test_reassembled_pneumoniamnist_is_not_the_published_file(tmp_path: Path) -> None:
    path = real_data("pneumoniamnist") / "pneumoniamnist_reassembled.npz"
    (tmp_path / "pneumoniamnist.npz").symlink_to(path)
    with pytest.raises(DataError, match="is not the published file: its md5 is "):
        datasets.resolve(CHEST, tmp_path)


def test_real_chest_images_lose_their_repeats(cache: Cache) -> None:
    path = real_data("pneumoniamnist") / "pneumoniamnist_reassembled.npz"
    samples = Samples(source=CHEST, files=SampleFiles(arrays=(File.of(path),)))
    dataset = cache.run(load_samples, samples, CONTRACT, 0)
    # 26 frames of train repeat another one of train or val; test keeps its own repeats.
    assert sizes(dataset) == (4708 - 26 - 100, 524, 100, 624)
    assert "Left out of train, as repeats of another sample: 26 (" in dataset.origin


@pytest.mark.parametrize("name", ["phantom", "breastmnist"])
def test_data_of_the_examples_fit_their_contracts(name: str, cache: Cache) -> None:
    loaded = recipe.load(REPOSITORY / "examples" / name / "packager.toml")
    data_dir = real_data("breastmnist") if isinstance(loaded.data, MedMnistData) else None
    contract = loaded.contract
    dataset = cache.run(load_samples, datasets.resolve(loaded.data, data_dir), contract, 0)
    frames = arrays.read(dataset.finetune.path, ("frames",))["frames"].astype(np.float64)
    # The network sees numbers around 0 of spread 1, or the recipe's mean and std are stale.
    assert frames.mean() / contract.full_scale == pytest.approx(contract.mean[0], abs=0.02)
    assert frames.std() / contract.full_scale == pytest.approx(contract.std[0], abs=0.02)


def test_folder_of_images_moves_without_a_second_decoding(tmp_path: Path, cache: Cache) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for split in ("finetune", "validation", "calibration", "evaluation"):
        for label in CONTRACT.labels:
            folder = tmp_path / "scans" / split / label
            folder.mkdir(parents=True)
            for name in ("a.png", "b.jpg"):
                pixels = rng.integers(0, 256, (40, 30, 3), np.uint8)
                Image.fromarray(pixels).save(folder / name)
    source = ImageData(source="images", folder=tmp_path / "scans", origin="drawn", simulated=True)
    contract = CONTRACT.model_copy(
        update={"source": RGB, "resize": Resize(mode=ResizeMode.ANTIALIAS)}
    )
    one = cache.run(load_samples, datasets.resolve(source, None), contract, 0)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "scans").rename(tmp_path / "elsewhere" / "scans")
    moved = source.model_copy(update={"folder": tmp_path / "elsewhere" / "scans"})
    assert cache.run(load_samples, datasets.resolve(moved, None), contract, 0) == one
    assert [visit.reused for visit in cache.visits] == [False, True]
    assert sizes(one) == (4, 4, 4, 4)


# Fetching


@pytest.fixture
def user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the user another cache folder, where no earlier download lies."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return tmp_path / "user" / "packager"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Serve a folder of this machine in the publisher's place."""
    folder = tmp_path / "published"
    folder.mkdir()
    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(medmnist, "PUBLISHER", f"http://127.0.0.1:{server.server_port}")
        yield folder
        server.shutdown()
        thread.join()


def test_published_file_is_fetched_once_and_kept(
    publisher: Path, user_cache: Path, breast: Path
) -> None:
    content = (breast / "breastmnist.npz").read_bytes()
    (publisher / "breastmnist.npz").write_bytes(content)
    file = medmnist.find(BREAST, None)
    assert file == File.of(user_cache / "breastmnist.npz")
    assert f"sha256:{file.sha256}" == PUBLISHED[BREAST.source].digest
    (publisher / "breastmnist.npz").unlink()
    assert medmnist.find(BREAST, None) == file


def test_download_of_another_content_is_refused_and_not_kept(
    publisher: Path, user_cache: Path
) -> None:
    (publisher / "breastmnist.npz").write_bytes(b"sign in to the guest network")
    with pytest.raises(DataError) as caught:
        medmnist.find(BREAST, None)
    url = f"{medmnist.PUBLISHER}/breastmnist.npz"
    assert str(caught.value) == (
        f"breastmnist.npz: what {url} sent is not the published file, by its digest. "
        f"Download {url} by hand and give its folder as --data-dir."
    )
    assert not list(user_cache.iterdir())


def test_publisher_without_the_file_is_named(publisher: Path, user_cache: Path) -> None:
    assert not list(publisher.iterdir())
    assert refused_download(user_cache) == "HTTPError"


def test_publisher_that_cannot_be_reached_is_named(
    user_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A name that is reserved to lead nowhere (RFC 6761).
    monkeypatch.setattr(medmnist, "PUBLISHER", "http://publisher.invalid")
    assert refused_download(user_cache) == "ConnectionError"


def refused_download(user_cache: Path) -> str:
    """Return the cause that the message gives."""
    with pytest.raises(DataError) as caught:
        medmnist.find(BREAST, None)
    url = f"{medmnist.PUBLISHER}/breastmnist.npz"
    before, after = (
        f"cannot be fetched from {url} (",
        (f"). Download {url} by hand and give its folder as --data-dir."),
    )
    assert caught.value.where == "breastmnist.npz"
    assert caught.value.problem.startswith(before)
    assert caught.value.problem.endswith(after)
    assert not list(user_cache.iterdir()), "nothing half-written is left"
    return caught.value.problem.removeprefix(before).removesuffix(after)


def test_cache_folder_that_cannot_be_written_is_named(
    publisher: Path, breast: Path, user_cache: Path
) -> None:
    (publisher / "breastmnist.npz").symlink_to(breast / "breastmnist.npz")
    user_cache.parent.write_text("a file in the place of the folder")
    with pytest.raises(StorageError, match=f"^{user_cache}: "):
        medmnist.find(BREAST, None)


def test_published_digest_of_another_file_would_be_refused(
    breast: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(PUBLISHED[BREAST.source], digest="sha256:" + "0" * 64)
    monkeypatch.setitem(PUBLISHED, BREAST.source, other)
    with pytest.raises(DataError, match="is not the published file: its sha256 is 3a22d2a4"):
        datasets.resolve(BREAST, breast)
