"""What every evaluation sample got from the original and from the device's program."""

import base64
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from packager.artifacts import File
from packager.contract import Contract
from packager.contract.answers import decisions, probabilities
from packager.errors import BundleError

# Thirty-six colour frames of this size stay within a megabyte of PNG.
LARGEST_THUMBNAIL_PX = 112
SHARP_THUMBNAIL_PX = 64


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The answers to n samples, read from a target's scores.

    Attributes:
        labels: The truth, indices of labels, (n,).
        original: Index of the label that the original decided, (n,).
        converted: Index of the label that the converted program decided, (n,).
        subject: Index of the label whose probability is followed, (n,): the positive one
            of two, and of more the one that the original decided.
        original_probability: Of `subject`, from the original, (n,).
        converted_probability: Of `subject`, from the converted program, (n,).
        frames: The k raw samples that moved most, k first; None where they were not kept.
        shown: Their indices, (k,).
    """

    labels: NDArray[np.int64]
    original: NDArray[np.int64]
    converted: NDArray[np.int64]
    subject: NDArray[np.int64]
    original_probability: NDArray[np.float64]
    converted_probability: NDArray[np.float64]
    frames: NDArray[np.generic] | None
    shown: NDArray[np.int64]

    @property
    def changed(self) -> NDArray[np.bool_]:
        """True where the two decided differently, (n,)."""
        return np.asarray(self.original != self.converted)


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """One cell of a confusion matrix that is too large to print."""

    truth: str
    decided: str
    original: int
    converted: int


@dataclass(frozen=True, kw_only=True)
class Moved:
    """One sample of the gallery.

    Attributes:
        sample: Its index in the evaluation split.
        truth: Its label.
        subject: The label whose probability is given.
        picture: A `data:` address of a PNG; empty for a signal.
        sharp: True where the picture is small, and is best shown pixel by pixel.
        line: The points of a polyline in a box of 100 by 40; empty for an image.
    """

    sample: int
    truth: str
    subject: str
    original_probability: float
    converted_probability: float
    changed: bool
    picture: str
    sharp: bool
    line: str


def read(scores: File, folder: Path, contract: Contract) -> Evidence:
    """Read the evidence of one target, which lies relative to `folder`.

    Raises:
        BundleError: The file is missing, or is not the one that the build wrote.
    """
    path = folder / scores.path
    if not path.is_file():
        raise BundleError(
            str(path), "is missing. Keep evidence/ beside build.json, or build again."
        )
    if File.of(path).sha256 != scores.sha256:
        raise BundleError(str(path), "is not what the build wrote. Build again.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return _evidence({name: arrays[name] for name in arrays.files}, contract)
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BundleError(str(path), f"cannot be read ({error}). Build again.") from None


def _evidence(arrays: dict[str, NDArray[np.generic]], contract: Contract) -> Evidence:
    original = arrays["original"].astype(np.float32)
    converted = arrays["converted"].astype(np.float32)
    decided = decisions(original, contract)
    subject = np.ones_like(decided) if len(contract.labels) == 2 else decided
    rows = np.arange(len(subject))
    return Evidence(
        labels=arrays["labels"].astype(np.int64),
        original=decided,
        converted=decisions(converted, contract),
        subject=subject,
        original_probability=probabilities(original, contract.activation)[rows, subject],
        converted_probability=probabilities(converted, contract.activation)[rows, subject],
        frames=arrays.get("frames"),
        shown=arrays.get("shown", np.zeros(0)).astype(np.int64),
    )


def confusion_counts(
    labels: NDArray[np.int64], decided: NDArray[np.int64], classes: int
) -> tuple[tuple[int, ...], ...]:
    """Count samples by truth (row) and decision (column).

    For labels (0, 1, 1), decisions (0, 0, 1) and 2 classes: ((1, 0), (1, 1)).
    """
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (labels, decided), 1)
    return tuple(tuple(int(cell) for cell in row) for row in table)


def worst_confusions(
    evidence: Evidence, labels: tuple[str, ...], limit: int
) -> tuple[Confusion, ...]:
    """Return the most frequent wrong answers of the converted program, most frequent first."""
    before = confusion_counts(evidence.labels, evidence.original, len(labels))
    after = confusion_counts(evidence.labels, evidence.converted, len(labels))
    pairs = [(t, d) for t in range(len(labels)) for d in range(len(labels)) if t != d]
    worst = sorted(pairs, key=lambda pair: (-after[pair[0]][pair[1]], pair))[:limit]
    return tuple(
        Confusion(truth=labels[t], decided=labels[d], original=before[t][d], converted=after[t][d])
        for t, d in worst
        if after[t][d] > 0
    )


def thin(evidence: Evidence, most: int) -> NDArray[np.int64]:
    """Return the indices of at most `most` samples to draw.

    Changed decisions come first, those that moved most before others; the rest is filled
    with unchanged samples at even distances.
    """
    moved = np.abs(evidence.converted_probability - evidence.original_probability)
    changed = np.flatnonzero(evidence.changed)
    changed = changed[np.argsort(-moved[changed], kind="stable")][:most]
    unchanged = np.flatnonzero(~evidence.changed)
    room = min(most - len(changed), len(unchanged))
    evenly = np.linspace(0, len(unchanged) - 1, room).round().astype(np.int64)
    return np.sort(np.concatenate([changed, unchanged[evenly]]))


def gallery(evidence: Evidence, contract: Contract) -> tuple[Moved, ...]:
    """Return the samples that moved most, as they were stored; empty where none were kept."""
    if evidence.frames is None:
        return ()
    return tuple(
        _moved(evidence, int(sample), frame, contract)
        for sample, frame in zip(evidence.shown, evidence.frames, strict=True)
    )


def _moved(
    evidence: Evidence, sample: int, frame: NDArray[np.generic], contract: Contract
) -> Moved:
    image = len(contract.input_shape) == 3
    return Moved(
        sample=sample,
        truth=contract.labels[evidence.labels[sample]],
        subject=contract.labels[evidence.subject[sample]],
        original_probability=float(evidence.original_probability[sample]),
        converted_probability=float(evidence.converted_probability[sample]),
        changed=bool(evidence.changed[sample]),
        picture=_picture(frame) if image else "",
        sharp=max(frame.shape[:2]) <= SHARP_THUMBNAIL_PX,
        line="" if image else _line(frame),
    )


def _picture(frame: NDArray[np.generic]) -> str:
    """Return a frame, (height, width) or (height, width, 3), as a `data:` address."""
    from PIL import Image

    # Of 16 bits, what a screen can show.
    pixels = (frame.astype(np.uint32) >> 8 * (frame.dtype.itemsize - 1)).astype(np.uint8)
    image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[2:] == (1,) else pixels)
    image.thumbnail((LARGEST_THUMBNAIL_PX, LARGEST_THUMBNAIL_PX), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _line(frame: NDArray[np.generic]) -> str:
    """Return the first channel of a signal as points in a box of 100 by 40, upwards positive."""
    signal = np.atleast_2d(frame)[0].astype(np.float64)
    # A line 100 units wide shows no more points than this.
    signal = signal[:: max(len(signal) // 400, 1)]
    low, span = float(signal.min()), float(np.ptp(signal)) or 1.0
    across = np.linspace(0, 100, len(signal))
    down = 38 - 36 * (signal - low) / span
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
