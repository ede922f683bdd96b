import base64
import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from packager.artifacts import File
from packager.contract import Activation, Contract
from packager.errors import BundleError
from packager.report import evidence
from packager.report.evidence import Confusion, Evidence
from tests.contracts import GRAY, SIGNAL

TWO = Contract(
    input_shape=(1, 4, 4),
    source=GRAY,
    full_scale=255.0,
    mean=(0.5,),
    std=(0.5,),
    activation=Activation.SIGMOID,
    labels=("benign", "malignant"),
)
THREE = Contract(
    input_shape=(1, 8),
    source=SIGNAL,
    full_scale=1.0,
    mean=(0.0,),
    std=(1.0,),
    activation=Activation.SOFTMAX,
    labels=("normal", "early", "late"),
)


def write(path: Path, **arrays: ArrayLike) -> File:
    np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})  # type: ignore[arg-type]
    return File.of(path)


def assert_probabilities(given: NDArray[np.float64], exact: object) -> None:
    # The contract's own exponential is cut to 20 binary places of its exponent.
    np.testing.assert_allclose(given, np.asarray(exact), rtol=1e-6)


def named(file: File) -> File:
    return File(path=Path(file.path.name), sha256=file.sha256, size_bytes=file.size_bytes)


def logits(*rows: tuple[float, ...]) -> NDArray[np.float32]:
    return np.asarray(rows, np.float32)


@pytest.fixture
def two(tmp_path: Path) -> Evidence:
    """Four samples: the second changed its decision, the third moved without."""
    file = write(
        tmp_path / "scores.npz",
        labels=[0, 1, 1, 0],
        original=logits((-3.0,), (0.5,), (2.0,), (-1.0,)),
        tuned=logits((-3.0,), (0.5,), (2.0,), (-1.0,)),
        converted=logits((-3.0,), (-0.5,), (1.0,), (-1.0,)),
        frames=np.arange(32, dtype=np.uint8).reshape(2, 4, 4),
        shown=[1, 2],
    )
    return evidence.read(named(file), tmp_path, TWO)


def test_positive_probability_is_followed_of_two_labels(two: Evidence) -> None:
    assert two.subject.tolist() == [1, 1, 1, 1]
    assert_probabilities(two.original_probability, 1 / (1 + np.exp([3.0, -0.5, -2.0, 1.0])))
    assert_probabilities(two.converted_probability, 1 / (1 + np.exp([3.0, 0.5, -1.0, 1.0])))
    assert two.changed.tolist() == [False, True, False, False]


def test_decided_probability_is_followed_of_more_labels(tmp_path: Path) -> None:
    file = write(
        tmp_path / "scores.npz",
        labels=[0, 2],
        original=logits((2.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
        converted=logits((0.0, 2.0, 0.0), (0.0, 0.0, 1.0)),
    )

    read = evidence.read(named(file), tmp_path, THREE)

    assert read.subject.tolist() == [0, 2]
    e = np.e
    assert_probabilities(read.original_probability, [e**2 / (e**2 + 2), e / (e + 2)])
    assert_probabilities(read.converted_probability, [1 / (e**2 + 2), e / (e + 2)])
    assert read.changed.tolist() == [True, False]


def test_missing_evidence_says_what_to_do(tmp_path: Path) -> None:
    file = File(path=Path("evidence/a.npz"), sha256="0" * 64, size_bytes=1)

    with pytest.raises(BundleError) as caught:
        evidence.read(file, tmp_path, TWO)

    remedy = "is missing. Keep evidence/ beside build.json, or build again."
    assert str(caught.value) == f"{tmp_path / 'evidence/a.npz'}: {remedy}"


def test_changed_evidence_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "scores.npz", labels=[0])
    write(tmp_path / "scores.npz", labels=[1])

    with pytest.raises(BundleError, match=r"is not what the build wrote\. Build again\."):
        evidence.read(named(file), tmp_path, TWO)


def test_evidence_without_answers_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "scores.npz", labels=[0])

    with pytest.raises(BundleError, match="cannot be read"):
        evidence.read(named(file), tmp_path, TWO)


def test_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scores.npz").write_bytes(b"not an archive")
    file = File.of(tmp_path / "scores.npz")

    with pytest.raises(BundleError, match="cannot be read"):
        evidence.read(named(file), tmp_path, TWO)


