"""Simulate B-mode ultrasound frames of tissue that holds a cyst or a solid lesion.

The model is the linear one of speckle: scatterers with a complex Gaussian amplitude,
blurred by the pulse along the depth and by the beam across it, attenuated on the way,
amplified with depth, detected and compressed to 8 bits. It has no refraction, no
reverberation and no side lobes, and it was never compared with patients: it is there
to show and to test a tool chain, and says nothing about a diagnosis.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from packager.contract import Contract
from packager.datasets.splits import Labelled, Loaded, Split
from packager.errors import DataError
from packager.progress import track
from packager.recipe import PhantomData

ORIGIN = (
    "Simulated B-mode ultrasound of cysts and solid lesions, drawn from a seed. No patient "
    "and no device produced it: not for clinical use, and no evidence of accuracy on patients."
)

Floats = NDArray[np.float32]
Range = tuple[float, float]

# The probe: a small linear array, such as handhelds have for what lies near the skin.
DEPTH_MM = 19.2
SOUND_MM_PER_US = 1.54  # soft tissue; what scanners assume
FREQUENCY_MHZ = 5.0
PULSE_CYCLES = 2.5  # full width at half maximum
F_NUMBER = 3.0  # depth of the focus over the width of the aperture
FOCUS_MM = 10.0
FOCAL_DEPTH_MM = 9.7  # half of the usual 7 wavelengths * F_NUMBER ** 2
DYNAMIC_RANGE_DB = 50.0  # from black to white
WHITE_DB = 26.0  # above the mean echo of tissue

# What differs from one frame to the next.
TISSUE_DB_PER_CM_MHZ: Range = (0.60, 0.90)  # 0.73 +- 0.23 in breast fat, PMC4618705
ASSUMED_DB_PER_CM_MHZ = 0.75  # by the gain compensation; parenchyma in PMC5087608, table I
GAIN_DB: Range = (-7.0, 7.0)
NOISE_DB: Range = (-48.0, -34.0)  # of the receiver, against the mean echo at the skin
LOBULES_DB: Range = (1.0, 4.0)
STREAKS_DB: Range = (2.0, 9.0)
HALF_WIDTH_MM: Range = (2.2, 5.5)
FLATNESS: Range = (0.65, 1.0)  # height of a lesion over its width


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """The ranges that lesions of one kind are drawn from.

    Attributes:
        contrast_db: Mean echo inside against that of the tissue around it.
        texture_db: How much the echo inside varies from place to place.
        db_per_cm_mhz: Slope of the attenuation inside: fluid enhances what lies behind,
            a dense mass shades it.
        ripple: How far the outline leaves an ellipse, as a share of its radius.
        edge_mm: Width of the transition at the outline.
        wall_db: Extra echo of the outline where the beam meets it at a right angle.
    """

    contrast_db: Range
    texture_db: Range
    db_per_cm_mhz: Range
    ripple: Range
    edge_mm: Range
    wall_db: Range


# The ranges overlap as complicated cysts (with debris) and smooth solid masses do, so
# that some frames stay in doubt.
KINDS = {
    "cyst": Lesion(
        contrast_db=(-34.0, -11.0),
        texture_db=(0.0, 1.5),
        db_per_cm_mhz=(0.0, 0.4),  # fluid: 0.002 in PMC5087608, table I; more with debris
        ripple=(0.0, 0.05),
        edge_mm=(0.2, 0.7),
        wall_db=(0.0, 8.0),
    ),
    "solid": Lesion(
        contrast_db=(-15.0, -5.0),
        texture_db=(0.5, 4.0),
        db_per_cm_mhz=(0.7, 1.8),
        ripple=(0.04, 0.24),
        edge_mm=(0.4, 1.6),
        wall_db=(0.0, 4.0),
    ),
}

CELL_MM = 0.2  # at most: half the length of the pulse, so that speckle is sampled
MIN_SIDE_PX = 16
CHUNK = 32  # frames at a time: small enough for a processor's cache


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The cells that hold a scatterer each; a pixel is a square of them."""

    cells_per_px: int
    cell_mm: float
    rows: int
    columns: int

    @classmethod
    def of(cls, height_px: int, width_px: int) -> "Grid":
        """Return the coarsest grid that samples speckle; square pixels share the depth."""
        px_mm = DEPTH_MM / height_px
        cells_per_px = math.ceil(px_mm / CELL_MM - 1e-9)
        return cls(
            cells_per_px=cells_per_px,
            cell_mm=px_mm / cells_per_px,
            rows=height_px * cells_per_px,
            columns=width_px * cells_per_px,
        )

    @property
    def depth_mm(self) -> Floats:
        """The depth of each row, (rows, 1)."""
        return (np.arange(self.rows, dtype=np.float32)[:, np.newaxis] + 0.5) * self.cell_mm

    @property
    def place_mm(self) -> Floats:
        """The place of each column across the frame, (1, columns)."""
        return (np.arange(self.columns, dtype=np.float32)[np.newaxis] + 0.5) * self.cell_mm


