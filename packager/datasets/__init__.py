"""How data comes in: one module for each source."""

from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from packager.artifacts import SampleFiles
from packager.datasets import arrays, images, medmnist
from packager.recipe import ArrayData, DataSource, ImageData, MedMnistData, PhantomData


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The user's data: what the recipe says of it, and its files by content.

    Attributes:
        source: As in the recipe, with names in place of paths, so that a data set that
            has moved is still the same input.
    """

    source: PhantomData | ArrayData | ImageData | MedMnistData
    files: SampleFiles


def resolve(source: DataSource, data_dir: Path | None) -> Samples:
    """Find and hash the files that the samples are made of.

    Args:
        source: From the recipe, with absolute paths.
        data_dir: Where a published data set lies already; None fetches it into the
            user's cache folder.

    Raises:
        DataError: A file is missing, is of an unknown type, or is not the published one.
        StorageError: A published data set cannot be written to the cache folder.
    """
    match source:
        case PhantomData():
            return Samples(source=source, files=SampleFiles())
        case ArrayData():
            files = SampleFiles(arrays=arrays.find(source))
            paths = arrays.paths(source)
            names = {split.value: Path(path.name) for split, path in paths.items()}
            return Samples(source=source.model_copy(update=names), files=files)
        case ImageData():
            files = SampleFiles(images=images.find(source.folder))
            name = {"folder": Path(source.folder.name)}
            return Samples(source=source.model_copy(update=name), files=files)
        case MedMnistData():
            files = SampleFiles(arrays=(medmnist.find(source, data_dir),))
            return Samples(source=source, files=files)
        case _:
            assert_never(source)
