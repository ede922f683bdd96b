"""What the templates of all languages need of a contract, worked out once.

Whatever rests on a library's cosine or on more than one rounding is computed here and
written into the code as a number.
"""

import re
from dataclasses import dataclass

import numpy as np

from packager.artifacts import Layout, Precision, TensorIo
from packager.contract import IoContract, answers, document, frames, resampling, signals, words
from packager.contract.spec import (
    FORMAT_VERSION,
    MAX_SIDE_PX,
    CentreCrop,
    Colour,
    Contract,
    ImageSource,
    Orientation,
    ResizeMode,
    SignalSource,
)
from packager.contract.tensors import full_scale, normalise, quantisation, quantise
from packager.errors import Fault


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A contract, and the numbers that follow from it.

    Attributes:
        name: Lower case, words joined by underscores: it prefixes what is generated.
        contract_sha256: Of `contract.json` as a bundle has it.
        table: What each 8-bit pixel value becomes, for each channel: float32 or int8, as
            exact Python numbers; empty for sources of 16 bits and signals.
        keep_share: Of a centre crop, in 1 / 65536.
        sector_edges: x and y of the left, then of the right edge, in 1 / 16384.
        resampled_length: Samples a lead after resampling.
        first_sample: Where the part of a signal begins that is taken.
        overlap_limit: Of boxes, in 1 / 65536 of their union.
    """

    name: str
    io: IoContract
    contract_sha256: str
    table: tuple[tuple[float | int, ...], ...]
    keep_share: int
    sector_edges: tuple[int, int, int, int]
    fir: tuple[int, ...]
    taper: tuple[int, ...]
    resampled_length: int
    first_sample: int
    overlap_limit: int

    format_version = FORMAT_VERSION
    faults = tuple(Fault)
    max_side_px = MAX_SIDE_PX
    share_bits = resampling.SHARE_BITS
    luma = frames.LUMA
    ybr = (frames.RED_OF_CR, frames.GREEN_OF_CB, frames.GREEN_OF_CR, frames.BLUE_OF_CB)
    max_raw_steps = signals.MAX_RAW_STEPS
    max_filtered_steps = signals.MAX_FILTERED_STEPS
    exponential_tables = answers.exponential_tables()
    steps_per_nat = answers.STEPS_PER_NAT
    max_halvings = answers.MAX_HALVINGS

    @property
    def contract(self) -> Contract:
        """The contract itself."""
        return self.io.contract

    @property
    def source(self) -> ImageSource | SignalSource:
        """What comes in."""
        return self.contract.source

    @property
    def bits(self) -> int:
        """Of one raw value."""
        if isinstance(self.source, ImageSource):
            return self.source.bits
        return {"float32": 32, "int16": 16}[self.source.samples]

    @property
    def kept_bits(self) -> int:
        """What pixels keep beyond their own bits between the passes of a resize."""
        return frames.KEPT_BITS[self.bits]

    @property
    def turns(self) -> bool:
        """Whether the EXIF orientation counts."""
        return self.contract.is_image and self.contract.image.orientation is Orientation.EXIF

    @property
    def int8_input(self) -> bool:
        """Whether the program takes int8."""
        return self.io.input.dtype is Precision.INT8

    @property
    def int8_output(self) -> bool:
        """Whether the program gives int8."""
        return self.io.output.dtype is Precision.INT8

    @property
    def channels_last(self) -> bool:
        """Whether the program wants its channels last."""
        return self.io.input.layout is Layout.CHANNELS_LAST

    @property
    def channels_last_output(self) -> bool:
        """Whether the program gives its labels last."""
        return self.io.output.layout is Layout.CHANNELS_LAST

    @property
    def full_scale(self) -> float:
        """What stands for 1.0, as float32."""
        return float(full_scale(self.contract))

    @property
    def steps_in_words(self) -> tuple[str, ...]:
        """What is done to a frame or a signal, in order."""
        return words.steps(self.contract)

    @property
    def workspace_words(self) -> int:
        """Words of 32 bits for C's plans of how to blend, and for one row of blended pixels.

        0 where nothing is blended, or where frames may have any size.
        """
        contract = self.contract
        if not contract.is_image:
            length = contract.input_shape[1]
            assert isinstance(self.source, SignalSource), "what is no image is a signal"
            before = self.source.length or length
            return _axis_words(before, self.resampled_length, ResizeMode.ANTIALIAS)
        if contract.resize is None or contract.image.size_px is None:
            return 0
        height_px, width_px = contract.image.size_px
        upright = _part_words(contract, height_px, width_px)
        return max(upright, _part_words(contract, width_px, height_px)) if self.turns else upright


def facts_of(io: IoContract, name: str) -> Facts:
    """Work out what the templates need.

    Args:
        io: The contract, with the program's input and output.
        name: Of the model, as in a recipe.
    """
    contract = io.contract
    steps = contract.signal
    length = _resampled_length(contract)
    wanted = contract.input_shape[-1]
    limit = contract.boxes.max_overlap_ratio if contract.boxes else 0.0
    return Facts(
        name=identifier(name),
        io=io,
        contract_sha256=document.digest(io),
        table=_table(io),
        keep_share=(
            frames.keep_share(contract.crop) if isinstance(contract.crop, CentreCrop) else 0
        ),
        sector_edges=_sector_edges(contract),
        fir=signals.fir_steps(steps) if steps else (),
        taper=signals.taper_steps(steps.taper, wanted) if steps else (),
        resampled_length=length,
        first_sample=signals.first_sample(length, wanted, steps.position) if steps else 0,
        overlap_limit=int(limit * answers.OVERLAP_ONE),
    )


def identifier(name: str) -> str:
    """Return a name as code may use it: `Breast-net` as `breast_net`, `3d` as `model_3d`."""
    words = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return words if words[:1].isalpha() else f"model_{words}".rstrip("_")


def _table(io: IoContract) -> tuple[tuple[float | int, ...], ...]:
    contract = io.contract
    if not contract.is_image or contract.image.bits != 8:
        return ()
    channels = contract.input_shape[0]
    every = np.repeat(np.arange(256, dtype=np.uint8)[np.newaxis, :, np.newaxis], channels, axis=2)
    shaped = contract.model_copy(update={"input_shape": (channels, 1, 256), "crop": None})
    values = normalise(every[np.newaxis], shaped)[0, :, 0]
    return tuple(tuple(row.tolist()) for row in quantise(values, io.input))


def _sector_edges(contract: Contract) -> tuple[int, int, int, int]:
    if contract.sector is None:
        return (0, 0, 0, 0)
    return (*frames.edge(contract.sector.left_deg), *frames.edge(contract.sector.right_deg))


def _resampled_length(contract: Contract) -> int:
    source = contract.source
    if not isinstance(source, SignalSource):
        return 0
    length = source.length or contract.input_shape[1]
    rate = contract.signal.resample_hz if contract.signal else None
    return length * rate // source.rate_hz if rate and source.rate_hz else length


def _part_words(contract: Contract, height_px: int, width_px: int) -> int:
    """Return how many words C needs for an upright frame of this size."""
    assert contract.resize, "nothing is blended without a resize"
    cut = frames.region(contract, height_px, width_px)
    inner, mode = frames.content(contract, cut), contract.resize.mode
    gray = contract.input_shape[0] == 1 or contract.image.colour is Colour.GRAY
    rows = _axis_words(cut.height_px, inner.height_px, mode)
    columns = _axis_words(cut.width_px, inner.width_px, mode)
    return rows + columns + cut.width_px * (1 if gray else 3)


def _axis_words(old: int, new: int, mode: ResizeMode) -> int:
    """Return how many words C needs to plan an axis: for each new sample a start, a count, shares."""
    most = {
        ResizeMode.NEAREST: 1,
        ResizeMode.BILINEAR: 2,
        ResizeMode.ANTIALIAS: -(-2 * max(old, new) // new),
        ResizeMode.AREA: -(-old // new) + 1,
    }[mode]
    return new * (2 + most)


def scale_and_zero_point(io: TensorIo) -> tuple[float, int]:
    """Return both of an int8 tensor; the scale as float32."""
    scale, zero_point = quantisation(io)
    return float(np.float32(scale)), zero_point
