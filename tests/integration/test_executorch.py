import importlib.metadata
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.conftest import REPOSITORY, require_package

for module in ("executorch", "torchao"):
    require_package(module, "android")

# Before anything else of ExecuTorch: it keeps the warnings of its import to itself.
from tests.integration.executorch_programs import (
    FLOAT32,
    INT8,
    XNNPACK_NAMES,
    convert,
    convert_here,
    network,
    samples,
    shipped_operators,
    sqnr_db,
    torch_answers,
    uses,
)

# ExecuTorch, torchao and PyTorch warn of their own code.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

from packager import program, runtimes
from packager.artifacts import (
    Converted,
    Fallback,
    File,
    Layout,
    OperatorCount,
    Precision,
    Runtime,
    TensorIo,
    Tuned,
)
from packager.contract import Activation, Contract
from packager.converters import executorch
from packager.errors import (
    ConfigError,
    ConversionError,
    DataError,
    MissingToolError,
    UnsupportedOperatorError,
)
from packager.recipe import Rewrite
from packager.runtimes import executorch as runtime
from packager.runtimes import machine
from packager.stages.convert import convert as convert_stage
from packager.target import Io
from tests.contracts import GRAY
from tests.networks import INPUT_SHAPES, Attention, Residual, Wide, seeded

RESIDUAL = INPUT_SHAPES[Residual]


class Short(nn.Module):
    """An LSTM over two steps; input (n, 2, 8), three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 32, batch_first=True)
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.lstm(x)[0][:, -1])
        return logits


class Applied(nn.Module):
    """A function on its own."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


# Answers


@pytest.mark.parametrize("kind", [Residual, Attention], ids=lambda kind: kind.__name__)
def test_float_program_answers_as_pytorch(kind: type[nn.Module]) -> None:
    batch = samples(INPUT_SHAPES[kind], 16, seed=2)
    answers = runtimes.predict(convert(kind, FLOAT32), batch)
    # Sums in another order: 1e-6 was measured for logits of about 1.
    assert np.abs(answers - torch_answers(seeded(kind), batch)).max() < 1e-5


@pytest.mark.parametrize(
    ("kind", "least_db"),
    # 37 and 24 dB were measured: attention has the smaller logits and the longer chain.
    # A wrong scale or a lost layer leaves less than 10 dB.
    [(Residual, 30), (Attention, 18)],
    ids=["residual", "attention"],
)
def test_int8_program_keeps_the_signal_in_less_space(
    kind: type[nn.Module], least_db: float
) -> None:
    batch = samples(INPUT_SHAPES[kind], 16, seed=2)
    converted = convert(kind, INT8)
    answers = runtimes.predict(converted, batch)
    assert sqnr_db(answers, torch_answers(seeded(kind), batch)) > least_db
    assert converted.program.size_bytes < 0.8 * convert(kind, FLOAT32).program.size_bytes


def test_program_takes_and_gives_single_float_samples_channels_first() -> None:
    converted = convert(Residual, INT8)
    layout, dtype = Layout.CHANNELS_FIRST, Precision.FLOAT32
    assert converted.input == TensorIo(shape=(1, 1, 28, 28), layout=layout, dtype=dtype)
    assert converted.output == TensorIo(shape=(1, 2), layout=layout, dtype=dtype)
    assert (converted.runtime, converted.precision) == (Runtime.EXECUTORCH, Precision.INT8)


def test_session_says_what_runs_the_program() -> None:
    version = importlib.metadata.version("executorch")
    session = runtime.open_session(convert(Residual, INT8))
    assert session.name == f"ExecuTorch {version} (XNNPACK) on {machine()}"


def test_each_sample_has_its_own_answer_in_any_company() -> None:
    batch = samples(RESIDUAL, 5, seed=3)
    session = runtime.open_session(convert(Residual, INT8))
    together = session.run(batch)
    alone = [session.run(batch[i : i + 1])[0] for i in (4, 3, 2, 1, 0)]
    assert together.tolist() == [row.tolist() for row in reversed(alone)]
    # The program's memory is used again for each sample: no answer may be a view of it.
    assert len({tuple(row) for row in together.tolist()}) == 5


# What runs where


def test_whole_network_runs_in_int8_but_for_its_border() -> None:
    converted = convert(Residual, INT8)
    assert converted.fallbacks == ()
    border = "quantized_decomposed.{}_per_tensor.default".format
    assert converted.operators == (
        OperatorCount(operator="aten.add.Tensor", dtype="int8", count=1),
        OperatorCount(operator="aten.convolution.default", dtype="int8", count=3),
        OperatorCount(operator="aten.linear.default", dtype="int8", count=1),
        OperatorCount(operator="aten.mean.dim", dtype="int8", count=1),
        OperatorCount(operator="aten.relu.default", dtype="int8", count=3),
        OperatorCount(operator="aten.view_copy.default", dtype="int8", count=1),
        OperatorCount(operator=border("dequantize"), dtype="float32", count=1),
        OperatorCount(operator=border("quantize"), dtype="int8", count=1),
    )


