import importlib.metadata
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from tests.conftest import require_package

require_package("litert_torch", "litert")
require_package("tflite_micro", "micro")

import litert_torch
import torch
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_quantizer import quantizer, recipe
from tflite_micro import runtime as tflm

from packager import runtimes, tflite_file
from packager.artifacts import Converted, File
from packager.converters import Conversion, flatbuffer
from packager.errors import ConversionError, UnsupportedOperatorError
from packager.runtimes import machine, tflite_micro
from tests.integration.litert_programs import (
    MICRO,
    MICRO_FIRST,
    convert,
    float_answers,
    samples,
    sqnr_db,
)
from tests.networks import (
    Attention,
    Depthwise,
    Flattened,
    Recurrent,
    Residual,
    Signal,
    Wide,
    seeded,
)

# litert-torch, PyTorch and ai-edge-quantizer warn of their own code.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SUPPORTED = [
    (Residual, MICRO),
    (Depthwise, MICRO),
    (Wide, MICRO),
    (Flattened, MICRO),
    (Signal, MICRO),
    (Signal, MICRO_FIRST),
]
every_supported = pytest.mark.parametrize(
    ("kind", "settings"), SUPPORTED, ids=lambda v: getattr(v, "__name__", "")
)


def device_samples(converted: Converted, count: int) -> NDArray[np.int8]:
    """Return inputs that use the whole range of int8."""
    shape = (count, *converted.input.shape[1:])
    return np.random.default_rng(4).integers(-128, 128, shape).astype(np.int8)


def reference_kernels(program: Path) -> Interpreter:
    """Return LiteRT without XNNPACK, whose rounding differs by one step now and then."""
    interpreter = Interpreter(
        model_path=str(program),
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    return interpreter


def invoke(interpreter: Interpreter, row: NDArray[np.int8]) -> NDArray[np.int8]:
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row[None])
    interpreter.invoke()
    answer: NDArray[np.int8] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return answer


@every_supported
def test_answers_are_those_of_litert_reference_kernels(
    kind: type[nn.Module], settings: Conversion
) -> None:
    converted = convert(kind, settings)
    inputs = device_samples(converted, 24)
    answers = runtimes.open_session(converted).run(inputs)
    reference = reference_kernels(converted.program.path)
    expected = np.concatenate([invoke(reference, row) for row in inputs])
    assert len(np.unique(answers, axis=0)) > 12
    # FULLY_CONNECTED rounds in another way: 11 of 16,800 values were one step off.
    steps = np.abs(answers.astype(int) - expected)
    assert steps.max() <= 1
    assert (steps > 0).mean() < 0.01


@every_supported
def test_tensors_up_to_the_head_are_exactly_those_of_litert_reference_kernels(
    kind: type[nn.Module], settings: Conversion
) -> None:
    converted = convert(kind, settings)
    model = tflite_file.read(converted.program.path)
    names = [tflite_file.operator_name(used, model) for used in model.subgraphs[0].operators]
    before = model.subgraphs[0].operators[: names.index("FULLY_CONNECTED")]
    micro = tflm.Interpreter.from_file(
        str(converted.program.path),
        arena_size=2**24,
        intrepreter_config=tflm.InterpreterConfig.kPreserveAllTensors,
    )
    reference = reference_kernels(converted.program.path)
    for row in device_samples(converted, 8):
        invoke(reference, row)
        micro.set_input(row[None], 0)
        micro.invoke()
        for index in (used.outputs[0] for used in before):
            answer = micro.GetTensor(index, 0)["tensor_data"].reshape(-1)
            np.testing.assert_array_equal(answer, reference.get_tensor(index).reshape(-1))