def load(data: PhantomData, contract: Contract, seed: int) -> Loaded:
    """Simulate the four splits, each from a stream of random numbers of its own.

    Raises:
        DataError: The contract is not one of gray frames of a cyst or a solid lesion.
    """
    _require_fitting(contract)
    counts = {
        Split.FINETUNE: data.finetune_samples,
        Split.VALIDATION: data.validation_samples,
        Split.CALIBRATION: data.calibration_samples,
        Split.EVALUATION: data.evaluation_samples,
    }
    _, height_px, width_px = contract.input_shape
    # The user may list the labels in either order.
    index = np.array([contract.labels.index(kind) for kind in KINDS], np.int64)
    streams = np.random.SeedSequence(seed).spawn(len(counts))
    splits = {}
    with track("simulate", len(counts)) as advance:
        for (split, samples), stream in zip(counts.items(), streams, strict=True):
            rng = np.random.default_rng(stream)
            frames, kinds = simulate(samples, height_px=height_px, width_px=width_px, rng=rng)
            splits[split] = Labelled(frames=frames, labels=index[kinds])
            advance(split)
    return Loaded(splits=splits, origin=ORIGIN, simulated=True)


def _require_fitting(contract: Contract) -> None:
    shape = contract.input_shape
    if len(shape) != 3 or shape[0] != 1 or min(shape[1:]) < MIN_SIDE_PX:
        wanted = f"gray frames of {MIN_SIDE_PX} pixels or more a side, such as [1, 48, 48]"
        problem = f"the phantom gives {wanted}, not {list(shape)}."
        raise DataError("contract.input_shape", problem)
    if sorted(contract.labels) != sorted(KINDS):
        known = " and ".join(repr(kind) for kind in KINDS)
        problem = f"the phantom's labels are {known}, not {list(contract.labels)}."
        raise DataError("contract.labels", problem)