def test_operator_that_the_partitioner_refuses_comes_with_its_reason() -> None:
    refused = Fallback(
        operator="aten.mean.dim",
        count=1,
        reason="XNNPACK did not take it: mean.dim only supports keepdim=True.",
    )
    assert convert(Wide, INT8).fallbacks == (refused,)


def test_program_that_no_partitioner_touched_is_all_fallbacks() -> None:
    undelegated = uses(Residual, xnnpack=False)
    found = {f.operator: f for f in executorch.count_fallbacks(undelegated)}
    assert sum(f.count for f in found.values()) == len(undelegated) > 10
    known = "XNNPACK's partitioner left it to ExecuTorch's own CPU kernel, without a reason."
    assert found["aten.convolution.default"] == Fallback(
        operator="aten.convolution.default", count=3, reason=known
    )
    assert executorch.count_fallbacks(uses(Residual, xnnpack=True)) == ()


def test_attention_leaves_xnnpack_and_int8() -> None:
    reasons = {(f.operator, f.count): f.reason for f in convert(Attention, INT8).fallbacks}
    unknown = "XNNPACK's partitioner does not know it; it runs on ExecuTorch's own CPU kernel."
    island = "XNNPACK runs it in float32: its quantizer has no int8 form of it here."
    assert reasons["aten.where.self", 1] == unknown
    assert reasons["aten.native_layer_norm.default", 2] == unknown
    assert reasons["aten.bmm.default", 2] == island
    assert reasons["aten.gelu.default", 1] == island
    # Of a float32 program, float32 is no fallback.
    in_float = {f.operator for f in convert(Attention, FLOAT32).fallbacks}
    assert {"aten.bmm.default", "aten.gelu.default"} & in_float == set()
    assert "aten.where.self" in in_float


def test_recurrent_layer_stays_float_in_an_int8_program(tmp_path: Path) -> None:
    torch.manual_seed(0)
    lstm = program.to_module(program.export(Short().eval(), (2, 8)))
    in_float = convert_here(tmp_path, lstm, (2, 8), FLOAT32)
    in_int8 = convert_here(tmp_path, lstm, (2, 8), INT8)
    reasons = {f.operator: f.reason for f in in_int8.fallbacks}
    assert reasons["aten.sigmoid.default"] == (
        "XNNPACK runs it in float32: its quantizer does not see inside lstm, which int8 makes "
        "neither smaller nor faster."
    )
    assert in_int8.program.size_bytes > 0.95 * in_float.program.size_bytes


def test_listening_to_the_partitioner_leaves_its_logger_as_it_was() -> None:
    logger = logging.getLogger(executorch.REASONS_LOGGER)

    def state() -> tuple[int, bool, list[logging.Handler]]:
        return logger.level, logger.propagate, list(logger.handlers)

    def listen_and_fail() -> None:
        with executorch._listening():
            assert state() != before
            raise RuntimeError

    before = state()
    with pytest.raises(RuntimeError):
        listen_and_fail()
    assert state() == before


@pytest.mark.parametrize("kind", [Residual, Attention], ids=lambda kind: kind.__name__)
def test_listed_types_are_those_of_the_shipped_file(kind: type[nn.Module]) -> None:
    converted = convert(kind, INT8)
    shipped = shipped_operators(converted.program.path.read_bytes())
    outside = {f.operator for f in converted.fallbacks if "in float32" not in f.reason}
    listed = {
        (o.operator, o.dtype): o.count
        for o in converted.operators
        if o.operator in XNNPACK_NAMES.values() and o.operator not in outside
    }
    assert listed == dict(Counter((s.operator, s.output) for s in shipped))


def test_weights_have_a_scale_for_each_output_channel() -> None:
    shipped = shipped_operators(convert(Residual, INT8).program.path.read_bytes())
    weights = [s.weight for s in shipped if s.weight]
    assert weights == ["int8, one scale for each channel"] * 4


# The same bytes everywhere

USERS_CODE = """
import sys
from pathlib import Path
from packager import program
from tests.integration.executorch_programs import INT8, convert_here
from tests.networks import Attention, INPUT_SHAPES, seeded

class SecretProject(Attention):
    pass

network = program.to_module(program.export(seeded(SecretProject), INPUT_SHAPES[Attention]))
converted = convert_here(Path(sys.argv[1]), network, INPUT_SHAPES[Attention], INT8)
"""


