"""Samples in `.npz` files. A file may come from anywhere, so nothing in it is trusted."""

import math
import re
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from packager.artifacts import File
from packager.datasets.splits import Labelled, Loaded, Split
from packager.errors import DataError, did_you_mean
from packager.recipe import ArrayData

# A small file can declare any size: this many bytes of memory are the most it gets.
MAX_ARRAY_BYTES = 2**31
MAX_HEADER_BYTES = 10_000

FRAME_TYPES = (np.uint8, np.uint16, np.float32, np.int16)

# The array format by its first bytes: how many bytes the length of the header takes.
LENGTH_BYTES = {b"\x93NUMPY\1\0": 2, b"\x93NUMPY\2\0": 4, b"\x93NUMPY\3\0": 4}
# As every version of NumPy writes it. NumPy's own reader evaluates the header as Python
# and lets a broken one end in errors of the tokenizer.
HEADER = re.compile(
    rb"\{'descr': '(?P<dtype>[<>|][uif]\d\d?)', 'fortran_order': (?P<columns_first>True|False), "
    rb"'shape': \((?P<shape>[\d, ]*)\),? ?\}\s*"
)

# What zipfile raises for files that are damaged or made to harm, RuntimeError among them
# for encryption; and NumPy for a number of 3 bytes.
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What an array declares of itself."""

    shape: tuple[int, ...]
    order: Literal["C", "F"]
    dtype: np.dtype[np.generic]

    @property
    def size_bytes(self) -> int:
        """What the numbers take."""
        return math.prod(self.shape) * self.dtype.itemsize


def paths(data: ArrayData) -> dict[Split, Path]:
    """Return the file of each split."""
    return {
        Split.FINETUNE: data.finetune,
        Split.VALIDATION: data.validation,
        Split.CALIBRATION: data.calibration,
        Split.EVALUATION: data.evaluation,
    }


def find(data: ArrayData) -> tuple[File, ...]:
    """Hash the file of each split, in the order of `Split`.

    Raises:
        DataError: One of them is missing.
    """
    for split, path in paths(data).items():
        if not path.is_file():
            near = [p.name for p in path.parent.glob("*.npz")] if path.parent.is_dir() else []
            hint = did_you_mean(path.name, near) if near else "Check the path."
            raise DataError(f"data.{split}", f"{path} is not there. {hint}")
    return tuple(File.of(path) for path in paths(data).values())


def load(data: ArrayData, files: tuple[File, ...]) -> Loaded:
    """Read the four splits.

    Raises:
        DataError: A file is damaged, lacks an array or has one of the wrong type.
    """
    splits = {split: _labelled(split, file.path) for split, file in zip(Split, files, strict=True)}
    return Loaded(splits=splits, origin=data.origin, simulated=data.simulated)


def _labelled(split: Split, path: Path) -> Labelled:
    where = f"data.{split} ({path})"
    found = read(path, ("frames", "labels"))
    frames, labels = found["frames"], found["labels"]
    if frames.dtype not in FRAME_TYPES:
        remedy = "Save images as uint8 or uint16, signals as float32 or int16."
        raise DataError(where, f"frames are {frames.dtype}. {remedy}")
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        problem = f"labels are {labels.dtype} of shape {labels.shape}"
        raise DataError(where, f"{problem}; they should be whole numbers, one for each frame.")
    return Labelled(frames=frames, labels=labels.astype(np.int64))


def write(path: Path, samples: Labelled) -> File:
    """Write `frames` and `labels`; the same samples give the same bytes."""
    np.savez(path, frames=samples.frames, labels=samples.labels)
    return File.of(path)


def read(path: Path, names: Iterable[str]) -> dict[str, NDArray[np.generic]]:
    """Read the arrays called `names` from an `.npz`, without unpickling anything.

    Returns:
        Arrays that cannot be written to, by name.

    Raises:
        DataError: The file is damaged, lacks an array, or holds one that is not of plain
            numbers or takes more than `MAX_ARRAY_BYTES`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            known = [name.removesuffix(".npy") for name in archive.namelist()]
            for name in names:
                if name not in known:
                    hint = did_you_mean(name, known) if known else "It is empty."
                    raise DataError(str(path), f"holds no array {name!r}. {hint}")
            return {name: _read_array(archive, name) for name in names}
    except UNREADABLE as error:
        raise DataError(str(path), f"is not a readable .npz file: {error}.") from None


def _read_array(archive: zipfile.ZipFile, name: str) -> NDArray[np.generic]:
    entry = archive.getinfo(f"{name}.npy")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        message = f"{name!r} is compressed by a method that NumPy does not write"
        raise ValueError(message)
    with archive.open(entry) as stream:
        header = _read_header(stream)
        if header is None:
            message = f"{name!r} is no array of plain numbers"
            raise ValueError(message)
        if header.size_bytes > MAX_ARRAY_BYTES:
            message = f"{name!r} has {header.size_bytes} bytes, the most is {MAX_ARRAY_BYTES}"
            raise ValueError(message)
        # One byte more than declared, so that a longer or damaged entry is noticed.
        content = stream.read(header.size_bytes + 1)
    if len(content) != header.size_bytes:
        message = f"{name!r} should have {header.size_bytes} bytes and has {len(content)}"
        raise ValueError(message)
    return np.frombuffer(content, header.dtype).reshape(header.shape, order=header.order)


def _read_header(stream: IO[bytes]) -> Header | None:
    """Return what the array is, or None where it is no array of plain numbers."""
    prefix = stream.read(8)
    length_bytes = LENGTH_BYTES.get(prefix)
    if length_bytes is None:
        return None
    length = int.from_bytes(stream.read(length_bytes), "little")
    if length > MAX_HEADER_BYTES:
        return None
    found = HEADER.fullmatch(stream.read(length))
    if found is None:
        return None
    shape = tuple(int(axis) for axis in found["shape"].split(b",") if axis.strip())
    if any(axis > MAX_ARRAY_BYTES for axis in shape):
        return None
    order: Literal["C", "F"] = "F" if found["columns_first"] == b"True" else "C"
    return Header(shape=shape, order=order, dtype=np.dtype(found["dtype"].decode()))
