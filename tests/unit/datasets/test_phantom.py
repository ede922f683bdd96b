"""The phantom is what it says: seeded, balanced, and true to the physics that it states."""

import numpy as np
import pytest
from numpy.typing import NDArray

from packager.contract import Activation, Contract
from packager.datasets import phantom
from packager.datasets.phantom import KINDS, Grid, simulate
from packager.datasets.splits import Split, fingerprints
from packager.errors import DataError
from packager.recipe import PhantomData
from tests.contracts import GRAY
from tests.loaded import raw_frames

Frames = tuple[NDArray[np.uint8], NDArray[np.int64]]

DATA = PhantomData(
    source="phantom",
    finetune_samples=20,
    validation_samples=6,
    calibration_samples=5,
    evaluation_samples=8,
)


def contract(*shape: int, labels: tuple[str, ...] = ("cyst", "solid")) -> Contract:
    return Contract(
        input_shape=shape,
        source=GRAY,
        full_scale=255.0,
        mean=(0.5,) * shape[0],
        std=(0.25,) * shape[0],
        activation=Activation.SOFTMAX,
        labels=labels,
    )


def frames_of(samples: int, seed: int) -> Frames:
    return simulate(samples, height_px=48, width_px=48, rng=np.random.default_rng(seed))


@pytest.fixture(scope="module")
def many() -> Frames:
    return frames_of(400, 0)


def test_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    one, again, other = frames_of(40, 0), frames_of(40, 0), frames_of(40, 1)
    assert one[0].tobytes() == again[0].tobytes()
    assert one[1].tobytes() == again[1].tobytes()
    assert one[0].tobytes() != other[0].tobytes()


@pytest.mark.parametrize(("height_px", "width_px"), [(48, 48), (28, 28), (64, 40), (224, 16)])
def test_frames_have_the_size_that_is_asked_for(height_px: int, width_px: int) -> None:
    frames, labels = simulate(
        3, height_px=height_px, width_px=width_px, rng=np.random.default_rng(0)
    )
    assert (frames.dtype.name, frames.shape) == ("uint8", (3, height_px, width_px))
    assert (labels.dtype.name, labels.shape) == ("int64", (3,))


@pytest.mark.parametrize("samples", [1, 2, 33, 65])
def test_both_kinds_are_equally_frequent_and_in_no_order(samples: int) -> None:
    labels = frames_of(samples, 0)[1]
    counts = np.bincount(labels, minlength=2)
    assert abs(int(counts[0]) - int(counts[1])) == samples % 2
    if samples > 30:
        assert 5 < np.count_nonzero(np.diff(labels)) < samples - 5


def test_gray_levels_use_the_range_without_sticking_to_its_ends(many: Frames) -> None:
    frames = many[0]
    assert 80 < frames.mean() < 150
    assert np.mean(frames == 255) < 0.01
    # Fluid is black; it fills about a tenth of the half of the frames that have a cyst.
    assert np.mean(frames == 0) < 0.10


def test_splits_are_of_the_size_in_the_recipe_and_share_no_frame() -> None:
    loaded = phantom.load(DATA, contract(1, 32, 32), 0)
    assert {split: len(samples.labels) for split, samples in loaded.splits.items()} == {
        Split.FINETUNE: 20,
        Split.VALIDATION: 6,
        Split.CALIBRATION: 5,
        Split.EVALUATION: 8,
    }
    digests = [key for split in Split for key in fingerprints(raw_frames(loaded, split))]
    assert len(set(digests)) == 39


def test_splits_of_one_size_are_not_the_same_frames() -> None:
    five = {f"{split}_samples": 5 for split in Split}
    loaded = phantom.load(DATA.model_copy(update=five), contract(1, 32, 32), 0)
    digests = [key for split in Split for key in fingerprints(raw_frames(loaded, split))]
    assert len(set(digests)) == 20


def test_data_set_says_that_it_is_simulated() -> None:
    loaded = phantom.load(DATA, contract(1, 32, 32), 0)
    assert loaded.simulated
    assert loaded.origin == (
        "Simulated B-mode ultrasound of cysts and solid lesions, drawn from a seed. No patient "
        "and no device produced it: not for clinical use, and no evidence of accuracy on patients."
    )


def test_a_split_does_not_depend_on_the_size_of_another() -> None:
    more = DATA.model_copy(update={"finetune_samples": 21})
    one, other = (phantom.load(data, contract(1, 32, 32), 3) for data in (DATA, more))
    for split in (Split.VALIDATION, Split.CALIBRATION, Split.EVALUATION):
        np.testing.assert_array_equal(raw_frames(one, split), raw_frames(other, split))


def test_labels_follow_their_names_and_not_their_order() -> None:
    one = phantom.load(DATA, contract(1, 32, 32), 0)
    other = phantom.load(DATA, contract(1, 32, 32, labels=("solid", "cyst")), 0)
    for split in Split:
        np.testing.assert_array_equal(raw_frames(one, split), raw_frames(other, split))
        np.testing.assert_array_equal(one.splits[split].labels, 1 - other.splits[split].labels)


@pytest.mark.parametrize("shape", [(3, 48, 48), (1, 15, 48)])
def test_contract_of_other_frames_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError) as caught:
        phantom.load(DATA, contract(*shape), 0)
    assert str(caught.value) == (
        "contract.input_shape: the phantom gives gray frames of 16 pixels or more a side, "
        f"such as [1, 48, 48], not {list(shape)}."
    )


