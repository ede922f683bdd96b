"""Samples that would make a figure wrong are refused before anything is computed."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from packager import datasets
from packager.artifacts import Dataset
from packager.cache import Cache
from packager.contract import Activation, Contract
from packager.contract.frames import Frame, fit_frame
from packager.contract.golden import golden_sample
from packager.contract.spec import Resize, ResizeMode
from packager.datasets import arrays
from packager.datasets.splits import Split
from packager.errors import DataError
from packager.recipe import ArrayData, ImageData, PhantomData
from packager.stages.samples import golden_samples, load_samples
from tests.contracts import GRAY, SIGNAL

CONTRACT = Contract(
    input_shape=(1, 4, 5),
    source=GRAY,
    full_scale=255.0,
    mean=(0.5,),
    std=(0.25,),
    activation=Activation.SOFTMAX,
    labels=("cyst", "solid", "fat"),
)
SIGNALS = CONTRACT.model_copy(update={"input_shape": (1, 20), "source": SIGNAL})
ALL_FRAMES = np.random.default_rng(0).integers(0, 256, (4, 6, 4, 5), np.uint8)


@pytest.fixture
def data(tmp_path: Path) -> ArrayData:
    folder = tmp_path / "data"
    folder.mkdir()
    for split, frames in zip(Split, ALL_FRAMES, strict=True):
        save(folder / f"{split}.npz", frames)
    return ArrayData(
        source="arrays",
        finetune=folder / "finetune.npz",
        validation=folder / "validation.npz",
        calibration=folder / "calibration.npz",
        evaluation=folder / "evaluation.npz",
        origin="drawn for a test",
        simulated=True,
    )


def save(path: Path, frames: NDArray[np.generic], labels: object = (0, 1, 2, 0, 1, 2)) -> None:
    np.savez(path, frames=frames, labels=np.asarray(labels))


def load(data: ArrayData | PhantomData, cache: Cache, contract: Contract = CONTRACT) -> Dataset:
    return cache.run(load_samples, datasets.resolve(data, None), contract, 0)


def refusal(data: ArrayData, cache: Cache, contract: Contract = CONTRACT) -> str:
    with pytest.raises(DataError) as caught:
        load(data, cache, contract)
    entries = [path.name for path in cache.root.iterdir() if "samples-" in path.name]
    assert all(name.endswith(".lock") for name in entries), "nothing half-written is left"
    return str(caught.value)


def test_each_split_is_written_as_it_came(data: ArrayData, cache: Cache) -> None:
    dataset = load(data, cache)
    written = dataset.finetune, dataset.validation, dataset.calibration, dataset.evaluation
    for file, frames in zip(written, ALL_FRAMES, strict=True):
        read = arrays.read(file.path, ("frames", "labels"))
        np.testing.assert_array_equal(read["frames"], frames)
        assert read["labels"].tolist() == [0, 1, 2, 0, 1, 2]
        assert read["labels"].dtype.name == "int64"
    assert (dataset.origin, dataset.simulated) == ("drawn for a test", True)


def test_same_samples_give_the_same_bytes_in_another_cache(
    data: ArrayData, cache: Cache, tmp_path: Path
) -> None:
    one, other = load(data, cache), load(data, Cache(tmp_path / "other"))
    for split in Split:
        assert getattr(one, split).sha256 == getattr(other, split).sha256


def test_phantom_is_simulated_once_for_each_seed(cache: Cache) -> None:
    phantom = PhantomData(
        source="phantom",
        finetune_samples=4,
        validation_samples=2,
        calibration_samples=2,
        evaluation_samples=4,
    )
    contract = CONTRACT.model_copy(update={"input_shape": (1, 16, 16), "labels": ("cyst", "solid")})
    one, again = load(phantom, cache, contract), load(phantom, cache, contract)
    other = cache.run(load_samples, datasets.resolve(phantom, None), contract, 1)
    assert one == again
    assert one.evaluation.sha256 != other.evaluation.sha256
    assert [visit.reused for visit in cache.visits] == [False, True, False]
    assert one.simulated


def test_empty_split_is_refused(data: ArrayData, cache: Cache) -> None:
    save(data.calibration, ALL_FRAMES[2][:0], np.zeros(0, np.int64))
    assert refusal(data, cache) == (
        "data.calibration: has no sample. Give some, or take them from another split."
    )


@pytest.mark.parametrize("frames", [ALL_FRAMES[3][:5], np.uint8(7)])
def test_frames_and_labels_of_different_number_are_refused(
    data: ArrayData, cache: Cache, frames: NDArray[np.uint8]
) -> None:
    save(data.evaluation, frames)
    assert refusal(data, cache) == (
        f"data.evaluation: frames have shape {frames.shape}, for 6 labels. "
        "Give one label for each frame."
    )


def test_frames_of_another_shape_are_refused(data: ArrayData, cache: Cache) -> None:
    save(data.calibration, ALL_FRAMES[2].transpose(0, 2, 1))
    assert refusal(data, cache) == (
        "data.calibration: sample 0: the frame is 5 by 4 pixels, the contract wants 4 by 5. "
        "Give frames of that size, or add [contract.resize]."
    )


def test_frames_of_another_type_than_the_source_are_refused(data: ArrayData, cache: Cache) -> None:
    save(data.evaluation, ALL_FRAMES[3].astype(np.float32))
    assert refusal(data, cache) == (
        "data.evaluation: sample 0: pixels have no unsigned whole numbers, "
        "the contract says 8 bits."
    )


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_broken_number_is_refused_with_its_place(
    data: ArrayData, cache: Cache, broken: float
) -> None:
    save_signals(data)
    signals = ALL_FRAMES[0].reshape(6, 20).astype(np.float32)
    signals[4, 17] = broken
    save(data.finetune, signals)
    assert refusal(data, cache, SIGNALS) == (
        "data.finetune: sample 4: sample 17 of lead 0 is NaN or infinite. Remove or repair it."
    )


def save_signals(data: ArrayData) -> None:
    for path, frames in zip(arrays.paths(data).values(), ALL_FRAMES, strict=True):
        save(path, frames.reshape(6, 20).astype(np.float32))


@pytest.mark.parametrize("label", [3, -1])
def test_label_that_the_contract_does_not_name_is_refused(
    data: ArrayData, cache: Cache, label: int
) -> None:
    save(data.validation, ALL_FRAMES[1], [0, 1, 2, label, 0, label])
    assert refusal(data, cache) == (
        f"data.validation: sample 3 has the label {label}; contract.labels names 3, 0 to 2. "
        "Correct it, or name the label."
    )


@pytest.mark.parametrize("split", ["finetune", "evaluation"])
def test_one_label_only_is_refused_where_it_would_teach_or_judge_nothing(
    data: ArrayData, cache: Cache, split: str
) -> None:
    path: Path = getattr(data, split)
    save(path, ALL_FRAMES[list(Split).index(Split(split))], [1] * 6)
    assert refusal(data, cache) == (
        f"data.{split}: all samples are 'solid'; there is no 'cyst' and no 'fat'. Add some."
    )


@pytest.mark.parametrize("split", ["finetune", "evaluation"])
def test_missing_label_is_refused_before_anything_is_trained(
    data: ArrayData, cache: Cache, split: str
) -> None:
    path: Path = getattr(data, split)
    save(path, ALL_FRAMES[list(Split).index(Split(split))], [0, 1] * 3)
    assert refusal(data, cache) == f"data.{split}: there is no 'fat'. Add some."


def test_one_label_only_may_stand_for_calibration(data: ArrayData, cache: Cache) -> None:
    save(data.calibration, ALL_FRAMES[2], [1] * 6)
    save(data.validation, ALL_FRAMES[1], [1] * 6)
    assert load(data, cache).calibration.path.is_file()


def test_sample_in_two_splits_is_refused_with_its_places(data: ArrayData, cache: Cache) -> None:
    leaked = ALL_FRAMES[0].copy()
    leaked[[2, 5]] = ALL_FRAMES[3][[4, 1]]
    save(data.finetune, leaked)
    assert refusal(data, cache) == (
        "data: samples in both finetune and evaluation: 2 (first: finetune[2] = evaluation[4]). "
        "Each sample has one use: remove it from all splits but one."
    )


def test_every_pair_of_splits_that_overlap_is_named(data: ArrayData, cache: Cache) -> None:
    for index, path in ((1, data.validation), (2, data.calibration)):
        frames = ALL_FRAMES[index].copy()
        frames[index] = ALL_FRAMES[0][3]
        save(path, frames)
    assert refusal(data, cache) == (
        "data: samples in both finetune and validation: 1 (first: finetune[3] = validation[1]); "
        "samples in both finetune and calibration: 1 (first: finetune[3] = calibration[2]); "
        "samples in both validation and calibration: 1 (first: validation[1] = calibration[2]). "
        "Each sample has one use: remove it from all splits but one."
    )


def test_same_frame_with_another_label_is_still_an_overlap(data: ArrayData, cache: Cache) -> None:
    leaked = ALL_FRAMES[0].copy()
    leaked[0] = ALL_FRAMES[3][1]
    save(data.finetune, leaked)
    assert "samples in both finetune and evaluation: 1 (" in refusal(data, cache)


def test_repeats_within_a_split_are_no_overlap(data: ArrayData, cache: Cache) -> None:
    repeated = ALL_FRAMES[3].copy()
    repeated[1] = repeated[0]
    save(data.evaluation, repeated)
    assert load(data, cache).evaluation.path.is_file()


def test_signals_are_taken_with_their_own_shape(data: ArrayData, cache: Cache) -> None:
    save_signals(data)
    read = arrays.read(load(data, cache, SIGNALS).finetune.path, ("frames",))["frames"]
    assert (read.dtype.name, read.shape) == ("float32", (6, 1, 20))


def test_frames_of_another_size_are_resized_and_golden_ones_stay_raw(
    data: ArrayData, cache: Cache
) -> None:
    small = CONTRACT.model_copy(
        update={"input_shape": (1, 2, 3), "resize": Resize(mode=ResizeMode.AREA)}
    )
    dataset = load(data, cache, small)
    fitted = arrays.read(dataset.evaluation.path, ("frames",))["frames"]
    expected = [fit_frame(Frame(pixels=frame), small) for frame in ALL_FRAMES[3]]
    np.testing.assert_array_equal(fitted, expected)
    with np.load(dataset.golden.path) as golden:
        assert golden["samples"].tolist() == [0, 1, 2, 3, 4, 5]
        assert golden["labels"].tolist() == [0, 1, 2, 0, 1, 2]
        assert golden["orientations"].tolist() == [1] * 6
        for place in range(6):
            np.testing.assert_array_equal(golden[f"frame_{place:03}"], ALL_FRAMES[3][place])


def test_images_of_any_size_and_turn_are_decoded_as_the_contract_says(
    tmp_path: Path, cache: Cache
) -> None:
    contract = CONTRACT.model_copy(update={"resize": Resize(mode=ResizeMode.ANTIALIAS)})
    exif = Image.Exif()
    exif[0x0112] = 6
    for index, split in enumerate(Split):
        for label, frame in zip(contract.labels, ALL_FRAMES[index], strict=False):
            path = tmp_path / "images" / split / label / "a.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.tile(frame, (3, 2))).save(path, exif=exif)
    images = ImageData(
        source="images", folder=tmp_path / "images", origin="drawn for a test", simulated=True
    )
    dataset = cache.run(load_samples, datasets.resolve(images, None), contract, 0)
    with np.load(dataset.golden.path) as golden:
        raw = golden_sample(golden, 1, contract)
    assert isinstance(raw, Frame)
    assert raw.orientation == 6
    np.testing.assert_array_equal(raw.pixels, np.tile(ALL_FRAMES[3][2], (3, 2)))
    fitted = arrays.read(dataset.evaluation.path, ("frames",))["frames"]
    np.testing.assert_array_equal(fitted[1], fit_frame(raw, contract))


def test_broken_image_is_named(tmp_path: Path, cache: Cache) -> None:
    for split in Split:
        for label in CONTRACT.labels:
            path = tmp_path / "images" / split / label / "a.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(ALL_FRAMES[0][0]).save(path)
    broken = tmp_path / "images" / "validation" / "fat" / "a.png"
    broken.write_bytes(broken.read_bytes()[:40])
    images = ImageData(
        source="images", folder=tmp_path / "images", origin="drawn for a test", simulated=True
    )
    with pytest.raises(DataError, match=f"^{broken}: is not a readable image: "):
        cache.run(load_samples, datasets.resolve(images, None), CONTRACT, 0)


@pytest.mark.parametrize(
    ("labels", "wanted", "samples"),
    [
        ((0, 0, 0, 1, 2), 3, [0, 3, 4]),
        ((0, 0, 0, 1, 2), 4, [0, 1, 3, 4]),
        ((1, 0), 5, [0, 1]),
        ((2, 1, 0, 2, 1, 0), 2, [1, 2]),
        ((3,), 1, [0]),
    ],
)
def test_golden_samples_take_turns_by_label(
    labels: tuple[int, ...], wanted: int, samples: list[int]
) -> None:
    assert golden_samples(np.array(labels, np.int64), wanted).tolist() == samples
