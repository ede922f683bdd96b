"""A published data set is known by its digest, and its repeats are left out, aloud."""

import hashlib
import typing
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from packager.artifacts import File
from packager.contract import Activation, Contract
from packager.datasets import medmnist
from packager.datasets.medmnist import PUBLISHED
from packager.datasets.splits import Labelled, Split
from packager.errors import DataError
from packager.recipe import MedMnistData
from tests.contracts import GRAY
from tests.loaded import raw_frames

BREAST = MedMnistData(source="medmnist:breastmnist", calibration_samples=3)
CONTRACT = Contract(
    input_shape=(1, 28, 28),
    source=GRAY,
    full_scale=255.0,
    mean=(0.5,),
    std=(0.25,),
    activation=Activation.SOFTMAX,
    labels=("malignant", "normal or benign"),
)


def distinct_frames(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 28, 28), np.uint8)


def publish(
    path: Path, monkeypatch: pytest.MonkeyPatch, frames: NDArray[np.uint8] | None = None
) -> File:
    """Write a small data set like the published one: 16 of train, 4 of val, 5 of test."""
    frames = distinct_frames(25) if frames is None else frames
    parts = {"train": frames[:16], "val": frames[16:20], "test": frames[20:]}
    with zipfile.ZipFile(path, "w") as archive:
        for part, images in parts.items():
            labels = (np.arange(len(images)) % 2)[:, np.newaxis].astype(np.uint8)
            for name, array in (("images", images), ("labels", labels)):
                with archive.open(f"{part}_{name}.npy", "w") as stream:
                    np.save(stream, array)
    file = File.of(path)
    published = replace(PUBLISHED[BREAST.source], digest=f"sha256:{file.sha256}")
    monkeypatch.setitem(PUBLISHED, BREAST.source, published)
    return file


def test_every_source_of_the_recipe_is_published() -> None:
    annotation = MedMnistData.model_fields["source"].annotation
    assert set(typing.get_args(annotation)) == set(PUBLISHED)


def test_digests_are_those_of_the_publisher() -> None:
    assert {name: published.digest for name, published in PUBLISHED.items()} == {
        "medmnist:breastmnist": (
            "sha256:3a22d2a4625e7dd8903f0f59030e81a3d0c222bece2e5e10927456cb50efdec1"
        ),
        "medmnist:pneumoniamnist": "md5:28209eda62fecd6e6a2d98b1501bb15f",
    }


@pytest.mark.parametrize("place", ["breastmnist.npz", "breastmnist/breastmnist.npz"])
def test_file_is_found_in_the_data_folder_or_one_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    file = publish(tmp_path / place, monkeypatch)
    assert medmnist.find(BREAST, tmp_path) == file


def test_other_digests_than_sha256_are_checked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = publish(tmp_path / "breastmnist.npz", monkeypatch)
    md5 = hashlib.md5(file.path.read_bytes(), usedforsecurity=False).hexdigest()
    published = replace(PUBLISHED[BREAST.source], digest=f"md5:{md5}")
    monkeypatch.setitem(PUBLISHED, BREAST.source, published)
    assert medmnist.find(BREAST, tmp_path) == file
    file.path.write_bytes(file.path.read_bytes() + b"!")
    with pytest.raises(DataError, match="is not the published file: its md5 is "):
        medmnist.find(BREAST, tmp_path)


def test_file_that_is_not_in_the_data_folder_is_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        medmnist.find(BREAST, tmp_path)
    assert str(caught.value) == (
        f"--data-dir: neither {tmp_path}/breastmnist.npz nor "
        f"{tmp_path}/breastmnist/breastmnist.npz is there. Download "
        "https://zenodo.org/records/10519652/files/breastmnist.npz by hand and give its "
        "folder as --data-dir."
    )


def test_file_of_another_digest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "breastmnist.npz"
    path.write_bytes(b"something else")
    with pytest.raises(DataError) as caught:
        medmnist.find(BREAST, tmp_path)
    assert str(caught.value) == (
        f"{path}: is not the published file: its sha256 is "
        f"{hashlib.sha256(b'something else').hexdigest()}, not "
        "3a22d2a4625e7dd8903f0f59030e81a3d0c222bece2e5e10927456cb50efdec1. Download "
        "https://zenodo.org/records/10519652/files/breastmnist.npz by hand and give its "
        "folder as --data-dir."
    )


