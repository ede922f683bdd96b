"""Labelled frames in memory, and what makes two of them the same."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

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
    """Frames and their labels, one a row.

    Attributes:
        frames: uint8 `(n, height, width)` or `(n, height, width, 3)`, or float32
            `(n, length)` or `(n, channels, length)`.
        labels: int64 `(n,)`, indices into the contract's labels.
    """

    frames: NDArray[np.generic]
    labels: NDArray[np.int64]

    def take(self, indices: NDArray[np.int64]) -> "Labelled":
        """Return the samples at `indices`, in that order."""
        return Labelled(frames=self.frames[indices], labels=self.labels[indices])


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A whole data set in memory.

    Attributes:
        splits: One entry for every `Split`.
        origin: Where the samples come from, in words, with licence and citation.
        simulated: True where no patient or device ever produced these samples.
    """

    splits: Mapping[Split, Labelled]
    origin: str
    simulated: bool


def fingerprints(frames: NDArray[np.generic]) -> list[bytes]:
    """Return the SHA-256 of the content of each frame; equal frames have equal ones."""
    return [hashlib.sha256(frame.tobytes()).digest() for frame in frames]
