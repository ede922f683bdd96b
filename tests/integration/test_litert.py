import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.conftest import REPOSITORY, require_package

for module in ("litert_torch", "ai_edge_quantizer", "ai_edge_litert"):
    require_package(module, "litert")

import litert_torch
from ai_edge_quantizer import quantizer, recipe

from packager import runtimes, tflite_file
from packager.artifacts import Converted, Fallback, File, Layout, OperatorCount, Precision, Runtime
from packager.converters import Conversion, flatbuffer, litert
from packager.errors import ConversionError, MissingToolError, UnsupportedOperatorError
from tests.integration.litert_programs import (
    FLOAT,
    FLOAT_FIRST,
    HANDHELD,
    HANDHELD_FIRST,
    MICRO,
    MICRO_FIRST,
    convert,
    float_answers,
    max_abs_error,
    samples,
    sqnr_db,
)
from tests.networks import Attention, Depthwise, Residual, Signal, Wide, seeded

# litert-torch, PyTorch and ai-edge-quantizer warn of their own code.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


class SharedInput(nn.Module):
    """Two branches that read the same input; input (n, 3, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.left(x)) + functional.relu(self.right(x))
        logits: Tensor = self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


class Leaky(nn.Module):
    """An activation that ai-edge-quantizer leaves in float32; input (n, 3, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.leaky_relu(self.conv(x))
        logits: Tensor = self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


class Applied(nn.Module):
    """A convolution and then any function; input (n, 1, 8, 8)."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(1, 1, 1), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))


def convert_here(
    out: Path, network: nn.Module, shape: tuple[int, ...], settings: Conversion
) -> Converted:
    torch.manual_seed(0)
    batch = np.random.default_rng(3).standard_normal((4, *shape)).astype(np.float32)
    return litert.convert(out, network.eval(), batch, settings)


def float_program(kind: type[nn.Module], batch: np.ndarray[tuple[int, ...]]) -> bytes:
    """Return what litert-torch itself writes, with its names."""
    wrapped = litert_torch.to_channel_last_io(seeded(kind), args=[0]).eval()
    example = torch.from_numpy(batch[:1]).movedim(1, -1).contiguous()
    return bytes(litert_torch.convert(wrapped, (example,)).model_content())


def border(converted: Converted) -> dict[str, int]:
    return {
        o.operator: o.count for o in converted.operators if o.operator in {"QUANTIZE", "DEQUANTIZE"}
    }


@pytest.mark.parametrize("settings", [FLOAT, FLOAT_FIRST], ids=["last", "first"])
@pytest.mark.parametrize("kind", [Residual, Signal, Attention], ids=lambda kind: kind.__name__)
def test_float_program_answers_as_pytorch(kind: type[nn.Module], settings: Conversion) -> None:
    converted = convert(kind, settings)
    # Sums in another order: 1e-6 was measured for logits of about 1.
    assert max_abs_error(kind, converted) < 1e-4
    assert converted.fallbacks == ()
    assert {o.dtype for o in converted.operators} == {"float32"}


def test_layout_of_the_input_is_the_targets() -> None:
    shapes = {
        (kind, settings.io.layout): convert(kind, settings).input.shape
        for kind in (Residual, Signal)
        for settings in (FLOAT, FLOAT_FIRST)
    }
    assert shapes == {
        (Residual, Layout.CHANNELS_LAST): (1, 28, 28, 1),
        (Residual, Layout.CHANNELS_FIRST): (1, 1, 28, 28),
        (Signal, Layout.CHANNELS_LAST): (1, 140, 1),
        (Signal, Layout.CHANNELS_FIRST): (1, 1, 140),
    }


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(Residual, HANDHELD), (Depthwise, HANDHELD), (Signal, HANDHELD), (Signal, HANDHELD_FIRST)],
    ids=["residual", "depthwise", "signal-last", "signal-first"],
)
def test_int8_program_keeps_the_signal(kind: type[nn.Module], settings: Conversion) -> None:
    converted = convert(kind, settings)
    batch = samples(kind, 16, seed=2)
    # 43 dB and more were measured; 30 dB is what a graph that clips or scales wrongly misses.
    assert sqnr_db(runtimes.predict(converted, batch), float_answers(kind, batch)) > 30
    assert converted.fallbacks == ()


def test_both_layouts_learn_the_same_ranges() -> None:
    first, last = (convert(Wide, settings).output.scale for settings in (MICRO_FIRST, MICRO))
    # The same sums in another order; wrongly laid out frames: 1.4 % off.
    assert first == pytest.approx(last, rel=1e-3)


def test_int8_program_for_a_float_app_converts_once_on_either_side() -> None:
    converted = convert(Residual, HANDHELD)
    assert (converted.input.dtype, converted.output.dtype) == (Precision.FLOAT32,) * 2
    assert converted.operators == (
        OperatorCount(operator="ADD", dtype="int8", count=1),
        OperatorCount(operator="CONV_2D", dtype="int8", count=2),
        OperatorCount(operator="DEPTHWISE_CONV_2D", dtype="int8", count=1),
        OperatorCount(operator="DEQUANTIZE", dtype="float32", count=1),
        OperatorCount(operator="FULLY_CONNECTED", dtype="int8", count=1),
        OperatorCount(operator="MEAN", dtype="int8", count=1),
        OperatorCount(operator="QUANTIZE", dtype="float32", count=1),
    )


def test_input_that_two_branches_read_is_converted_once(tmp_path: Path) -> None:
    converted = convert_here(tmp_path, SharedInput(), (3, 8, 8), HANDHELD)
    assert border(converted) == {"DEQUANTIZE": 1, "QUANTIZE": 1}
    assert converted.fallbacks == ()


def test_int8_program_for_an_int8_app_converts_nothing() -> None:
    converted = convert(Residual, MICRO)
    assert border(converted) == {}
    assert (converted.input.dtype, converted.output.dtype) == (Precision.INT8,) * 2
    assert converted.input.scale is not None
    assert converted.output.scale is not None


def test_rare_high_values_are_not_clipped(tmp_path: Path) -> None:
    """The converter's own calibration follows the first sample and forgets the loud ones."""
    calibration = samples(Residual, 16, seed=1) * 0.1
    calibration[8] *= 30
    loud = samples(Residual, 16, seed=2) * 3
    expected = float_answers(Residual, loud)

    ours = litert.convert(tmp_path, seeded(Residual), calibration, HANDHELD)
    theirs = tmp_path / "theirs" / "model.tflite"
    theirs.parent.mkdir()
    averaging = quantizer.Quantizer(
        bytearray(float_program(Residual, calibration)), recipe.static_wi8_ai8()
    )
    rows = [{"args_0": np.moveaxis(row[None], 1, -1).copy()} for row in calibration]
    ranges = averaging.calibrate({"serving_default": rows}, num_threads=1)
    theirs.write_bytes(bytes(averaging.quantize(ranges).quantized_model))

    answers = runtimes.predict(ours, loud)
    clipped = runtimes.predict(described(theirs), loud)
    assert np.abs(answers - expected).max() < np.abs(clipped - expected).max() / 4
    assert sqnr_db(answers, expected) > sqnr_db(clipped, expected) + 12


def described(path: Path) -> Converted:
    """Return a program that another tool wrote as if it were ours."""
    model = tflite_file.read(path)
    return Converted(
        program=File.of(path),
        runtime=Runtime.LITERT,
        precision=Precision.INT8,
        input=flatbuffer.input_of(model, Layout.CHANNELS_LAST),
        output=flatbuffer.output_of(model),
        operators=flatbuffer.count_operators(model),
        fallbacks=flatbuffer.float_islands(model),
    )


@pytest.mark.parametrize("settings", [FLOAT, HANDHELD], ids=["float32", "int8"])
def test_program_tells_nothing_of_the_source(tmp_path: Path, settings: Conversion) -> None:
    told = (b"tests", b"networks", b"Residual", b"torch", b"conv1", b"stem")
    raw = float_program(Residual, samples(Residual, 1, seed=1))
    assert all(word in raw for word in told)
    converted = litert.convert(tmp_path, seeded(Residual), samples(Residual, 4, seed=1), settings)
    content = converted.program.path.read_bytes()
    assert [word for word in told if word in content] == []


def test_weights_lie_inside_the_flatbuffer() -> None:
    converted = convert(Wide, HANDHELD)
    content = converted.program.path.read_bytes()
    assert converted.program.size_bytes > 256 * 1024
    assert tflite_file.external_buffers(content) == 0


def test_islands_of_another_quantiser_are_seen() -> None:
    """PT2E leaves additions and means in float32; ai-edge-quantizer does not."""
    islands = flatbuffer.float_islands(tflite_file.parse(pt2e_program(), "pt2e"))
    assert {(island.operator, island.count) for island in islands} == {
        ("ADD", 1),
        ("DEQUANTIZE", 2),
        ("MEAN", 1),
        ("QUANTIZE", 1),
    }
    assert convert(Residual, MICRO).fallbacks == ()


def pt2e_program() -> bytes:
    from litert_torch.quantize.pt2e_quantizer import (
        PT2EQuantizer,
        get_symmetric_quantization_config,
    )
    from litert_torch.quantize.quant_config import QuantConfig
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    example = (torch.from_numpy(samples(Residual, 1, seed=1)),)
    scheme = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=False)
    quantiser = PT2EQuantizer().set_global(scheme)
    graph = torch.export.export(seeded(Residual), example).module(check_guards=False)
    prepared = prepare_pt2e(graph, quantiser)
    prepared(*example)
    quantised = convert_pt2e(prepared, fold_quantize=False)
    config = QuantConfig(pt2e_quantizer=quantiser)
    return bytes(litert_torch.convert(quantised, example, quant_config=config).model_content())


