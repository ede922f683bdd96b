"""What a contract says: the tables of a recipe, and of `contract.json` in every bundle.

The rules that these values stand for are in the other modules of this package, and in
`docs/contract.md` for people who write code in another language.
"""

import math
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from packager.strict_toml import Strict

FORMAT_VERSION = 2

MAX_SIDE_PX = 16_384
MAX_SIGNAL_LENGTH = 8_192
MAX_FILTER_GAIN = 16.0
MIN_SECTOR_DEG = 0.1
# A detector's tensor: corners in 1 / 16 pixel of any frame then fit into 32 bits.
MAX_BOXES_SIDE_PX = 4_096

Count = Annotated[int, Field(ge=1)]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE_PX)]
Offset = Annotated[int, Field(ge=0, le=MAX_SIDE_PX)]
# Bounds that keep every quotient of the arithmetic within float32.
Scale = Annotated[float, Field(ge=1e-6, le=1e9)]
Centre = Annotated[float, Field(ge=-1e6, le=1e6)]
Spread = Annotated[float, Field(ge=1e-6, le=1e6)]
Ratio = Annotated[float, Field(gt=0.0, le=1.0)]
Angle = Annotated[float, Field(ge=-90.0, le=90.0)]
AspectPart = Annotated[int, Field(ge=1, le=10_000)]


class Activation(StrEnum):
    """What turns the model's output into probabilities."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"


class Colour(StrEnum):
    """What the values of a frame's pixel are."""

    GRAY = "gray"
    RGB = "rgb"
    BGR = "bgr"
    YBR = "ybr"
    """Luma, blue and red difference in full range: DICOM's YBR_FULL, JPEG's YCbCr."""
    PALETTE = "palette"
    """One index into a palette of red, green and blue, which comes with the frame."""

    @property
    def channels(self) -> int:
        """The number of values a pixel."""
        return 1 if self in {Colour.GRAY, Colour.PALETTE} else 3


class ChannelOrder(StrEnum):
    """The order of the model's three channels."""

    RGB = "rgb"
    BGR = "bgr"


class Orientation(StrEnum):
    """What is done about a frame's EXIF orientation."""

    EXIF = "exif"
    IGNORE = "ignore"


class ResizeMode(StrEnum):
    """How pixels are blended into others; sample centres lie at half pixels in all modes."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    """Two neighbours along each axis, also where that skips pixels."""
    ANTIALIAS = "antialias"
    """A triangle as wide as the step: bilinear upwards, smooth downwards."""
    AREA = "area"
    """Each pixel by the share of it that the new one covers."""


class Fit(StrEnum):
    """What is done where frame and tensor differ in shape."""

    STRETCH = "stretch"
    PAD = "pad"
    """Keep the proportions, and put the fill value around."""


class ImageSource(Strict):
    """Frames as a camera, a scanner or a file gives them."""

    kind: Literal["image"]
    colour: Colour
    """What the values of a pixel are."""
    bits: Literal[8, 16]
    """Of one value; 10 or 12 bits come in 16, with `full_scale` saying how far they go."""
    size_px: tuple[Side, Side] | None = None
    """Height and width of every frame, as stored; without it, any size is taken."""
    pixel_aspect: tuple[AspectPart, AspectPart] = (1, 1)
    """Height and width of a pixel in a common unit, upright: DICOM's Pixel Aspect Ratio."""
    orientation: Orientation = Orientation.EXIF
    """Turn the frame as its EXIF orientation says, or leave it as it is stored."""


class SignalSource(Strict):
    """Signals of one or more leads, such as an ECG."""

    kind: Literal["signal"]
    samples: Literal["float32", "int16"]
    """The type of a sample."""
    length: Annotated[int, Field(ge=1, le=MAX_SIGNAL_LENGTH)] | None = None
    """Samples a lead; without it, as many as `input_shape` says."""
    rate_hz: Count | None = None
    """Samples a second, where they are resampled."""


class CentreCrop(Strict):
    """Cut the largest centred part that has the proportions of the tensor."""

    kind: Literal["centre"]
    keep_ratio: Ratio = 1.0
    """Share of that part's sides to keep: 0.875 for a resize to 256 and a crop to 224."""


class BoxCrop(Strict):
    """Cut a fixed part of the upright frame."""

    kind: Literal["box"]
    left_px: Offset
    top_px: Offset
    width_px: Side
    height_px: Side