def test_confusion_has_truth_in_rows() -> None:
    counts = evidence.confusion_counts(np.array([0, 1, 1]), np.array([0, 0, 1]), 2)

    assert counts == ((1, 0), (1, 1))


def test_worst_confusions_are_of_the_converted_program(tmp_path: Path) -> None:
    late, early, normal = (0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)
    file = write(
        tmp_path / "scores.npz",
        labels=[0, 0, 0, 1],
        original=logits(normal, late, normal, early),
        converted=logits(late, late, early, early),
    )
    read = evidence.read(named(file), tmp_path, THREE)

    assert evidence.worst_confusions(read, THREE.labels, 5) == (
        Confusion(truth="normal", decided="late", original=1, converted=2),
        Confusion(truth="normal", decided="early", original=0, converted=1),
    )
    assert len(evidence.worst_confusions(read, THREE.labels, 1)) == 1


def many(samples: int, changed: tuple[int, ...]) -> Evidence:
    """Samples whose converted program differs from the original in the decisions given."""
    original = np.zeros(samples, np.int64)
    converted = original.copy()
    converted[list(changed)] = 1
    return Evidence(
        labels=original,
        original=original,
        converted=converted,
        subject=np.ones(samples, np.int64),
        original_probability=np.zeros(samples),
        converted_probability=np.where(converted, 0.5 + np.arange(samples) / samples / 2, 0.1),
        frames=None,
        shown=np.zeros(0, np.int64),
    )


def test_few_samples_are_all_drawn() -> None:
    assert evidence.thin(many(5, (2,)), 10).tolist() == [0, 1, 2, 3, 4]


def test_changed_decisions_are_drawn_before_all_others() -> None:
    drawn = evidence.thin(many(1000, (7, 500)), 10)

    assert {7, 500} <= set(drawn.tolist())
    assert len(set(drawn.tolist())) == 10


def test_those_that_moved_most_are_drawn_of_too_many_changed_ones() -> None:
    assert evidence.thin(many(100, tuple(range(100))), 3).tolist() == [97, 98, 99]


def test_gallery_shows_the_frames_as_they_are(two: Evidence) -> None:
    first, second = evidence.gallery(two, TWO)

    assert (first.sample, first.truth, first.subject) == (1, "malignant", "malignant")
    assert (first.changed, second.changed) == (True, False)
    assert (first.sharp, first.line) == (True, "")
    assert first.original_probability == pytest.approx(1 / (1 + np.exp(-0.5)))
    head, _, content = first.picture.partition(",")
    assert head == "data:image/png;base64"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    np.testing.assert_array_equal(pixels, np.arange(16, dtype=np.uint8).reshape(4, 4))


@pytest.mark.parametrize("shape", [(1, 300, 200, 3), (1, 300, 200, 1), (1, 300, 200)])
def test_large_frame_becomes_a_thumbnail(two: Evidence, shape: tuple[int, ...]) -> None:
    frames = np.full(shape, 128, np.uint8)
    large = Evidence(**{**vars(two), "frames": frames, "shown": np.array([0])})

    (moved,) = evidence.gallery(large, TWO)

    content = base64.b64decode(moved.picture.partition(",")[2])
    image = Image.open(io.BytesIO(content))
    assert image.size == (75, 112)
    assert not moved.sharp


def test_signal_is_drawn_as_a_line(two: Evidence) -> None:
    signal = np.array([[[0.0, 1.0, 0.5], [9.0, 9.0, 9.0]]], np.float32)
    read = Evidence(**{**vars(two), "frames": signal, "shown": np.array([0])})

    (moved,) = evidence.gallery(read, THREE)

    assert (moved.picture, moved.line) == ("", "0.0,38.0 50.0,2.0 100.0,20.0")


def test_flat_and_long_signals_are_drawn(two: Evidence) -> None:
    flat = Evidence(
        **{**vars(two), "frames": np.zeros((1, 1, 5000), np.float32), "shown": np.array([0])}
    )

    (moved,) = evidence.gallery(flat, THREE)

    points = moved.line.split()
    assert len(points) <= 500
    assert {point.partition(",")[2] for point in points} == {"38.0"}


def test_gallery_is_empty_where_no_frame_was_kept() -> None:
    assert evidence.gallery(many(3, ()), TWO) == ()
