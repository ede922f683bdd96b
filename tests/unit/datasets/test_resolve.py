"""The user's data is found, hashed, and named without the place where it lies."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from packager import datasets
from packager.artifacts import File, ImageFile, SampleFiles
from packager.cache import by_content, encode
from packager.datasets.splits import Split
from packager.errors import DataError
from packager.recipe import ArrayData, DataSource, ImageData, MedMnistData, PhantomData


def arrays_in(folder: Path) -> ArrayData:
    folder.mkdir(exist_ok=True)
    for index, split in enumerate(Split):
        np.savez(folder / f"{split}.npz", frames=np.full((1, 2, 2), index), labels=[0])
    return ArrayData(
        source="arrays",
        finetune=folder / "finetune.npz",
        validation=folder / "validation.npz",
        calibration=folder / "calibration.npz",
        evaluation=folder / "evaluation.npz",
        origin="drawn for a test",
        simulated=True,
    )


def images_in(folder: Path) -> ImageData:
    for index, split in enumerate(Split):
        (folder / "scans" / split / "cyst").mkdir(parents=True)
        pixels = np.full((2, 2), index, np.uint8)
        Image.fromarray(pixels).save(folder / "scans" / split / "cyst" / "a.png")
    return ImageData(source="images", folder=folder / "scans", origin="drawn", simulated=True)


def key(source: DataSource) -> object:
    """Return what of the samples goes into the key of the cache."""
    return encode(by_content(datasets.resolve(source, None)))


def test_phantom_needs_no_file() -> None:
    source = PhantomData(
        source="phantom",
        finetune_samples=1,
        validation_samples=1,
        calibration_samples=1,
        evaluation_samples=1,
    )
    assert datasets.resolve(source, None) == datasets.Samples(source=source, files=SampleFiles())


def test_arrays_are_hashed_in_the_order_of_the_splits(tmp_path: Path) -> None:
    samples = datasets.resolve(arrays_in(tmp_path), None)
    assert samples.files.arrays == tuple(File.of(tmp_path / f"{split}.npz") for split in Split)


def test_images_are_hashed_with_the_names_of_their_folders(tmp_path: Path) -> None:
    samples = datasets.resolve(images_in(tmp_path), None)
    files = {split: tmp_path / "scans" / split / "cyst" / "a.png" for split in Split}
    assert samples.files.images == tuple(
        ImageFile(split=split.value, label="cyst", file=File.of(path))
        for split, path in files.items()
    )


def test_published_data_is_looked_for_in_the_data_folder(tmp_path: Path) -> None:
    source = MedMnistData(source="medmnist:breastmnist", calibration_samples=1)
    with pytest.raises(DataError, match=r"^--data-dir: neither "):
        datasets.resolve(source, tmp_path)


def test_arrays_that_moved_are_still_the_same_input(tmp_path: Path) -> None:
    assert key(arrays_in(tmp_path / "here")) == key(arrays_in(tmp_path / "there"))


def test_images_that_moved_are_still_the_same_input(tmp_path: Path) -> None:
    assert key(images_in(tmp_path / "here")) == key(images_in(tmp_path / "there"))


def test_another_pixel_is_another_input(tmp_path: Path) -> None:
    arrays, images = arrays_in(tmp_path / "arrays"), images_in(tmp_path)
    before = key(arrays), key(images)
    np.savez(arrays.evaluation, frames=np.full((1, 2, 2), 9), labels=[0])
    path = images.folder / "evaluation" / "cyst" / "a.png"
    Image.fromarray(np.full((2, 2), 9, np.uint8)).save(path)
    assert key(arrays) != before[0]
    assert key(images) != before[1]


def test_no_place_of_this_machine_is_in_the_key(tmp_path: Path) -> None:
    for source in (arrays_in(tmp_path / "arrays"), images_in(tmp_path)):
        assert str(tmp_path) not in repr(key(source))
