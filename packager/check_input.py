"""Show what a bundle's program sees of an image, and what other resizers would have shown it.

Each stock resizer has a formula of its own. This is where a user learns what that would
have cost: the same frame, the same program, and the answers side by side.
"""

import tempfile
from pathlib import Path
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from packager import bundles
from packager.artifacts import Converted, File, Layout
from packager.bundles import OpenedBundle
from packager.contract import Contract, IoContract
from packager.contract.answers import decisions, probabilities, require_finite_output
from packager.contract.frames import Frame, Pixels, Resampler, fit_frame
from packager.contract.golden import prepare, self_test
from packager.contract.images import read_frame
from packager.contract.spec import ResizeMode
from packager.contract.tensors import dequantise, normalise, to_device
from packager.errors import BundleError, ConfigError
from packager.runtimes import open_session
from packager.seen import InputCheck, Seen, Stock


def check_input(image: Path, bundle: Path) -> InputCheck:
    """Take an image through a bundle's program, with the contract's resizer and with others.

    Raises:
        BundleError: The bundle is damaged, or this program prepares its golden samples
            otherwise.
        ConfigError: The bundle takes signals, or does not classify.
        DataError: The image cannot be read, or is not what the contract takes.
        FrameError: The frame does not fit the contract.
        MissingToolError: The target's runtime is not installed.
    """
    opened = bundles.open_bundle(bundle)
    io = opened.contract
    if not io.contract.is_image:
        raise ConfigError(str(bundle), "takes signals, and this command shows images.")
    if io.contract.boxes or io.contract.segments:
        raise ConfigError(str(bundle), "finds objects or labels pixels; this command shows labels.")
    golden = require_golden(opened)
    frame = read_frame(image, io.contract)
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(_program(opened, Path(folder)))
        fitted = {stock: fit(frame, io.contract, stock) for stock in Stock}
        inputs = {
            stock: to_device(normalise(pixels[np.newaxis], io.contract), io.input)
            for stock, pixels in fitted.items()
        }
        answers = {stock: session.run(tensor) for stock, tensor in inputs.items()}
    return InputCheck(
        image=image,
        target=opened.manifest.target,
        runtime=session.name,
        resizes=io.contract.resize is not None,
        golden=golden,
        seen=_seen(fitted, inputs, answers, io),
    )


def require_golden(opened: OpenedBundle) -> int:
    """Prepare a bundle's golden samples; return how many there are.

    Raises:
        BundleError: There is none, or one comes out otherwise than when it was built.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    where = str(opened.archive.path)
    try:
        arrays = load(bundles.read_file(opened, bundles.GOLDEN))
        samples = len(arrays["samples"])
        wrong = self_test(arrays, opened.contract, prepare)
    except (SafetensorError, KeyError, IndexError, TypeError, ValueError) as error:
        problem = f"{bundles.GOLDEN} cannot be read ({error})."
        raise BundleError(where, f"{problem} {bundles.REMEDY}") from None
    if not samples:
        raise BundleError(where, f"{bundles.GOLDEN} holds no sample. {bundles.REMEDY}")
    if wrong:
        problem = f"golden sample {wrong[0]} is prepared otherwise than when it was built."
        raise BundleError(where, f"{problem} Use the version of packager that built it.")
    return samples


def _program(opened: OpenedBundle, folder: Path) -> Converted:
    """Write the program to a folder, and return it as its runtime's module takes it."""
    path = folder / opened.manifest.model
    path.write_bytes(bundles.read_file(opened, opened.manifest.model))
    return Converted(
        program=File.of(path),
        runtime=opened.manifest.runtime,
        precision=opened.manifest.precision,
        input=opened.contract.input,
        output=opened.contract.output,
        operators=opened.operators.operators,
        fallbacks=opened.operators.fallbacks,
    )


def fit(frame: Frame, contract: Contract, stock: Stock) -> Pixels:
    """Return a frame's pixels in the tensor's size, by the contract or by a stock resizer.

    Raises:
        FrameError: The frame does not fit the contract.
    """
    match stock:
        case Stock.CONTRACT:
            return fit_frame(frame, contract)
        case Stock.PILLOW_BILINEAR | Stock.PILLOW_BICUBIC:
            return fit_frame(frame, contract, _pillow(bicubic=stock is Stock.PILLOW_BICUBIC))
        case Stock.TORCH_BILINEAR | Stock.TORCH_ANTIALIAS:
            return fit_frame(frame, contract, _torch(antialias=stock is Stock.TORCH_ANTIALIAS))
        case _:
            assert_never(stock)