@every_supported
def test_program_keeps_the_signal(kind: type[nn.Module], settings: Conversion) -> None:
    converted = convert(kind, settings)
    batch = samples(kind, 16, seed=2)
    # 39 dB and more were measured; 30 dB is what a graph that clips or scales wrongly misses.
    assert sqnr_db(runtimes.predict(converted, batch), float_answers(kind, batch)) > 30
    assert converted.fallbacks == ()


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the program of `Wide` as ai-edge-quantizer writes it: weights behind the file."""
    wrapped = litert_torch.to_channel_last_io(seeded(Wide), args=[0]).eval()
    rows = [np.moveaxis(row[None], 1, -1).copy() for row in samples(Wide, 4, seed=1)]
    lowered = litert_torch.convert(wrapped, (torch.from_numpy(rows[0]),)).model_content()
    quantiser = quantizer.Quantizer(bytearray(lowered), recipe.static_wi8_ai8())
    ranges = quantiser.calibrate({"serving_default": [{"args_0": r} for r in rows]}, num_threads=1)
    path = tmp_path_factory.mktemp("outside") / "model.tflite"
    path.write_bytes(bytes(quantiser.quantize(ranges).quantized_model))
    return path


def bare_answers(program: Path) -> NDArray[np.int8]:
    """Return what the bare interpreter gives for eight inputs."""
    interpreter = tflm.Interpreter.from_file(str(program), arena_size=2**24)
    answers = []
    for row in np.random.default_rng(4).integers(-128, 128, (8, 1, 16, 16, 3)).astype(np.int8):
        interpreter.set_input(row, 0)
        interpreter.invoke()
        answers.append(interpreter.get_output(0))
    return np.concatenate(answers)


def test_weights_behind_the_flatbuffer_are_not_read_and_nothing_says_so(
    outside: Path, tmp_path: Path
) -> None:
    """If this fails, TFLM has learned to read them, and our refusal can go."""
    inside = tmp_path / "model.tflite"
    inside.write_bytes(flatbuffer.make_shippable(tflite_file.read(outside)))
    reference = reference_kernels(outside)
    rows = np.random.default_rng(4).integers(-128, 128, (8, 16, 16, 3)).astype(np.int8)
    expected = np.concatenate([invoke(reference, row) for row in rows]).astype(int)
    assert np.abs(bare_answers(inside) - expected).max() <= 1
    # 8-bit answers of a network with other weights; 40 steps apart were measured.
    assert np.abs(bare_answers(outside) - expected).mean() > 10


def test_weights_behind_the_flatbuffer_are_refused(outside: Path) -> None:
    count = tflite_file.external_buffers(outside.read_bytes())
    with pytest.raises(ConversionError) as caught:
        runtimes.open_session(replace(convert(Wide, MICRO), program=File.of(outside)))
    assert str(caught.value) == (
        f"model.tflite: weights lie outside the flatbuffer (buffers: {count}). TensorFlow Lite Micro "
        "would not read them, and answer at random. Convert the model again."
    )


def test_missing_operator_is_named() -> None:
    with pytest.raises(UnsupportedOperatorError) as caught:
        convert(Attention, MICRO)
    assert caught.value.operator == "GELU"
    version = importlib.metadata.version("tflite-micro")
    assert str(caught.value) == (
        f"model.tflite: TensorFlow Lite Micro {version} has no GELU. Replace it in the model, or "
        "by a rewrite (convert.rewrites: fold-batchnorm1d, explicit-attention, gelu-to-sigmoid)."
    )


def test_operator_with_too_many_inputs_is_refused_in_the_runtimes_words() -> None:
    with pytest.raises(ConversionError) as caught:
        convert(Recurrent, MICRO_FIRST)
    assert "TensorFlow Lite Micro refuses the program: " in str(caught.value)
    assert "Node CONCATENATION (number " in str(caught.value)


@every_supported
def test_arena_is_the_smallest_that_works(kind: type[nn.Module], settings: Conversion) -> None:
    program = convert(kind, settings).program.path
    arena_bytes = tflite_micro.arena_bytes(program)
    assert arena_bytes % 16 == 0
    assert starts_in(program, arena_bytes)
    assert not starts_in(program, arena_bytes - 16)


def starts_in(program: Path, arena_bytes: int) -> bool:
    command = [sys.executable, "-P", str(tflite_micro.TRIAL), str(program), str(arena_bytes)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def test_session_says_what_runs_the_program() -> None:
    version = importlib.metadata.version("tflite-micro")
    session = runtimes.open_session(convert(Residual, MICRO))
    assert session.name == f"TensorFlow Lite Micro {version} on {machine()}"
