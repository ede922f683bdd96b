"""Published data sets of MedMNIST v2, known by their digest."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from packager.artifacts import File
from packager.contract import Contract
from packager.datasets import arrays
from packager.datasets.splits import Labelled, Loaded, Split, fingerprints
from packager.errors import DataError
from packager.progress import track
from packager.recipe import MedMnistData
from packager.storage import storage_errors

PUBLISHER = "https://zenodo.org/records/10519652/files"
PARTS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Published:
    """One data set.

    Attributes:
        file: Its name at the publisher.
        digest: `algorithm:hexadecimal` of the file.
        labels: What the numbers 0, 1, ... mean.
        origin: Source, licence and what to cite.
    """

    file: str
    digest: str
    labels: tuple[str, ...]
    origin: str


MEDMNIST = (
    "of MedMNIST v2, 28 x 28 pixels. Licence: CC BY 4.0. Cite: Yang et al., Scientific Data "
    "10, 41 (2023), doi:10.1038/s41597-022-01721-8"
)
PUBLISHED = {
    "medmnist:breastmnist": Published(
        file="breastmnist.npz",
        digest="sha256:3a22d2a4625e7dd8903f0f59030e81a3d0c222bece2e5e10927456cb50efdec1",
        labels=("malignant", "normal or benign"),
        origin=(
            f"BreastMNIST (breast ultrasound) {MEDMNIST}; "
            "Al-Dhabyani et al., Data in Brief 28, 104863 (2020), doi:10.1016/j.dib.2019.104863."
        ),
    ),
    "medmnist:pneumoniamnist": Published(
        file="pneumoniamnist.npz",
        # The publisher gives MD5 digests only, and nobody here has hashed this file anew.
        digest="md5:28209eda62fecd6e6a2d98b1501bb15f",
        labels=("normal", "pneumonia"),
        origin=(
            f"PneumoniaMNIST (chest X-ray of children) {MEDMNIST}; "
            "Kermany et al., Cell 172, 1122-1131 (2018), doi:10.1016/j.cell.2018.02.010."
        ),
    ),
}


def find(data: MedMnistData, data_dir: Path | None) -> File:
    """Return the published file, from `data_dir` or else from the publisher.

    A fetched file stays in the user's cache folder, where the next call finds it.

    Raises:
        DataError: It is not in `data_dir`, cannot be fetched, or has another digest.
        StorageError: The cache folder cannot be written.
    """
    published = PUBLISHED[data.source]
    return _fetch(published) if data_dir is None else _find_local(published, data_dir)


def _find_local(published: Published, data_dir: Path) -> File:
    import pooch

    folder = published.file.removesuffix(".npz")
    places = (data_dir / published.file, data_dir / folder / published.file)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        problem = f"neither {places[0]} nor {places[1]} is there. {_download_remedy(published)}"
        raise DataError("--data-dir", problem)
    algorithm, _, wanted = published.digest.partition(":")
    found = pooch.file_hash(str(path), alg=algorithm)
    if found != wanted:
        problem = f"is not the published file: its {algorithm} is {found}, not {wanted}."
        raise DataError(str(path), f"{problem} {_download_remedy(published)}")
    return File.of(path)


def _fetch(published: Published) -> File:
    import pooch

    # It would write a line to stderr for each file.
    pooch.get_logger().setLevel(logging.WARNING)
    folder = Path(pooch.os_cache("packager"))
    # Read at once: a refusal that is left unread would keep its connection open.
    download = pooch.HTTPDownloader(stream=False)
    try:
        with storage_errors(folder), track(f"fetch {published.file}", 1) as advance:
            path = pooch.retrieve(
                _url(published),
                published.digest,
                fname=published.file,
                path=folder,
                downloader=download,
            )
            advance("")
    except ValueError:
        problem = f"what {_url(published)} sent is not the published file, by its digest."
        raise DataError(published.file, f"{problem} {_download_remedy(published)}") from None
    except OSError as error:  # requests' own errors are of this kind
        problem = f"cannot be fetched from {_url(published)} ({type(error).__name__})."
        raise DataError(published.file, f"{problem} {_download_remedy(published)}") from None
    return File.of(Path(path))


def _url(published: Published) -> str:
    return f"{PUBLISHER}/{published.file}"


def _download_remedy(published: Published) -> str:
    return f"Download {_url(published)} by hand and give its folder as --data-dir."


def load(data: MedMnistData, file: File, contract: Contract, seed: int) -> Loaded:
    """Read the published parts: train for fine-tuning and calibration, val, and test.

    The calibration samples are drawn at random, with the labels in proportion. A sample
    of train or val that repeats an earlier one of its part, or one of a later part, is
    left out, and `origin` says so. Test stays as it was published.

    Raises:
        DataError: The contract has another number of labels, or train is too small for
            the calibration samples.
    """
    published = PUBLISHED[data.source]
    if len(contract.labels) != len(published.labels):
        meanings = ", ".join(f"{index} {label}" for index, label in enumerate(published.labels))
        problem = f"{published.file} has {len(published.labels)} labels ({meanings})"
        raise DataError("contract.labels", f"{problem}, not {len(contract.labels)}.")
    train, val, test = _read(file.path)
    kept_train, kept_val = _distinct(train, val, test), _distinct(val, test)
    notes = _left_out("train", train, kept_train), _left_out("val", val, kept_val)
    finetune, calibration = draw(train.take(kept_train), data.calibration_samples, seed)
    splits = {
        Split.FINETUNE: finetune,
        Split.VALIDATION: val.take(kept_val),
        Split.CALIBRATION: calibration,
        Split.EVALUATION: test,
    }
    return Loaded(splits=splits, origin=published.origin + "".join(notes), simulated=False)


def _read(path: Path) -> list[Labelled]:
    found = arrays.read(path, [f"{part}_{kind}" for part in PARTS for kind in ("images", "labels")])
    return [
        Labelled(
            frames=found[f"{part}_images"],
            labels=found[f"{part}_labels"].reshape(-1).astype(np.int64),
        )
        for part in PARTS
    ]


def _distinct(samples: Labelled, *others: Labelled) -> NDArray[np.int64]:
    """Return the indices of the frames that repeat neither an earlier one nor one of `others`."""
    seen = {digest for other in others for digest in fingerprints(other.frames)}
    kept = []
    for index, digest in enumerate(fingerprints(samples.frames)):
        if digest not in seen:
            kept.append(index)
            seen.add(digest)
    return np.array(kept, np.int64)


def _left_out(part: str, samples: Labelled, kept: NDArray[np.int64]) -> str:
    """Return the sentence about what is not among `kept`; empty where all is."""
    left_out = sorted(set(range(len(samples.labels))) - set(kept.tolist()))
    if not left_out:
        return ""
    named = ", ".join(str(index) for index in left_out[:5])
    more = ", ..." if len(left_out) > 5 else ""
    return f" Left out of {part}, as repeats of another sample: {len(left_out)} ({named}{more})."


def draw(samples: Labelled, count: int, seed: int) -> tuple[Labelled, Labelled]:
    """Return the rest, and `count` samples drawn at random with the labels in proportion.

    Each label's share is rounded so that the sum is `count`; both parts keep the order of
    `samples`.

    Raises:
        DataError: `count` leaves no sample of a label over.
    """
    kinds, frequency = np.unique(samples.labels, return_counts=True)
    share = frequency * count / len(samples.labels)
    quota = np.floor(share).astype(np.int64)
    short = count - int(quota.sum())
    quota[np.argsort(quota - share, kind="stable")[:short]] += 1
    if (quota >= frequency).any():
        most = len(samples.labels) - len(kinds)
        problem = f"{count} leaves too few for fine-tuning; train has {len(samples.labels)}"
        raise DataError("data.calibration_samples", f"{problem}. Take less than {most}.")
    rng = np.random.default_rng(seed)
    places = [np.flatnonzero(samples.labels == kind) for kind in kinds]
    pairs = zip(places, quota, strict=True)
    chosen = np.sort(np.concatenate([rng.choice(p, n, replace=False) for p, n in pairs]))
    rest = np.setdiff1d(np.arange(len(samples.labels)), chosen)
    return samples.take(rest), samples.take(chosen)