def _pillow(*, bicubic: bool) -> Resampler:
    from PIL import Image

    method = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR

    def resampler(pixels: Pixels, *, height_px: int, width_px: int, mode: ResizeMode) -> Pixels:
        del mode  # a stock resizer has its own
        if pixels.dtype == np.uint8:
            image = Image.fromarray(np.ascontiguousarray(pixels))
            return np.asarray(image.resize((width_px, height_px), method))
        # Pillow resizes 16 bits as floating point only, one channel at a time.
        planes = np.atleast_3d(pixels).astype(np.float32)
        resized = [
            np.asarray(Image.fromarray(planes[..., c]).resize((width_px, height_px), method))
            for c in range(planes.shape[2])
        ]
        return _levels(np.stack(resized, axis=-1).reshape(height_px, width_px, -1), pixels)

    return resampler


def _torch(*, antialias: bool) -> Resampler:
    import torch
    from torch.nn import functional

    def resampler(pixels: Pixels, *, height_px: int, width_px: int, mode: ResizeMode) -> Pixels:
        del mode
        planes = np.moveaxis(np.atleast_3d(pixels).astype(np.float32), -1, 0)
        resized = functional.interpolate(
            torch.from_numpy(np.ascontiguousarray(planes))[None],
            size=(height_px, width_px),
            mode="bilinear",
            antialias=antialias,
            align_corners=False,
        )
        return _levels(np.moveaxis(resized[0].numpy(), 0, -1), pixels)

    return resampler


def _levels(values: NDArray[np.float32], like: Pixels) -> Pixels:
    """Round (height, width, channels) to the type of other pixels, and to their axes."""
    most = 2 ** (8 * like.dtype.itemsize) - 1
    levels: Pixels = np.clip(np.rint(values), 0, most).astype(like.dtype)
    return levels[..., 0] if like.ndim == 2 else levels


def _seen(
    fitted: dict[Stock, Pixels],
    inputs: dict[Stock, NDArray[np.generic]],
    answers: dict[Stock, NDArray[np.generic]],
    io: IoContract,
) -> tuple[Seen, ...]:
    ours = fitted[Stock.CONTRACT].astype(np.int64)
    logits = {stock: dequantise(raw, io.output).reshape(1, -1) for stock, raw in answers.items()}
    for values in logits.values():
        require_finite_output(values)
    decided = int(decisions(logits[Stock.CONTRACT], io.contract)[0])
    seen = []
    for stock in Stock:
        difference = np.abs(fitted[stock].astype(np.int64) - ours)
        label = int(decisions(logits[stock], io.contract)[0])
        chances = probabilities(logits[stock], io.contract.activation)[0]
        seen.append(
            Seen(
                resizer=stock,
                picture=picture(inputs[stock], io),
                pixels_changed_ratio=float((difference > 0).mean()),
                max_difference=int(difference.max()),
                label=io.contract.labels[label],
                probability=float(chances[decided]),
            )
        )
    return tuple(seen)


def picture(tensor: NDArray[np.generic], io: IoContract) -> NDArray[np.uint8]:
    """Return what a program's input (1, ...) holds, as levels of 8 bits.

    The way back: dequantise, undo mean and deviation, and scale to 255.

    Returns:
        (height, width), or (height, width, 3) in the model's order of channels.
    """
    contract, channels = io.contract, io.contract.input_shape[0]
    values = dequantise(tensor, io.input).reshape(io.input.shape[1:])
    planes = np.moveaxis(values, -1, 0) if io.input.layout is Layout.CHANNELS_LAST else values
    mean = np.array(contract.mean).reshape(-1, 1, 1)
    std = np.array(contract.std).reshape(-1, 1, 1)
    scale = contract.full_scale / (2**contract.image.bits - 1) * 255
    levels = np.clip(np.rint((planes * std + mean) * scale), 0, 255).astype(np.uint8)
    return levels[0] if channels == 1 else np.moveaxis(levels, 0, -1)