def test_operator_that_stays_in_float_is_a_fallback(tmp_path: Path) -> None:
    converted = convert_here(tmp_path, Leaky(), (3, 8, 8), HANDHELD)
    crossing = "converts between float32 and int8 beside operators that compute in float32"
    island = "computes in float32 inside an int8 program"
    assert converted.fallbacks == (
        Fallback(operator="DEQUANTIZE", count=1, reason=crossing),
        Fallback(operator="LEAKY_RELU", count=1, reason=island),
        Fallback(operator="QUANTIZE", count=1, reason=crossing),
    )


def test_same_network_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    script = (
        "from tests.integration.litert_programs import *\n"
        "from tests.networks import Residual\n"
        "print(convert(Residual, MICRO).program.sha256, convert(Residual, FLOAT).program.sha256)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONHASHSEED": "7"}
    elsewhere = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    here = [convert(Residual, settings).program.sha256 for settings in (MICRO, FLOAT)]
    assert elsewhere.stdout.splitlines()[-1].split() == here


def test_same_network_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    batch = samples(Residual, 8, seed=1)
    (tmp_path / "a" / "deeper").mkdir(parents=True)
    first = litert.convert(tmp_path, seeded(Residual), batch, HANDHELD)
    second = litert.convert(tmp_path / "a" / "deeper", seeded(Residual), batch, HANDHELD)
    assert first.program.path.read_bytes() == second.program.path.read_bytes()


