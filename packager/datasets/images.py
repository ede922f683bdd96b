"""Samples as a folder of images: one folder for each split, and in it one for each label."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from packager.artifacts import File, ImageFile
from packager.contract import Contract
from packager.datasets.splits import LabelledImages, Loaded, Split
from packager.errors import DataError, did_you_mean
from packager.recipe import ImageData

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png")


def find(folder: Path) -> tuple[ImageFile, ...]:
    """Hash every image below `folder`, sorted by split, label and name.

    Hidden files are skipped, and so are files that lie beside the folders of the splits,
    such as a licence.

    Raises:
        DataError: A folder is missing or has no image, or something else lies in one.
    """
    if not folder.is_dir():
        raise DataError("data.folder", f"{folder} is not a folder. Check the path.")
    known = [split.value for split in Split]
    for path in _visible(folder):
        if path.is_dir() and path.name not in known:
            raise DataError("data.folder", f"{path} is no split. {did_you_mean(path.name, known)}")
    return tuple(image for split in Split for image in _find_split(folder / split, split))


def _find_split(folder: Path, split: Split) -> list[ImageFile]:
    if not folder.is_dir():
        problem = f"{folder} is missing. It should hold one folder of images for each label."
        raise DataError("data.folder", problem)
    found = [
        ImageFile(split=split, label=label.name, file=File.of(path))
        for label in _visible(folder)
        for path in _images(label)
    ]
    if not found:
        known = ", ".join(SUFFIXES)
        raise DataError("data.folder", f"{folder} has no image. Put some ({known}) into it.")
    return found


def _images(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        problem = f"{folder} lies beside the folders of the labels. Move it into one of them."
        raise DataError("data.folder", problem)
    for path in _visible(folder):
        if not path.is_file() or path.suffix.lower() not in SUFFIXES:
            known = ", ".join(SUFFIXES)
            raise DataError("data.folder", f"{path} is no image ({known}). Take it away.")
        yield path


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def load(data: ImageData, files: tuple[ImageFile, ...], contract: Contract) -> Loaded:
    """Sort the images into splits; labels are the names of their folders.

    Raises:
        DataError: The contract is not one of images, or its labels are not the names of the
            folders.
    """
    if not contract.is_image:
        problem = f"images need [1 or 3, height, width], not {list(contract.input_shape)}."
        raise DataError("contract.input_shape", problem)
    _require_same_labels({image.label for image in files}, contract)
    splits = {split: _labelled(split, files, contract) for split in Split}
    return Loaded(splits=splits, origin=data.origin, simulated=data.simulated)


def _labelled(split: Split, files: tuple[ImageFile, ...], contract: Contract) -> LabelledImages:
    own = [image for image in files if image.split == split]
    labels = [contract.labels.index(image.label) for image in own]
    return LabelledImages(
        paths=tuple(image.file.path for image in own), labels=np.array(labels, np.int64)
    )


def _require_same_labels(found: set[str], contract: Contract) -> None:
    for label in sorted(found):
        if label not in contract.labels:
            hint = did_you_mean(label, contract.labels)
            raise DataError("data.folder", f"{label!r} is not in contract.labels. {hint}")
    for label in contract.labels:
        if label not in found:
            problem = f"no split has an image of {label!r}, which contract.labels names. "
            raise DataError("data.folder", problem + did_you_mean(label, found))
