"""Load the user's samples into four splits that share none."""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from packager.artifacts import Dataset
from packager.cache import step
from packager.contract import Contract, prepare
from packager.datasets import Samples, arrays, images, medmnist, phantom
from packager.datasets.splits import Labelled, Loaded, Split, fingerprints
from packager.errors import DataError
from packager.recipe import ArrayData, ImageData, MedMnistData, PhantomData

LEARNED_OR_JUDGED = (Split.FINETUNE, Split.EVALUATION)


@step(version=1, tools=("numpy", "pillow"))
def load_samples(out: Path, samples: Samples, contract: Contract, seed: int) -> Dataset:
    """Write one `.npz` for each split to `out`; the same inputs give the same bytes.

    Raises:
        DataError: The samples cannot be read, do not fit the contract, lack a label, or
            stand in more than one split.
    """
    loaded = _load(samples, contract, seed)
    for split, labelled in loaded.splits.items():
        _require_fitting(split, labelled, contract)
    _require_one_type(loaded.splits)
    for split in LEARNED_OR_JUDGED:
        _require_every_label(split, loaded.splits[split].labels, contract)
    _require_disjoint(loaded.splits)
    files = {split: arrays.write(out / f"{split}.npz", loaded.splits[split]) for split in Split}
    return Dataset(
        finetune=files[Split.FINETUNE],
        validation=files[Split.VALIDATION],
        calibration=files[Split.CALIBRATION],
        evaluation=files[Split.EVALUATION],
        origin=loaded.origin,
        simulated=loaded.simulated,
    )


def _load(samples: Samples, contract: Contract, seed: int) -> Loaded:
    source, files = samples.source, samples.files
    match source:
        case PhantomData():
            return phantom.load(source, contract, seed)
        case ArrayData():
            return arrays.load(source, files.arrays)
        case ImageData():
            return images.load(source, files.images, contract)
        case MedMnistData():
            return medmnist.load(source, files.arrays[0], contract, seed)
        case _:
            assert_never(source)


def _require_fitting(split: Split, samples: Labelled, contract: Contract) -> None:
    """Check the samples of one split by themselves."""
    where, frames, labels = f"data.{split}", samples.frames, samples.labels
    if frames.ndim == 0 or len(frames) != len(labels):
        problem = f"frames have shape {frames.shape}, for {len(labels)} labels."
        raise DataError(where, f"{problem} Give one label for each frame.")
    if not len(frames):
        raise DataError(where, "has no sample. Give some, or take them from another split.")
    try:
        prepare(frames[:1], contract)  # says what is wrong with a shape
    except DataError as error:
        raise DataError(where, error.problem) from None
    for index, frame in enumerate(frames):
        if not np.isfinite(frame).all():
            raise DataError(where, f"sample {index} holds NaN or infinity. Remove or repair it.")
    _require_known_labels(where, labels, contract)


def _require_known_labels(where: str, labels: NDArray[np.int64], contract: Contract) -> None:
    count = len(contract.labels)
    unknown = np.flatnonzero((labels < 0) | (labels >= count))
    if len(unknown):
        problem = f"sample {unknown[0]} has the label {labels[unknown[0]]}"
        known = f"contract.labels names {count}, 0 to {count - 1}"
        raise DataError(where, f"{problem}; {known}. Correct it, or name the label.")


def _require_one_type(splits: Mapping[Split, Labelled]) -> None:
    types = {split: samples.frames.dtype for split, samples in splits.items()}
    for split, dtype in types.items():
        if dtype != types[Split.FINETUNE]:
            problem = f"frames are {dtype}, those of data.finetune {types[Split.FINETUNE]}."
            raise DataError(f"data.{split}", f"{problem} Save all splits in the same type.")


def _require_every_label(split: Split, labels: NDArray[np.int64], contract: Contract) -> None:
    """Check that a split shows every label: what is absent can be neither learned nor judged."""
    present = np.unique(labels)
    missing = [repr(name) for i, name in enumerate(contract.labels) if i not in present]
    if missing:
        only = f"all samples are {contract.labels[present[0]]!r}; " if len(present) == 1 else ""
        problem = f"{only}there is no {' and no '.join(missing)}. Add some."
        raise DataError(f"data.{split}", problem)


def _require_disjoint(splits: Mapping[Split, Labelled]) -> None:
    """Fail if the content of a frame stands in two splits."""
    places = {split: _first_places(samples.frames) for split, samples in splits.items()}
    overlaps = []
    for one, other in combinations(places, 2):
        shared = sorted(
            (places[one][key], places[other][key]) for key in places[one].keys() & places[other]
        )
        if shared:
            first = f"first: {one}[{shared[0][0]}] = {other}[{shared[0][1]}]"
            overlaps.append(f"samples in both {one} and {other}: {len(shared)} ({first})")
    if overlaps:
        remedy = "Each sample has one use: remove it from all splits but one."
        raise DataError("data", f"{'; '.join(overlaps)}. {remedy}")


def _first_places(frames: NDArray[np.generic]) -> dict[bytes, int]:
    """Return the lowest index of each distinct frame, by its fingerprint."""
    return {key: index for index, key in reversed(list(enumerate(fingerprints(frames))))}