@pytest.fixture(scope="module")
def built_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The program of a user's own code, in a folder and a process of their own."""
    folder = tmp_path_factory.mktemp("private-folder")
    script = folder / "private_model.py"
    script.write_text(USERS_CODE)
    # Sets and dicts that are ordered by hash come in another order than here.
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, str(script), str(folder)]
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=300)
    return (folder / executorch.PROGRAM).read_bytes()


def test_same_network_gives_the_same_bytes_in_another_process_and_folder(
    built_elsewhere: bytes,
) -> None:
    assert built_elsewhere == convert(Attention, INT8).program.path.read_bytes()


@pytest.mark.parametrize("word", ["private", "SecretProject", ".py", "File ", "site-packages"])
def test_program_names_no_source_file(built_elsewhere: bytes, word: str) -> None:
    assert word.encode() not in built_elsewhere
    assert b"forward" in built_elsewhere  # words are there to be found


# Refusals


@pytest.mark.parametrize(
    ("layout", "dtype"),
    [
        (Layout.CHANNELS_LAST, Precision.FLOAT32),
        (Layout.CHANNELS_FIRST, Precision.INT8),
    ],
)
def test_target_that_wants_another_input_is_refused(
    tmp_path: Path, layout: Layout, dtype: Precision
) -> None:
    wanted = replace(INT8, io=Io(layout=layout, dtype=dtype))
    with pytest.raises(ConversionError) as caught:
        convert_here(tmp_path, network(Residual), RESIDUAL, wanted)
    assert str(caught.value) == (
        "io: ExecuTorch targets take channels-first float32 inputs, "
        f"not {layout} {dtype}. Change [io] in the target's target.toml."
    )
    assert list(tmp_path.iterdir()) == []


def test_operator_without_a_kernel_is_named(tmp_path: Path) -> None:
    ranked = Applied(lambda x: x.sort(-1)[0])
    with pytest.raises(UnsupportedOperatorError) as caught:
        convert_here(tmp_path, ranked, (4, 8), FLOAT32)
    assert str(caught.value) == (
        "model: ExecuTorch's runtime has no aten::sort.values. "
        "Replace it in the model, or leave out the targets that use ExecuTorch."
    )


def test_kernel_that_refuses_its_input_stops_the_conversion(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(ConversionError, match=r"ExecuTorch stopped at an input of shape \(1, 2"):
        convert_here(tmp_path, nn.Conv3d(2, 3, 3), (2, 6, 6, 6), FLOAT32)


def test_sample_of_another_shape_is_refused() -> None:
    session = runtime.open_session(convert(Residual, INT8))
    with pytest.raises(ConversionError) as caught:
        session.run(samples((1, 5, 28), 1, seed=0))
    assert str(caught.value).startswith(
        "model.pte: ExecuTorch stopped at an input of shape (1, 1, 5, 28): "
    )


def with_content(converted: Converted, content: bytes, folder: Path) -> Converted:
    path = folder / "model.pte"
    path.write_bytes(content)
    return replace(converted, program=File.of(path))


@pytest.mark.parametrize("kept", [0, 10, 100, 5000, -1], ids=lambda kept: f"kept {kept}")
def test_truncated_program_is_refused(tmp_path: Path, kept: int) -> None:
    whole = convert(Residual, INT8)
    short = with_content(whole, whole.program.path.read_bytes()[:kept], tmp_path)
    with pytest.raises(ConversionError, match="not a program that ExecuTorch can run"):
        runtime.open_session(short)
    with pytest.raises(ConversionError, match="not a program that ExecuTorch can run"):
        runtime.planned_memory_bytes(short.program.path)


def test_damaged_delegate_is_refused(tmp_path: Path) -> None:
    whole = convert(Residual, INT8)
    content = bytearray(whole.program.path.read_bytes())
    start = content.index(b"XH00") + 64
    content[start : start + 256] = bytes([0xFF] * 256)
    with pytest.raises(ConversionError, match="not a program that ExecuTorch can run"):
        runtime.open_session(with_content(whole, bytes(content), tmp_path))


def test_damaged_weights_are_refused_though_the_runtime_would_run_them(tmp_path: Path) -> None:
    whole = convert(Residual, INT8)
    content = bytearray(whole.program.path.read_bytes())
    content[-600] ^= 0x40
    damaged = with_content(whole, bytes(content), tmp_path)
    runtime.open_session(damaged).run(samples(RESIDUAL, 1, seed=0))
    with pytest.raises(ConversionError, match="its content has changed since it was converted"):
        runtime.open_session(
            replace(damaged, program=replace(damaged.program, sha256=whole.program.sha256))
        )


@pytest.mark.parametrize(
    "question",
    [runtime.open_session, lambda converted: runtime.planned_memory_bytes(converted.program.path)],
    ids=["session", "memory"],
)
def test_missing_executorch_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, question: Callable[[Converted], object]
) -> None:
    converted = convert(Residual, INT8)
    monkeypatch.setitem(sys.modules, "executorch.runtime", None)
    with pytest.raises(MissingToolError) as caught:
        question(converted)
    assert str(caught.value) == (
        "Running model.pte needs 'executorch', which is not installed. "
        "pip install 'packager[android]'"
    )


