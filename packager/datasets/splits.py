"""Labelled raw frames, in memory or as files, and what makes two of them the same."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class Split(StrEnum):
    """What a sample is used for; each sample has one use."""

    FINETUNE = "finetune"
    VALIDATION = "validation"
    CALIBRATION = "calibration"
    EVALUATION = "evaluation"


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Raw frames and their labels, one a row.

    Attributes:
        frames: uint8 or uint16 `(n, height, width)` or `(n, height, width, channels)`, or
            float32 or int16 `(n, length)` or `(n, leads, length)`.
        labels: int64 `(n,)`, indices into the contract's labels.
    """

    frames: NDArray[np.generic]
    labels: NDArray[np.int64]

    def take(self, indices: NDArray[np.int64]) -> "Labelled":
        """Return the samples at `indices`, in that order."""
        return Labelled(frames=self.frames[indices], labels=self.labels[indices])


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """Image files, of any size, and their labels: decoded one by one, when they are needed.

    Attributes:
        labels: int64 `(n,)`, indices into the contract's labels.
    """

    paths: tuple[Path, ...]
    labels: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A whole data set, raw.

    Attributes:
        splits: One entry for every `Split`.
        origin: Where the samples come from, in words, with licence and citation.
        simulated: True where no patient or device ever produced these samples.
    """

    splits: Mapping[Split, Labelled | LabelledImages]
    origin: str
    simulated: bool


def fingerprints(frames: NDArray[np.generic]) -> list[bytes]:
    """Return the SHA-256 of the content of each frame; equal frames have equal ones."""
    return [hashlib.sha256(frame.tobytes()).digest() for frame in frames]
