"""Write `.tflite` programs, for LiteRT and for TensorFlow Lite Micro."""

import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from packager import runtimes
from packager.artifacts import Converted, File, Layout, Precision
from packager.converters import Conversion
from packager.errors import ConversionError, MissingToolError, UnsupportedOperatorError
from packager.storage import write_whole

PROGRAM = "model.tflite"
PACKAGES = {"litert_torch": "litert-torch", "ai_edge_quantizer": "ai-edge-quantizer"}

# What the converters raise on networks that they cannot take; they have no class of their own.
_FAILURES = (RuntimeError, ValueError, TypeError, KeyError, AssertionError)
_NO_LOWERING = re.compile(r"Lowering not found: (\S+)")
_FAILED_OPERATOR = re.compile(r"target=torch\.ops\.([\w.]+)")


def convert(
    out: Path, network: nn.Module, calibration: NDArray[np.float32], settings: Conversion
) -> Converted:
    """Convert a network to a `.tflite` program in `out`, and check that its runtime takes it.

    The same network and samples give the same bytes.

    Args:
        out: A folder; receives `model.tflite`.
        network: In eval mode; takes float32 (1, channels, ...) and returns one tensor.
        calibration: Prepared samples, (n, channels, height, width) or (n, channels, length);
            an int8 program covers the values that its tensors take on them.
        settings: For LiteRT or TensorFlow Lite Micro.

    Raises:
        MissingToolError: A converter or the runtime is not installed.
        UnsupportedOperatorError: The converter or the runtime lacks an operator.
        ConversionError: The converter failed, or the runtime refuses its program.
    """
    _require_packages()
    samples = [_lay_out(calibration[i : i + 1], settings) for i in range(len(calibration))]
    program = _lower(network, samples[0], settings)
    if settings.precision is Precision.INT8:
        program = _quantise(program, samples, settings)
    converted = _ship(program, out / PROGRAM, settings)
    runtimes.open_session(converted)
    return converted


def _require_packages() -> None:
    for module, distribution in PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            install = "pip install 'packager[litert]'"
            raise MissingToolError(distribution, needed_by="Converting to LiteRT", install=install)


def _lay_out(sample: NDArray[np.float32], settings: Conversion) -> NDArray[np.float32]:
    if settings.io.layout is Layout.CHANNELS_FIRST:
        return sample
    return np.ascontiguousarray(np.moveaxis(sample, 1, -1))


def _lower(network: nn.Module, sample: NDArray[np.float32], settings: Conversion) -> bytes:
    """Return a float32 program, as litert-torch writes it."""
    import litert_torch

    if settings.io.layout is Layout.CHANNELS_LAST:
        network = litert_torch.to_channel_last_io(network, args=[0])
        network.training = False
    try:
        model = litert_torch.convert(network, (torch.from_numpy(sample),))
    except _FAILURES as error:
        _explain(error)
    return bytes(model.model_content())


def _explain(error: Exception) -> NoReturn:
    text = str(error)
    missing = _NO_LOWERING.search(text)
    if missing is not None:
        advice = "Replace it in the model by operators that LiteRT has."
        raise UnsupportedOperatorError(
            missing[1], runtime="LiteRT's converter", where="model", advice=advice
        ) from None
    failed = _FAILED_OPERATOR.search(text)
    at = f" at {failed[1]}" if failed else ""
    problem = text.partition("\n")[0] or type(error).__name__
    advice = "Replace that part of the model by simpler operators."
    raise ConversionError(f"LiteRT's converter failed{at}: {problem}. {advice}") from None


def _quantise(program: bytes, samples: list[NDArray[np.float32]], settings: Conversion) -> bytes:
    """Return an int8 program whose input and output are of `settings.io.dtype`."""
    from ai_edge_quantizer.qtyping import TFLOperationName
    from ai_edge_quantizer.quantizer import AlgorithmName, Quantizer
    from ai_edge_quantizer.recipe_manager import RecipeManager

    from packager.converters import calibration

    rules = RecipeManager()
    rules.add_static_config(
        ".*", TFLOperationName.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8
    )
    if settings.io.dtype is Precision.FLOAT32:
        for border in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
            rules.add_quantization_config(".*", border, algorithm_key=AlgorithmName.NO_QUANTIZE)
    try:
        ranges = calibration.observe_ranges(program, samples, rules)
        quantizer = Quantizer(bytearray(program), rules.get_quantization_recipe())
        result = quantizer.quantize(ranges, enable_progress_report=False)
    except _FAILURES as error:
        first = str(error).partition("\n")[0]
        advice = "Convert to a float32 target to see whether the model itself is the cause."
        raise ConversionError(f"ai-edge-quantizer failed: {first}. {advice}") from None
    return bytes(result.quantized_model)


def _ship(program: bytes, path: Path, settings: Conversion) -> Converted:
    """Write the program as it ships, and describe what was written."""
    from packager import tflite_file
    from packager.converters import flatbuffer

    write_whole(path, flatbuffer.make_shippable(tflite_file.parse(program, path.name)))
    model = tflite_file.read(path)
    converted = Converted(
        program=File.of(path),
        runtime=settings.runtime,
        precision=settings.precision,
        input=flatbuffer.input_of(model, settings.io.layout),
        output=flatbuffer.output_of(model),
        operators=flatbuffer.count_operators(model),
        fallbacks=(),
    )
    if settings.precision is Precision.FLOAT32:
        return converted
    _require_types(converted, settings)
    return replace(converted, fallbacks=flatbuffer.float_islands(model))


def _require_types(converted: Converted, settings: Conversion) -> None:
    for name, io in (("input", converted.input), ("output", converted.output)):
        if io.dtype is not settings.io.dtype:
            problem = f"the {name} is {io.dtype}, the target wants {settings.io.dtype}"
            raise ConversionError(f"{converted.program.path.name}: {problem}.")