# Memory


def test_planned_memory_holds_what_no_delegate_holds(tmp_path: Path) -> None:
    delegated = runtime.planned_memory_bytes(convert(Residual, FLOAT32).program.path)
    captured = torch.export.export(network(Residual), (torch.zeros(1, *RESIDUAL),))
    edge, _ = executorch.lower(captured, [])
    path = tmp_path / "undelegated.pte"
    path.write_bytes(edge.to_executorch().buffer)
    undelegated = runtime.planned_memory_bytes(path)
    frame_bytes, feature_bytes = 28 * 28 * 4, 16 * 28 * 28 * 4
    # One frame in and two logits out, and alignment; without XNNPACK, also what lies between:
    # the shortcut and at least the input and output of a convolution.
    assert frame_bytes + 8 <= delegated < frame_bytes + 256
    assert undelegated >= 3 * feature_bytes


# The stage

CONTRACT = Contract(
    input_shape=(1, 28, 28),
    source=GRAY,
    full_scale=255.0,
    mean=(0.5,),
    std=(0.25,),
    activation=Activation.SOFTMAX,
    labels=("benign", "malignant"),
)


def tuned(folder: Path, module: nn.Module, shape: tuple[int, ...]) -> Tuned:
    return Tuned(
        program=program.save(module, folder / "tuned.pt2", shape), history=(), best_epoch=0
    )


def frames(folder: Path, shape: tuple[int, ...]) -> File:
    path = folder / "calibration.npz"
    values = np.random.default_rng(4).integers(0, 256, (8, *shape), np.uint8)
    np.savez(path, frames=values, labels=np.zeros(8, np.int64))
    return File.of(path)


def test_stage_converts_what_the_tuned_program_answers(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    given = tuned(tmp_path, seeded(Residual), RESIDUAL)
    calibration = frames(tmp_path, (28, 28))
    converted = convert_stage.run(folder, given, calibration, CONTRACT, INT8)
    assert converted.program.path == folder / "model.pte"
    assert converted.fallbacks == ()
    batch = samples(RESIDUAL, 16, seed=2)
    # 30 dB and more were measured; calibrated on raw frames, not prepared ones, it is under 0.
    answers = runtimes.predict(converted, batch)
    assert sqnr_db(answers, torch_answers(seeded(Residual), batch)) > 20


def test_stage_applies_the_rewrites(tmp_path: Path) -> None:
    given = tuned(tmp_path, seeded(Residual), RESIDUAL)
    rewritten = replace(INT8, rewrites=(Rewrite.GELU_TO_SIGMOID,))
    with pytest.raises(ConfigError) as caught:
        convert_stage.run(tmp_path, given, frames(tmp_path, (28, 28)), CONTRACT, rewritten)
    assert str(caught.value) == (
        "convert.rewrites: 'gelu-to-sigmoid' changes nothing in this model; remove it."
    )


def test_calibration_of_another_shape_is_refused(tmp_path: Path) -> None:
    given = tuned(tmp_path, seeded(Residual), RESIDUAL)
    with pytest.raises(DataError, match=r"each sample is \(1, 28, 20\)"):
        convert_stage.run(tmp_path, given, frames(tmp_path, (28, 20)), CONTRACT, INT8)


def test_operator_outside_executorch_s_set_is_named(tmp_path: Path) -> None:
    def multiplied(x: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(x, 1).flatten(1).cumprod(-1)

    given = tuned(tmp_path, Applied(multiplied).eval(), RESIDUAL)
    with pytest.raises(ConversionError) as caught:
        convert_stage.run(tmp_path, given, frames(tmp_path, (28, 28)), CONTRACT, FLOAT32)
    assert str(caught.value).startswith(
        "executorch: the converter failed at aten.cumprod.default: "
        "Operator torch._ops.aten.cumprod.default is not in Core ATen opset"
    )
    assert caught.value.__cause__ is not None