def simulate(
    samples: int, *, height_px: int, width_px: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return frames with one lesion each, and what it is.

    The same state of `rng` gives the same bytes. A frame shows `DEPTH_MM` of tissue,
    whatever its height; about 1 ms a frame of 48 x 48 pixels.

    Args:
        samples: How many; both kinds are equally frequent, to within one.
        height_px: 16 or more.
        width_px: 16 or more; pixels are square.
        rng: What everything is drawn from.

    Returns:
        frames: uint8 (samples, height_px, width_px), 0 black to 255 white.
        labels: int64 (samples,), the lesion's place in `KINDS`: 0 for a cyst.
    """
    grid = Grid.of(height_px, width_px)
    labels = rng.permutation(np.arange(samples, dtype=np.int64) % len(KINDS))
    starts = range(0, samples, CHUNK)
    frames = [_scan(labels[start : start + CHUNK], grid, rng) for start in starts]
    return np.concatenate(frames), labels


def _scan(labels: NDArray[np.int64], grid: Grid, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Image one tissue for each label: uint8 (n, height, width)."""
    echo_db, db_per_cm_mhz = _tissue(labels, grid, rng)
    # There and back again, hence twice.
    loss_db = np.cumsum(db_per_cm_mhz, axis=1) * (2 * FREQUENCY_MHZ * grid.cell_mm / 10)
    echoes = _speckle(echo_db.shape, rng) * _amplitude(echo_db - loss_db)
    received = _beam(_pulse(echoes, grid), grid)
    received += _speckle(echo_db.shape, rng) * _amplitude(_draw(NOISE_DB, len(labels), rng))
    gain_db = grid.depth_mm * (2 * FREQUENCY_MHZ * ASSUMED_DB_PER_CM_MHZ / 10)
    envelope = np.hypot(*received) * _amplitude(gain_db + _draw(GAIN_DB, len(labels), rng))
    return _compress(_per_pixel(envelope, grid))


def _tissue(
    labels: NDArray[np.int64], grid: Grid, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return the echo in dB and the slope of the attenuation, both (n, rows, columns)."""
    samples = len(labels)
    lobules = _smooth(samples, (6, 6), grid, rng) * _draw(LOBULES_DB, samples, rng)
    streaks = np.maximum(_smooth(samples, (20, 3), grid, rng), 0) * _draw(STREAKS_DB, samples, rng)
    texture = _smooth(samples, (13, 13), grid, rng) * _draw_by_kind("texture_db", labels, rng)
    inside, wall = _lesions(labels, grid, rng)
    around_db = lobules + streaks
    within_db = texture + _draw_by_kind("contrast_db", labels, rng)
    echo_db = around_db + inside * (within_db - around_db) + wall
    tissue = _draw(TISSUE_DB_PER_CM_MHZ, samples, rng)
    lesion = _draw_by_kind("db_per_cm_mhz", labels, rng)
    return echo_db, tissue + inside * (lesion - tissue)


def _lesions(
    labels: NDArray[np.int64], grid: Grid, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return how far each cell lies inside (0 to 1), and the echo of the outline in dB."""
    samples = len(labels)
    half_width = _draw(HALF_WIDTH_MM, samples, rng)
    half_height = half_width * _draw(FLATNESS, samples, rng)
    depth = _draw((0.25, 0.65), samples, rng) * np.float32(DEPTH_MM)
    place = _draw((0.25, 0.75), samples, rng) * np.float32(grid.columns * grid.cell_mm)
    across = (grid.place_mm - place) / half_width
    down = (grid.depth_mm - depth) / half_height
    radius = np.hypot(across, down) + np.float32(1e-6)
    outline = 1 + _ripple(across / radius, down / radius, labels, rng)
    edge = _draw_by_kind("edge_mm", labels, rng) / half_width
    inside = np.clip((outline - radius) / edge + np.float32(0.5), 0, 1)
    facing = np.square(down / radius)
    wall = np.clip(1 - np.abs(outline - radius) * half_width / np.float32(0.4), 0, 1) * facing
    return inside, wall * _draw_by_kind("wall_db", labels, rng)


def _ripple(
    cosine: Floats, sine: Floats, labels: NDArray[np.int64], rng: np.random.Generator
) -> Floats:
    """Return how far the outline leaves the ellipse in each direction from its centre."""
    turn = cosine + 1j * sine
    power, total = turn, np.zeros_like(cosine)
    for _ in range(4):
        power = power * turn  # two lobes or more: one would only move the lesion
        phase = np.exp(1j * _draw((0.0, 2 * math.pi), len(labels), rng))
        total += (power * phase).real * _draw((0.2, 0.8), len(labels), rng)
    return total * _draw_by_kind("ripple", labels, rng)


def _smooth(samples: int, knots: tuple[int, int], grid: Grid, rng: np.random.Generator) -> Floats:
    """Return random fields (n, rows, columns), linear between `knots` of unit variance."""
    field = rng.standard_normal((samples, *knots), np.float32)
    for axis, cells in ((1, grid.rows), (2, grid.columns)):
        position = np.linspace(0, knots[axis - 1] - 1, cells, dtype=np.float32)
        left = np.minimum(position.astype(np.intp), knots[axis - 1] - 2)
        share = (position - left).reshape((-1, 1) if axis == 1 else (1, -1))
        near, far = np.take(field, left, axis), np.take(field, left + 1, axis)
        field = near + share * (far - near)
    return field


def _speckle(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Return complex Gaussian numbers of unit power as (real and imaginary, n, ...)."""
    return rng.standard_normal((2, *shape), np.float32) * np.float32(math.sqrt(0.5))


def _pulse(echoes: Floats, grid: Grid) -> Floats:
    """Blur (2, n, rows, columns) along the depth by the pulse."""
    length_mm = PULSE_CYCLES * SOUND_MM_PER_US / FREQUENCY_MHZ / 2
    taps = _gaussian(np.array([[length_mm / grid.cell_mm]]))
    return _blur(echoes, taps, axis=2)


def _beam(echoes: Floats, grid: Grid) -> Floats:
    """Blur (2, n, rows, columns) across by the beam, which is narrowest at the focus."""
    focal_mm = F_NUMBER * SOUND_MM_PER_US / FREQUENCY_MHZ
    spread = np.hypot(1.0, (grid.depth_mm - FOCUS_MM) / FOCAL_DEPTH_MM)
    return _blur(echoes, _gaussian(focal_mm * spread / grid.cell_mm), axis=3)


def _gaussian(width: NDArray[np.floating]) -> Floats:
    """Return taps (2 * reach + 1, ...) for full widths at half maximum, in cells."""
    sigma = width / math.sqrt(8 * math.log(2))
    reach = math.ceil(2.5 * float(sigma.max()))
    offsets = np.arange(-reach, reach + 1).reshape(-1, *[1] * width.ndim)
    return np.asarray(np.exp(-0.5 * np.square(offsets / sigma)), np.float32)


def _blur(field: Floats, taps: Floats, *, axis: int) -> Floats:
    """Convolve along `axis` and keep the mean power of what is not correlated."""
    ones = np.ones((1, 1, *field.shape[2:]), np.float32)
    # Near the border fewer cells add up; without this the frame would get a dark edge.
    power = _convolve(ones, np.square(taps), axis=axis)
    return np.asarray(_convolve(field, taps, axis=axis) * (1 / np.sqrt(power)))


def _convolve(field: Floats, taps: Floats, *, axis: int) -> Floats:
    """Return the sum of the shifted fields, each times its tap; beyond the frame is nothing."""
    reach = len(taps) // 2
    edges = [(0, 0)] * field.ndim
    edges[axis] = (reach, reach)
    padded = np.moveaxis(np.pad(field, edges), axis, -1)
    cells = field.shape[axis]
    shifted = [np.moveaxis(padded[..., k : k + cells], -1, axis) for k in range(len(taps))]
    total: Floats = taps[reach] * shifted[reach]
    pair = np.empty_like(total)
    for offset in range(reach):  # the taps are symmetric
        np.add(shifted[offset], shifted[-1 - offset], out=pair)
        pair *= taps[offset]
        total += pair
    return total


def _per_pixel(envelope: Floats, grid: Grid) -> Floats:
    """Average the cells of each pixel: (n, rows, columns) to (n, height, width)."""
    side = grid.cells_per_px
    blocks = envelope.reshape(-1, grid.rows // side, side, grid.columns // side, side)
    return np.asarray(blocks.mean(axis=(2, 4)), np.float32)


def _compress(envelope: Floats) -> NDArray[np.uint8]:
    """Map the envelope to gray levels, in proportion to its logarithm."""
    level_db = 20 * np.log10(np.maximum(envelope, np.float32(1e-6)))
    share = np.clip(1 + (level_db - WHITE_DB) / DYNAMIC_RANGE_DB, 0, 1)
    return np.floor(255 * share + 0.5).astype(np.uint8)


def _amplitude(level_db: Floats) -> Floats:
    return np.asarray(np.exp(level_db * np.float32(math.log(10) / 20)))


def _draw(bounds: Range, samples: int, rng: np.random.Generator) -> Floats:
    """Return a number for each sample, shaped (samples, 1, 1) to go with its frame."""
    return rng.uniform(*bounds, (samples, 1, 1)).astype(np.float32)


def _draw_by_kind(name: str, labels: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Return a number for each sample, in the range that its kind has for `name`."""
    low, high = np.array([getattr(kind, name) for kind in KINDS.values()])[labels].T
    return np.asarray(rng.uniform(low, high), np.float32).reshape(-1, 1, 1)