class Sector(Strict):
    """Blacken all of the upright frame but the fan of a curved or phased probe."""

    apex_px: tuple[int, int]
    """Where the edges would meet: x to the right, y down; may lie outside the frame."""
    left_deg: Angle
    """Of the left edge, from straight down; negative to the left."""
    right_deg: Angle
    """Of the right edge, from straight down; above that of the left."""
    inner_px: Offset
    """From the apex to the nearest echo."""
    outer_px: Side
    """From the apex to the farthest echo."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        # Closer edges would become one line, which has no inside.
        if self.right_deg - self.left_deg < MIN_SECTOR_DEG or self.inner_px >= self.outer_px:
            message = (
                f"'left_deg' must be {MIN_SECTOR_DEG:g} degrees or more below 'right_deg', and "
                "'inner_px' below 'outer_px'"
            )
            raise ValueError(message)
        if max(abs(self.apex_px[0]), abs(self.apex_px[1])) > MAX_SIDE_PX:
            message = f"'apex_px' must be within {MAX_SIDE_PX} pixels of the frame's corner"
            raise ValueError(message)
        return self


class Resize(Strict):
    """Bring what was cut to the size of the tensor."""

    mode: ResizeMode
    fit: Fit = Fit.STRETCH
    """What is done where frame and tensor differ in shape."""
    fill: Annotated[int, Field(ge=0, le=65_535)] = 0
    """The pixel value around a padded frame, in every channel."""


class Taper(StrEnum):
    """What the ends of a signal's window are faded by."""

    NONE = "none"
    HANN = "hann"
    HAMMING = "hamming"


class Position(StrEnum):
    """Which part of a longer signal is taken."""

    START = "start"
    CENTRE = "centre"
    END = "end"


class Standardise(StrEnum):
    """What the mean and the deviation of a signal are taken from."""

    CONTRACT = "contract"
    """The contract's `mean` and `std`."""
    WINDOW = "window"
    """Each lead of each window by itself."""


class SignalSteps(Strict):
    """What is done to a signal, in this order: resample, filter, cut, taper, standardise."""

    resolution: Scale
    """In raw units: samples become whole multiples of it, and all further steps are exact."""
    resample_hz: Count | None = None
    """The rate that the model wants; the source's own where it is left out."""
    fir: tuple[float, ...] = ()
    """Coefficients of a symmetric filter, an odd number, as `scipy.signal.firwin` gives."""
    position: Position = Position.CENTRE
    """Which part is taken where more samples are left than the tensor has."""
    taper: Taper = Taper.NONE
    """What the ends are faded by."""
    standardise: Standardise = Standardise.CONTRACT
    """By the contract's `mean` and `std`, or by those of each window."""

    @model_validator(mode="after")
    def _filter(self) -> Self:
        if self.fir and (len(self.fir) % 2 == 0 or self.fir != self.fir[::-1]):
            message = "'fir' must be symmetric, with an odd number of coefficients"
            raise ValueError(message)
        if math.fsum(abs(c) for c in self.fir) > MAX_FILTER_GAIN:
            message = f"the absolute coefficients of 'fir' must sum to {MAX_FILTER_GAIN:g} or less"
            raise ValueError(message)
        return self


class BoxForm(StrEnum):
    """What the first four outputs of a candidate are, as shares of the tensor's sides."""

    CORNERS = "corners"
    """Left, top, right, bottom."""
    CENTRE = "centre"
    """Centre across, centre down, width, height."""


class Boxes(Strict):
    """The model is a detector: (candidates, 4 + labels), the box first, then a logit a label."""

    candidates: Annotated[int, Field(ge=1, le=65_536)]
    """Boxes that the model proposes."""
    form: BoxForm
    """What the four numbers of a box are."""
    min_score: Ratio
    """Less probable boxes are left out."""
    max_overlap_ratio: Ratio
    """Of two boxes of one label that overlap by more of their union, the better one stays."""
    max_boxes: Annotated[int, Field(ge=1, le=1_024)]
    """At most so many, the most probable ones."""


class Segments(Strict):
    """The model is a segmenter: (labels, height, width) of logits; with sigmoid, one plane."""

    size_px: tuple[Side, Side]
    """Height and width of the planes."""


