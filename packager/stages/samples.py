"""Load the user's samples into four splits that share none, in the tensor's size."""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from packager.artifacts import Dataset, File
from packager.cache import step
from packager.contract import Contract, golden
from packager.contract.frames import UPRIGHT, Frame
from packager.contract.images import read_frame
from packager.contract.tensors import normalise
from packager.datasets import Samples, arrays, images, medmnist, phantom
from packager.datasets.splits import Labelled, LabelledImages, Loaded, Split, fingerprints
from packager.errors import DataError, FrameError
from packager.progress import track
from packager.recipe import ArrayData, ImageData, MedMnistData, PhantomData

LEARNED_OR_JUDGED = (Split.FINETUNE, Split.EVALUATION)

MIN_GOLDEN_SAMPLES = 16
MAX_GOLDEN_SAMPLES = 64


@step(version=2, tools=("numpy", "pillow", "scipy"))
def load_samples(out: Path, samples: Samples, contract: Contract, seed: int) -> Dataset:
    """Write one `.npz` for each split to `out`; the same inputs give the same bytes.

    Raises:
        DataError: The samples cannot be read, do not fit the contract, lack a label, or
            stand in more than one split.
    """
    loaded = _load(samples, contract, seed)
    for split, raw in loaded.splits.items():
        _require_labelled(split, raw, contract)
    for split in LEARNED_OR_JUDGED:
        _require_every_label(split, loaded.splits[split].labels, contract)
    fitted = {split: fit(split, raw, contract) for split, raw in loaded.splits.items()}
    _require_disjoint(fitted)
    files = {split: arrays.write(out / f"{split}.npz", fitted[split]) for split in Split}
    return Dataset(
        finetune=files[Split.FINETUNE],
        validation=files[Split.VALIDATION],
        calibration=files[Split.CALIBRATION],
        evaluation=files[Split.EVALUATION],
        golden=_write_golden(out / "golden.npz", loaded.splits[Split.EVALUATION], contract),
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


def fit(split: Split, raw: Labelled | LabelledImages, contract: Contract) -> Labelled:
    """Return the samples of one split as the contract fits them to the tensor.

    Raises:
        DataError: A sample cannot be read, or does not fit; the message says which.
    """
    if isinstance(raw, Labelled):
        fitted = [_fit_one(split, raw, index, contract) for index in range(len(raw.labels))]
        return Labelled(frames=np.stack(fitted), labels=raw.labels)
    fitted = []
    with track(f"decode {split}", len(raw.labels)) as advance:
        for index in range(len(raw.labels)):
            fitted.append(_fit_one(split, raw, index, contract))
            advance("")
    return Labelled(frames=np.stack(fitted), labels=raw.labels)


def _fit_one(
    split: Split, raw: Labelled | LabelledImages, index: int, contract: Contract
) -> NDArray[np.generic]:
    try:
        fitted = golden.fit(raw_sample(raw, index, contract), contract)
        normalise(fitted[np.newaxis], contract)  # refuses what no tensor can be made of
    except FrameError as error:
        raise DataError(_place(split, raw, index), error.problem) from None
    return fitted


def raw_sample(raw: Labelled | LabelledImages, index: int, contract: Contract) -> golden.Sample:
    """Return one sample as it came: a frame, or a signal.

    Raises:
        DataError: An image cannot be read.
    """
    if isinstance(raw, LabelledImages):
        return read_frame(raw.paths[index], contract)
    return Frame(pixels=raw.frames[index]) if contract.is_image else raw.frames[index]


def _place(split: Split, raw: Labelled | LabelledImages, index: int) -> str:
    if isinstance(raw, LabelledImages):
        return str(raw.paths[index])
    return f"data.{split}: sample {index}"


def golden_samples(labels: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
    """Return the indices of `wanted` samples, or of all if there are fewer, ascending.

    Labels take turns, so that each occurs as long as there is room:
    for labels (0, 0, 0, 1, 2) and 3 wanted: (0, 3, 4).
    """
    turn = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        of_label = np.flatnonzero(labels == label)
        turn[of_label] = np.arange(len(of_label))
    order = np.lexsort((labels, turn))
    return np.sort(order[:wanted]).astype(np.int64)


def _write_golden(path: Path, raw: Labelled | LabelledImages, contract: Contract) -> File:
    """Keep a few raw samples, for the golden vectors of every bundle."""
    # One of each label, as long as the archive stays small.
    wanted = max(MIN_GOLDEN_SAMPLES, min(len(contract.labels), MAX_GOLDEN_SAMPLES))
    samples = golden_samples(raw.labels, wanted)
    kept: dict[str, NDArray[np.generic]] = {"samples": samples, "labels": raw.labels[samples]}
    orientations = np.full(len(samples), UPRIGHT, np.int64)
    for place, index in enumerate(samples):
        sample = raw_sample(raw, int(index), contract)
        if isinstance(sample, Frame):
            kept[f"frame_{place:03}"] = sample.pixels
            orientations[place] = sample.orientation
            if sample.palette is not None:
                kept[f"palette_{place:03}"] = sample.palette
        else:
            kept[f"frame_{place:03}"] = sample
    np.savez(path, allow_pickle=False, **kept, orientations=orientations)
    return File.of(path)


def _require_labelled(split: Split, raw: Labelled | LabelledImages, contract: Contract) -> None:
    """Check the samples of one split by themselves."""
    where, labels = f"data.{split}", raw.labels
    shape = raw.frames.shape if isinstance(raw, Labelled) else (len(raw.paths),)
    if not shape or shape[0] != len(labels):
        problem = f"frames have shape {shape}, for {len(labels)} labels."
        raise DataError(where, f"{problem} Give one label for each frame.")
    if not len(labels):
        raise DataError(where, "has no sample. Give some, or take them from another split.")
    _require_known_labels(where, labels, contract)


def _require_known_labels(where: str, labels: NDArray[np.int64], contract: Contract) -> None:
    count = len(contract.labels)
    unknown = np.flatnonzero((labels < 0) | (labels >= count))
    if len(unknown):
        problem = f"sample {unknown[0]} has the label {labels[unknown[0]]}"
        known = f"contract.labels names {count}, 0 to {count - 1}"
        raise DataError(where, f"{problem}; {known}. Correct it, or name the label.")


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
