"""tflite-runtime 2.14, the last one for 32-bit Arm: on this machine, and on an emulated Cortex-A7.

It computes dynamic-range quantised programs wrongly and says nothing. packager never writes
such programs; one that is made by hand shows that the gates would not let it pass.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import real_data, require_kit, require_package

require_package("litert_torch", "litert")
require_package("ai_edge_quantizer", "litert")

import litert_torch
import torch
from ai_edge_quantizer import quantizer, recipe
from torch import Tensor, nn
from torch.nn import functional

from packager import program, runtimes, tflite_file
from packager.apps import legacy
from packager.apps.events import GoldenEvent, of_kind, read_events
from packager.artifacts import (
    Converted,
    Cost,
    Dataset,
    File,
    Layout,
    Model,
    Precision,
    Reference,
    Runtime,
    Tuned,
)
from packager.assessment import check_outputs, read_golden
from packager.bundles import open_bundle
from packager.contract import Activation, Contract
from packager.contract.tensors import dequantise, normalise, to_device
from packager.converters import Conversion, flatbuffer, litert
from packager.devices import Architecture, Ran
from packager.devices.qemu_user import QemuUser
from packager.errors import ConversionError, ParityError
from packager.recipe import Limits, Undecided
from packager.runtimes import Session, machine, tflite_legacy
from packager.runtimes import litert as newest
from packager.stages.bundle import bundle
from packager.stages.parity import check_parity
from packager.stages.predict import predict
from packager.target import Io
from packager.validations import OutputCheck
from packager.verdicts import judge, require_parity
from tests import bundle_example
from tests.contracts import RGB
from tests.integration import litert_programs as programs
from tests.networks import Attention
from tests.tflite_programs import chain, serialise

# litert-torch, PyTorch and ai-edge-quantizer warn of their own code.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

TARGET = "ultrasound-handheld-armv7"
CPU = "cortex-a7"
GOLDEN_SAMPLES = 8
TIMEOUT_S = 60
CONTRACT = Contract(
    input_shape=(3, 32, 32),
    source=RGB,
    full_scale=255.0,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    activation=Activation.SOFTMAX,
    labels=(
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    ),
)  # fmt: skip
LIMITS = Limits(
    min_agreement_ratio=0.95,
    max_accuracy_drop=0.05,
    max_auroc_drop=0.02,
    min_sqnr_db=20.0,
    undecided=Undecided.ACCEPT,
)


class CifarNet(nn.Module):
    """The network of the published weights: three convolutions and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 5, padding=2)
        self.conv2 = nn.Conv2d(32, 32, 5, padding=2)
        self.conv3 = nn.Conv2d(32, 64, 5, padding=2)
        self.fc = nn.Linear(1024, 10)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.conv1, self.conv2, self.conv3):
            x = functional.max_pool2d(layer(x), 2)
        logits: Tensor = self.fc(x.flatten(1))
        return logits


@dataclass(frozen=True, kw_only=True)
class World:
    """A published network, photographs, and what it answers to them."""

    folder: Path
    network: CifarNet
    frames: NDArray[np.uint8]
    dataset: Dataset
    reference: Reference
    int8: Converted
    float32: Converted
    dynamic: Converted


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("legacy")
    network = CifarNet().eval()
    weights = real_data("cifar-net") / "cifar_net.pth"
    network.load_state_dict(torch.load(weights, weights_only=True))
    published = np.load(real_data("cifar10") / "cifar10_test_first100_lossless.npz")
    frames, labels = published["X"], published["y"].astype(np.int64)
    dataset = write_dataset(folder, frames, labels)
    saved = program.save(network, folder / "network.pt2", CONTRACT.input_shape)
    cost = Cost(parameters=1, macs=1, sparsity_ratio=0.0)
    original = Model(program=saved, input_shape=CONTRACT.input_shape, cost=cost)
    tuned = Tuned(program=saved, history=(), best_epoch=0)
    samples = normalise(frames[:32], CONTRACT)
    return World(
        folder=folder,
        network=network,
        frames=frames,
        dataset=dataset,
        reference=predict.run(folder, original, tuned, dataset, CONTRACT),
        int8=convert(folder / "int8", saved, samples, Precision.INT8),
        float32=convert(folder / "float32", saved, samples, Precision.FLOAT32),
        dynamic=by_hand(folder / "dynamic", network, samples),
    )