class Contract(Strict):
    """What the model expects of a frame, and what its output means."""

    input_shape: Annotated[tuple[Count, ...], Field(min_length=2, max_length=3)]
    """Of one sample: [channels, height, width], or [channels, length] for a signal."""
    source: Annotated[ImageSource | SignalSource, Field(discriminator="kind")]
    """What comes in."""
    sector: Sector | None = None
    """Blacken what lies outside the probe's fan."""
    crop: Annotated[CentreCrop | BoxCrop, Field(discriminator="kind")] | None = None
    """Cut a part; without it, the whole frame is used."""
    resize: Resize | None = None
    """Change the size; without it, a frame of another size is refused."""
    signal: SignalSteps | None = None
    """What is done to a signal; without it, samples are normalised only."""
    channel_order: ChannelOrder = ChannelOrder.RGB
    """Of a model with three channels."""
    full_scale: Scale
    """The raw value that stands for 1.0: 255 for 8-bit frames."""
    mean: tuple[Centre, ...]
    """One for each channel, in units of full scale."""
    std: tuple[Spread, ...]
    """One for each channel, in units of full scale."""
    activation: Activation
    """What turns the model's output into probabilities."""
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    """In the order of the model's outputs; with 'sigmoid', the negative one first."""
    threshold: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Probability from which the second of two labels is decided; without it, the more
    probable one is."""
    top_k: Count = 1
    """How many labels an answer lists, the most probable first."""
    boxes: Boxes | None = None
    """The model finds objects."""
    segments: Segments | None = None
    """The model labels pixels."""

    @property
    def outputs(self) -> int:
        """The number of values that the model returns for one sample."""
        labels = 1 if self.activation is Activation.SIGMOID else len(self.labels)
        if self.boxes:
            return self.boxes.candidates * (4 + len(self.labels))
        return labels * math.prod(self.segments.size_px) if self.segments else labels

    @property
    def image(self) -> ImageSource:
        """The source of a contract that is one of images."""
        assert isinstance(self.source, ImageSource), "the contract is one of images"
        return self.source

    @property
    def is_image(self) -> bool:
        """Whether frames come in, and not signals."""
        return isinstance(self.source, ImageSource)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for problem in (
            _shape_problem(self),
            _source_problem(self),
            _answer_problem(self),
        ):
            if problem:
                raise ValueError(problem)
        return self


def _shape_problem(contract: Contract) -> str:
    channels, image = contract.input_shape[0], contract.is_image
    if image and (len(contract.input_shape) != 3 or channels not in (1, 3)):
        return "'input_shape' of images must be [1 or 3, height, width]"
    if not image and len(contract.input_shape) != 2:
        return "'input_shape' of signals must be [channels, length]"
    if max(contract.input_shape[1:]) > (MAX_SIDE_PX if image else MAX_SIGNAL_LENGTH):
        most = f"{MAX_SIDE_PX} pixels, a signal {MAX_SIGNAL_LENGTH} samples"
        return f"'input_shape' is too large: an image has at most {most}"
    if len(contract.mean) != channels or len(contract.std) != channels:
        return f"'mean' and 'std' need {channels} values, one for each channel"
    return ""


def _source_problem(contract: Contract) -> str:
    source = contract.source
    if isinstance(source, ImageSource):
        if contract.signal:
            return "'signal' goes with a source of kind 'signal'"
        if contract.resize and contract.resize.fill >= 2**source.bits:
            return f"'resize.fill' must fit into {source.bits} bits"
        box, wanted = contract.crop, contract.input_shape[1:]
        if isinstance(box, BoxCrop) and not contract.resize:
            return "'crop' has not the size of 'input_shape': add [contract.resize]" * (
                (box.height_px, box.width_px) != wanted
            )
        return ""
    if contract.sector or contract.crop or contract.resize:
        return "'sector', 'crop' and 'resize' go with a source of kind 'image'"
    return _signal_problem(source, contract.signal, contract.input_shape[1])


def _signal_problem(source: SignalSource, steps: SignalSteps | None, wanted: int) -> str:
    length = source.length or wanted
    if steps and source.samples == "int16" and steps.resolution != 1.0:
        return "'signal.resolution' of int16 samples must be 1.0: they are whole numbers already"
    if steps is None:
        return "'source.length' differs from 'input_shape': add [contract.signal]" * (
            length != wanted
        )
    if steps.resample_hz is not None:
        if source.rate_hz is None:
            return "'signal.resample_hz' needs 'source.rate_hz'"
        if length * steps.resample_hz % source.rate_hz:
            return "'source.length' is no whole number of samples at 'signal.resample_hz'"
        length = length * steps.resample_hz // source.rate_hz
    if not wanted <= length <= MAX_SIGNAL_LENGTH:
        return f"{length} samples are left, and 'input_shape' wants {wanted}"
    return ""


def _answer_problem(contract: Contract) -> str:
    labels, finds = contract.labels, contract.boxes or contract.segments
    sigmoid = contract.activation is Activation.SIGMOID
    problems = {
        "'labels' names one of them twice": len(set(labels)) < len(labels),
        "'sigmoid' needs exactly two labels": sigmoid and len(labels) != 2 and not contract.boxes,
        "'threshold' needs exactly two labels": contract.threshold and len(labels) != 2,
        f"'top_k' must be at most {len(labels)}, the number of labels": (
            contract.top_k > len(labels)
        ),
        "give either 'boxes' or 'segments'": contract.boxes and contract.segments,
        "'boxes' and 'segments' go with a source of kind 'image'": finds and not contract.is_image,
        "'threshold' and 'top_k' go with a model that classifies": (
            finds and (contract.threshold or contract.top_k > 1)
        ),
        "'segments' takes at most 256 labels": contract.segments and len(labels) > 256,
        f"'boxes' takes an 'input_shape' of at most {MAX_BOXES_SIDE_PX} pixels a side": (
            contract.boxes and max(contract.input_shape[1:]) > MAX_BOXES_SIDE_PX
        ),
        "'labels' holds a NUL character, which ends a text in C": any("\0" in x for x in labels),
    }
    return next((problem for problem, found in problems.items() if found), "")