def test_quantiser_that_did_nothing_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litert, "_quantise", lambda program, *_: program)
    with pytest.raises(ConversionError) as caught:
        convert_here(tmp_path, SharedInput(), (3, 8, 8), MICRO)
    expected = "model.tflite: the input is float32, the target wants int8."
    assert str(caught.value) == expected


def test_failure_inside_the_quantiser_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        message = "Missing QSVs (min/max) for tensor x\nand more"
        raise ValueError(message)

    monkeypatch.setattr(quantizer.Quantizer, "quantize", refuse)
    with pytest.raises(ConversionError) as caught:
        convert_here(tmp_path, SharedInput(), (3, 8, 8), MICRO)
    assert str(caught.value) == (
        "ai-edge-quantizer failed: Missing QSVs (min/max) for tensor x. "
        "Convert to a float32 target to see whether the model itself is the cause."
    )


def test_operator_that_the_converter_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOperatorError) as caught:
        convert_here(tmp_path, Applied(torch.special.i0), (1, 8, 8), HANDHELD)
    assert caught.value.operator == "aten.i0.default"
    assert str(caught.value) == (
        "model: LiteRT's converter has no aten.i0.default. "
        "Replace it in the model by operators that LiteRT has."
    )


def test_failure_inside_the_converter_names_the_operator(tmp_path: Path) -> None:
    network = Applied(lambda x: torch.fft.fft2(x).abs())
    with pytest.raises(ConversionError) as caught:
        convert_here(tmp_path, network, (1, 8, 8), HANDHELD)
    assert str(caught.value) == (
        "LiteRT's converter failed at aten._to_copy.default: torch.complex64. "
        "Replace that part of the model by simpler operators."
    )


def test_failed_conversion_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOperatorError):
        convert_here(tmp_path, Applied(torch.special.i0), (1, 8, 8), FLOAT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "distribution"),
    [("litert_torch", "litert-torch"), ("ai_edge_quantizer", "ai-edge-quantizer")],
)
def test_missing_converter_is_named_with_its_remedy(
    module: str, distribution: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingToolError) as caught:
        convert_here(tmp_path, SharedInput(), (3, 8, 8), HANDHELD)
    assert str(caught.value) == (
        f"Converting to LiteRT needs {distribution!r}, which is not installed. "
        "pip install 'packager[litert]'"
    )