def write_dataset(folder: Path, frames: NDArray[np.uint8], labels: NDArray[np.int64]) -> Dataset:
    np.savez(folder / "evaluation.npz", frames=frames, labels=labels)
    raw = {f"frame_{place:03}": frames[place] for place in range(GOLDEN_SAMPLES)}
    few = {"samples": np.arange(GOLDEN_SAMPLES), "labels": labels[:GOLDEN_SAMPLES]}
    upright = np.ones(GOLDEN_SAMPLES, np.int64)
    np.savez(folder / "golden.npz", allow_pickle=False, **raw, **few, orientations=upright)
    file = File.of(folder / "evaluation.npz")
    return Dataset(
        finetune=file,
        validation=file,
        calibration=file,
        evaluation=file,
        golden=File.of(folder / "golden.npz"),
        origin="CIFAR-10",
        simulated=False,
    )


def convert(
    out: Path, network: File, samples: NDArray[np.float32], precision: Precision
) -> Converted:
    """Convert as a build for the 32-bit handheld does."""
    out.mkdir()
    io = Io(layout=Layout.CHANNELS_LAST, dtype=Precision.FLOAT32)
    settings = Conversion(runtime=Runtime.TFLITE_LEGACY, precision=precision, io=io, rewrites=())
    return litert.convert(out, program.load(network), samples, settings)


def by_hand(out: Path, network: nn.Module, samples: NDArray[np.float32]) -> Converted:
    """Quantise weights only, to be multiplied with inputs that are quantised as they come."""
    out.mkdir()
    sample = torch.from_numpy(np.moveaxis(samples[:1], 1, -1).copy())
    wrapped = litert_torch.to_channel_last_io(network, args=[0]).eval()
    lowered = litert_torch.convert(wrapped, (sample,)).model_content()
    quantised = quantizer.Quantizer(bytearray(lowered), recipe.dynamic_wi8_afp32()).quantize()
    path = out / "model.tflite"
    content = bytes(quantised.quantized_model)
    path.write_bytes(flatbuffer.make_shippable(tflite_file.parse(content, path.name)))
    model = tflite_file.read(path)
    return Converted(
        program=File.of(path),
        runtime=Runtime.TFLITE_LEGACY,
        precision=Precision.INT8,
        input=flatbuffer.input_of(model, Layout.CHANNELS_LAST),
        output=flatbuffer.output_of(model),
        operators=flatbuffer.count_operators(model),
        fallbacks=(),
    )


def answers(
    session: Session, converted: Converted, frames: NDArray[np.uint8]
) -> NDArray[np.float32]:
    raw = session.run(to_device(normalise(frames, CONTRACT), converted.input))
    return dequantise(raw, converted.output)


def both(world: World, converted: Converted) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what the old and the newest runtime answer to all photographs."""
    old, new = tflite_legacy.open_session(converted), newest.open_session(converted)
    return answers(old, converted, world.frames), answers(new, converted, world.frames)


def float_answers(world: World) -> NDArray[np.float32]:
    with torch.no_grad():
        logits: NDArray[np.float32] = world.network(
            torch.from_numpy(normalise(world.frames, CONTRACT))
        ).numpy()
    return logits


# On this machine


def test_float32_program_answers_as_on_the_newest_runtime(world: World) -> None:
    old, new = both(world, world.float32)
    # Logits go up to 99; 2e-5 of that is what sums in another order make.
    assert np.abs(old - new).max() < 2e-3
    np.testing.assert_allclose(old, float_answers(world), atol=2e-3)


def test_int8_program_answers_as_on_the_newest_runtime_but_for_rounding(world: World) -> None:
    old, new = both(world, world.int8)
    step = np.diff(np.unique(np.concatenate([old, new]))).min()
    # Two steps of 255 were measured, and a third of the values a step apart.
    assert np.abs(old - new).max() / step < 2.5
    expected = float_answers(world)
    assert abs(programs.sqnr_db(old, expected) - programs.sqnr_db(new, expected)) < 1


def test_int8_layer_with_several_rows_is_computed() -> None:
    """The reference kernels of tflite-runtime 2.14 are no oracle: they answer it at random."""
    converted = replace(
        programs.convert(Attention, programs.HANDHELD_FIRST), runtime=Runtime.TFLITE_LEGACY
    )
    batch = programs.samples(Attention, 8, seed=2)
    answered = runtimes.predict(converted, batch)
    expected = runtimes.predict(replace(converted, runtime=Runtime.LITERT), batch)
    assert programs.sqnr_db(answered, expected) > 20


def test_dynamic_range_program_is_accepted_by_the_runtime_and_answered_wrongly(
    world: World,
) -> None:
    """If this fails, tflite-runtime has learned to compute them, and packager might offer them."""
    old, new = both(world, world.dynamic)
    expected = float_answers(world)
    # 44 dB and 0 dB were measured: noise as loud as the signal.
    assert programs.sqnr_db(new, expected) > 30
    assert programs.sqnr_db(old, expected) < 5


def test_session_says_what_runs_the_program(world: World) -> None:
    assert tflite_legacy.open_session(world.int8).name == f"tflite-runtime 2.14.0 on {machine()}"


def test_program_that_the_runtime_does_not_know_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(serialise(chain(["float32", "float32"], ["CUSTOM"])))
    model = tflite_file.read(path)
    converted = Converted(
        program=File.of(path),
        runtime=Runtime.TFLITE_LEGACY,
        precision=Precision.FLOAT32,
        input=flatbuffer.input_of(model, Layout.CHANNELS_LAST),
        output=flatbuffer.output_of(model),
        operators=(),
        fallbacks=(),
    )
    with pytest.raises(ConversionError) as caught:
        runtimes.open_session(converted)
    assert str(caught.value) == (
        "model.tflite: tflite-runtime 2.14.0 refuses the program: "
        "Operator with CUSTOM builtin_code has no custom_code."
    )


# The gate of a build


def judged(world: World, converted: Converted, out: Path) -> None:
    out.mkdir(exist_ok=True)
    parity = check_parity.run(out, converted, world.reference, world.dataset, CONTRACT)
    require_parity(TARGET, judge(parity, LIMITS))


@pytest.mark.parametrize("name", ["int8", "float32"])
def test_build_passes_what_packager_writes(world: World, tmp_path: Path, name: str) -> None:
    judged(world, getattr(world, name), tmp_path)


def test_build_refuses_a_dynamic_range_program(world: World, tmp_path: Path) -> None:
    with pytest.raises(ParityError) as caught:
        judged(world, world.dynamic, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{TARGET}: agreement >= 0.950: breached: 0.")
    assert f" on tflite-runtime 2.14.0 on {machine()}. " in message


# On the device


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the device said of the golden samples, and what packager makes of it."""

    golden: NDArray[np.float32]
    ran: Ran
    within: list[bool]
    check: OutputCheck

    @property
    def near_ties(self) -> int:
        """Samples whose two largest outputs are no further apart than two errors can bring."""
        second, first = np.sort(self.golden, axis=1)[:, -2:].T
        return int((first - second <= 2 * self.check.max_abs_error).sum())