def test_contract_of_other_labels_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        phantom.load(DATA, contract(1, 48, 48, labels=("benign", "malignant")), 0)
    assert str(caught.value) == (
        "contract.labels: the phantom's labels are 'cyst' and 'solid', not ['benign', 'malignant']."
    )


# Physics


@pytest.mark.parametrize("height_px", [16, 28, 48, 96, 224])
def test_cells_are_fine_enough_and_fill_the_depth(height_px: int) -> None:
    grid = Grid.of(height_px, height_px)
    assert grid.cell_mm <= phantom.CELL_MM + 1e-9
    assert grid.rows == height_px * grid.cells_per_px
    assert grid.rows * grid.cell_mm == pytest.approx(phantom.DEPTH_MM)


def test_speckle_is_fully_developed() -> None:
    rng = np.random.default_rng(0)
    grid = Grid.of(48, 48)
    echoes = phantom._speckle((40, grid.rows, grid.columns), rng)
    envelope = np.hypot(*phantom._beam(phantom._pulse(echoes, grid), grid))
    # The amplitude of fully developed speckle is Rayleigh distributed: its mean is 1.91
    # times its deviation (Wagner et al. 1983). 2 % is what 5,000 speckles allow.
    assert envelope.mean() / envelope.std() == pytest.approx(1.913, rel=0.02)
    power = np.square(envelope)
    assert power.mean() == pytest.approx(1.0, rel=0.02)
    # The border is as bright as the middle: 900 speckles in its four columns.
    assert power[:, :, [0, 1, -2, -1]].mean() == pytest.approx(1.0, rel=0.05)


def test_speckle_is_as_long_as_the_pulse_and_as_wide_as_the_beam() -> None:
    grid = Grid.of(48, 48)
    point = np.zeros((2, 1, grid.rows, grid.columns), np.float32)
    row = round(phantom.FOCUS_MM / grid.cell_mm)
    point[0, 0, row, 48] = 1.0
    spot = phantom._beam(phantom._pulse(point, grid), grid)[0, 0]
    # 2.5 cycles at 5 MHz are 0.385 mm in tissue, there and back; the beam is 0.924 mm
    # wide at the focus. A cell is the precision of this count.
    assert width_mm(spot[:, 48], grid) == pytest.approx(0.385, abs=grid.cell_mm)
    assert width_mm(spot[row], grid) == pytest.approx(0.924, abs=grid.cell_mm)


def test_beam_is_wider_away_from_the_focus() -> None:
    grid = Grid.of(48, 48)
    points = np.zeros((2, 1, grid.rows, grid.columns), np.float32)
    points[0, 0, [0, 50], 48] = 1.0
    blurred = phantom._beam(points, grid)[0, 0]
    assert width_mm(blurred[0], grid) > 1.2 * width_mm(blurred[50], grid)


def width_mm(profile: NDArray[np.float32], grid: Grid) -> float:
    return int(np.count_nonzero(profile >= profile.max() / 2)) * grid.cell_mm


def test_tissue_behind_a_cyst_is_brighter_and_behind_a_solid_lesion_darker(many: Frames) -> None:
    frames, labels = many
    behind = [brightness_behind(frame.astype(np.float64)) for frame in frames]
    cysts = [level for level, label in zip(behind, labels, strict=True) if label == 0]
    solids = [level for level, label in zip(behind, labels, strict=True) if label == 1]
    # In gray levels, of which 5 are a decibel; the spread of a mean of 200 is below 1.
    assert np.mean(cysts) > 5
    assert np.mean(solids) < -5


def brightness_behind(frame: NDArray[np.float64]) -> float:
    """Return how much brighter the lowest rows are behind the darkest spot than elsewhere."""
    spots = np.lib.stride_tricks.sliding_window_view(frame, (9, 9)).mean(axis=(2, 3))
    column = int(spots[:27].min(axis=0).argmin()) + 4
    lowest = frame[-8:]
    return float(lowest[:, column - 3 : column + 4].mean() - lowest.mean())


def test_cyst_is_darker_than_a_solid_lesion_and_both_than_the_tissue(many: Frames) -> None:
    frames, labels = many
    darkest = np.sort(frames.reshape(400, -1).astype(np.float64), axis=1)[:, :60].mean(axis=1)
    typical = np.median(frames, axis=(1, 2))
    contrast = typical - darkest
    assert contrast[labels == 0].mean() > contrast[labels == 1].mean() + 10
    assert contrast[labels == 1].mean() > 10


def test_kinds_overlap_so_that_some_frames_stay_in_doubt() -> None:
    cyst, solid = KINDS["cyst"], KINDS["solid"]
    for name in ("contrast_db", "texture_db", "ripple", "edge_mm", "wall_db"):
        low, high = zip(getattr(cyst, name), getattr(solid, name), strict=True)
        assert max(low) < min(high), name


def test_brightness_alone_does_not_tell_the_kinds_apart(many: Frames) -> None:
    frames, labels = many
    mean = frames.mean(axis=(1, 2))
    best = max(np.mean((mean > cut) == labels) for cut in np.unique(mean))
    assert max(best, 1 - best) < 0.70