def test_parts_become_splits_and_train_gives_the_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = distinct_frames(25)
    file = publish(tmp_path / "breastmnist.npz", monkeypatch)
    loaded = medmnist.load(BREAST, file, CONTRACT, 0)
    counts = {split: len(samples.labels) for split, samples in loaded.splits.items()}
    assert counts == {
        Split.FINETUNE: 13,
        Split.VALIDATION: 4,
        Split.CALIBRATION: 3,
        Split.EVALUATION: 5,
    }
    np.testing.assert_array_equal(raw_frames(loaded, Split.VALIDATION), frames[16:20])
    np.testing.assert_array_equal(raw_frames(loaded, Split.EVALUATION), frames[20:])
    assert loaded.splits[Split.EVALUATION].labels.tolist() == [0, 1, 0, 1, 0]
    both = [*raw_frames(loaded, Split.FINETUNE), *raw_frames(loaded, Split.CALIBRATION)]
    assert {f.tobytes() for f in both} == {f.tobytes() for f in frames[:16]}
    assert not loaded.simulated
    assert loaded.origin == PUBLISHED[BREAST.source].origin


def test_origin_names_the_licence_and_what_to_cite() -> None:
    for published in PUBLISHED.values():
        assert "Licence: CC BY 4.0. Cite: Yang et al." in published.origin
        assert published.origin.count("doi:10.") == 2


def test_repeats_are_left_out_of_train_and_val_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = distinct_frames(25)
    frames[5] = frames[2]  # within train
    frames[7] = frames[16]  # train and val
    frames[[9, 17]] = frames[20]  # train, val and test
    frames[11] = frames[23]  # train and test
    frames[22] = frames[21]  # within test, which stays as it is
    file = publish(tmp_path / "breastmnist.npz", monkeypatch, frames)
    loaded = medmnist.load(BREAST, file, CONTRACT, 0)
    assert loaded.origin == (
        f"{PUBLISHED[BREAST.source].origin} "
        "Left out of train, as repeats of another sample: 4 (5, 7, 9, 11). "
        "Left out of val, as repeats of another sample: 1 (1)."
    )
    np.testing.assert_array_equal(raw_frames(loaded, Split.EVALUATION), frames[20:])
    np.testing.assert_array_equal(raw_frames(loaded, Split.VALIDATION), frames[[16, 18, 19]])
    assert len(loaded.splits[Split.FINETUNE].labels) == 16 - 4 - 3


def test_long_lists_of_repeats_are_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = distinct_frames(25)
    frames[1:8:1] = frames[0]
    file = publish(tmp_path / "breastmnist.npz", monkeypatch, frames)
    origin = medmnist.load(BREAST, file, CONTRACT, 0).origin
    assert origin.endswith("as repeats of another sample: 7 (1, 2, 3, 4, 5, ...).")


def test_contract_with_another_number_of_labels_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = publish(tmp_path / "breastmnist.npz", monkeypatch)
    three = CONTRACT.model_copy(update={"labels": ("malignant", "benign", "normal")})
    with pytest.raises(DataError) as caught:
        medmnist.load(BREAST, file, three, 0)
    assert str(caught.value) == (
        "contract.labels: breastmnist.npz has 2 labels (0 malignant, 1 normal or benign), not 3."
    )


# The draw for calibration


def samples(zeros: int, ones: int) -> Labelled:
    labels = np.random.default_rng(1).permutation([0] * zeros + [1] * ones)
    return Labelled(frames=np.arange(zeros + ones), labels=labels)


@pytest.mark.parametrize(
    ("count", "expected"), [(10, [7, 3]), (1, [1, 0]), (3, [2, 1]), (5, [3, 2]), (99, [69, 30])]
)
def test_labels_are_drawn_in_proportion(count: int, expected: list[int]) -> None:
    rest, drawn = medmnist.draw(samples(70, 31), count, 0)
    assert np.bincount(drawn.labels, minlength=2).tolist() == expected
    assert sorted([*rest.frames, *drawn.frames]) == list(range(101))


def test_draw_keeps_the_order_and_the_labels_of_the_samples() -> None:
    given = samples(30, 20)
    for part in medmnist.draw(given, 10, 0):
        assert (np.diff(part.frames.astype(int)) > 0).all()
        np.testing.assert_array_equal(part.labels, given.labels[part.frames.astype(int)])


def test_draw_depends_on_the_seed_alone() -> None:
    one, again, other = (medmnist.draw(samples(70, 30), 10, seed)[1].frames for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert one.tolist() != other.tolist()


@pytest.mark.parametrize("count", [19, 20, 50])
def test_draw_that_leaves_no_sample_of_a_label_is_refused(count: int) -> None:
    with pytest.raises(DataError) as caught:
        medmnist.draw(samples(18, 2), count, 0)
    assert str(caught.value) == (
        f"data.calibration_samples: {count} leaves too few for fine-tuning; train has 20. "
        "Take less than 18."
    )