def run_on_device(world: World, name: str, out: Path) -> Seen:
    """Bundle a program as a build does, and run the bundle on the emulated processor."""
    contents = replace(
        bundle_example.contents(out),
        target=TARGET,
        converted=getattr(world, name),
        golden=world.dataset.golden,
        contract=CONTRACT,
    )
    archive = bundle.run(out, contents).archive.path
    opened = open_bundle(archive)
    payload = legacy.build(opened, Architecture.ARMV7)
    with QemuUser(CPU, require_kit()) as device:
        device.put(payload.program.file.path, payload.program.name)
        device.put(archive, "bundle.zip")
        command = [*payload.command, "--bundle", "bundle.zip", "--selftest"]
        ran = device.run(command, timeout_s=TIMEOUT_S)
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    golden = of_kind(read_events(ran.stdout, device.name), GoldenEvent)
    return Seen(
        golden=read_golden(opened)["outputs"].astype(np.float32),
        ran=ran,
        within=[event["within"] for event in events if event["event"] == "golden"],
        check=check_outputs(opened, golden, device.name),
    )


@pytest.mark.parametrize("name", ["int8", "float32"])
def test_device_answers_as_this_machine_does(world: World, tmp_path: Path, name: str) -> None:
    seen = run_on_device(world, name, tmp_path)
    assert (seen.ran.returncode, seen.ran.stderr) == (0, b"")
    # Of int8, two steps of 255 apart were measured; of float32, 1.5e-5 at logits of up to 99.
    assert seen.within == [True] * GOLDEN_SAMPLES
    assert seen.check.outputs_differing == 0
    # One photograph of eight is such a tie in int8: the gate of `validate` counts it.
    assert seen.check.decisions_differing <= seen.near_ties
    # The contract is not run there, and nothing says that it was.
    assert seen.check.inputs_differing is None


def test_device_shows_that_its_runtime_is_not_the_one_that_the_program_was_proven_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prove a program with the newest runtime, and ship it to a device that has the old one."""
    monkeypatch.setattr("packager.stages.bundle.open_session", newest.open_session)
    seen = run_on_device(world, "dynamic", tmp_path)
    assert seen.ran.returncode == ParityError.exit_code
    assert seen.within == [False] * GOLDEN_SAMPLES
    assert seen.check.outputs_differing == GOLDEN_SAMPLES
    # Each sample is 25 or more off, of logits of up to 99.
    assert seen.check.max_abs_error > 50
