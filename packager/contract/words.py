"""Say in words what a contract does, step by step, for reports and for generated code."""

from collections.abc import Iterator

from packager.contract.spec import (
    BoxCrop,
    CentreCrop,
    ChannelOrder,
    Colour,
    Contract,
    Fit,
    ImageSource,
    Orientation,
    ResizeMode,
    SignalSource,
    Standardise,
    Taper,
)

COLOURS = {
    Colour.GRAY: "gray",
    Colour.RGB: "red, green, blue",
    Colour.BGR: "blue, green, red",
    Colour.YBR: "luma, blue and red difference",
    Colour.PALETTE: "indices into a palette",
}
MODES = {
    ResizeMode.NEAREST: "the nearest pixel",
    ResizeMode.BILINEAR: "two neighbours along each axis",
    ResizeMode.ANTIALIAS: "a triangle as wide as the step",
    ResizeMode.AREA: "the share of each pixel that is covered",
}


def steps(contract: Contract) -> tuple[str, ...]:
    """Return one phrase for each step from the raw frame to the model's input, in order."""
    source = contract.source
    if isinstance(source, ImageSource):
        return tuple(_image_steps(contract, source))
    return tuple(_signal_steps(contract, source))


def _image_steps(contract: Contract, source: ImageSource) -> Iterator[str]:
    size = f"{source.size_px[0]} x {source.size_px[1]} pixels" if source.size_px else "any size"
    if contract.resize is None and contract.crop is None:
        size = f"{contract.input_shape[1]} x {contract.input_shape[2]} pixels"
    yield f"frames of {source.bits}-bit {COLOURS[source.colour]}, {size} (height x width)"
    if contract.input_shape[0] == 1:
        yield from () if source.colour is Colour.GRAY else ("reduced to gray (luma of BT.601)",)
    else:
        bgr = contract.channel_order is ChannelOrder.BGR
        yield f"as {'blue, green, red' if bgr else 'red, green, blue'}"
    if source.orientation is Orientation.EXIF:
        yield "turned upright as their EXIF orientation says"
    if contract.sector:
        yield "blackened outside the fan of the probe"
    match contract.crop:
        case CentreCrop() as crop:
            yield f"cut to the centre in the tensor's proportions, {crop.keep_ratio:.1%} of its sides"
        case BoxCrop() as box:
            yield (
                f"cut to {box.height_px} x {box.width_px} pixels, "
                f"{box.top_px} from the top and {box.left_px} from the left"
            )
        case None:
            pass
    yield from _resize_steps(contract)
    yield _normalised(contract)


def _resize_steps(contract: Contract) -> Iterator[str]:
    if contract.resize is None:
        return
    _, rows, columns = contract.input_shape
    padded = contract.resize.fit is Fit.PAD
    around = f", with {contract.resize.fill} around to keep the proportions" if padded else ""
    how = f"{contract.resize.mode}: {MODES[contract.resize.mode]}"
    yield f"resized to {rows} x {columns} pixels by {how}{around}"


def _signal_steps(contract: Contract, source: SignalSource) -> Iterator[str]:
    leads, wanted = contract.input_shape
    length = source.length or wanted
    rate = f" at {source.rate_hz} Hz" if source.rate_hz else ""
    yield f"signals of {leads} x {length} {source.samples} samples{rate} (leads x length)"
    signal = contract.signal
    if signal is None:
        yield _normalised(contract)
        return
    yield f"in whole steps of {signal.resolution:g}"
    if signal.resample_hz:
        yield f"resampled to {signal.resample_hz} Hz"
    if signal.fir:
        yield f"filtered by {len(signal.fir)} coefficients"
    yield f"cut to {wanted} samples from the {signal.position}"
    if signal.taper is not Taper.NONE:
        yield f"faded at the ends by a {signal.taper.capitalize()} window"
    if signal.standardise is Standardise.WINDOW:
        yield "less the mean of each lead, over its deviation"
    else:
        yield _normalised(contract)


def _normalised(contract: Contract) -> str:
    mean = ", ".join(f"{value:g}" for value in contract.mean)
    std = ", ".join(f"{value:g}" for value in contract.std)
    return f"normalised: (value / {contract.full_scale:g} - {mean}) / {std}"
