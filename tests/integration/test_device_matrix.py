"""Three networks of real frames answer alike on this machine and on four emulated cores."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save

from benchmarks.device_matrix import (
    DEVICES,
    FLOAT32_NETWORK,
    NETWORKS,
    Made,
    Seen,
    look,
    make_bundles,
    with_files,
)
from packager import bundles
from packager.apps import Payload, handheld
from packager.artifacts import Precision, Runtime
from packager.assessment import Runs, read_golden
from packager.contract.golden import EXACT, FLOAT
from packager.devices import Device, Watch
from packager.errors import DeviceError, ParityError
from packager.validate import BUNDLE, COUNTED, Place, validate
from tests.conftest import real_data, require_kit, require_package

for _module, _extra in (
    ("executorch", "android"),
    ("litert_torch", "litert"),
    ("ai_edge_litert", "litert"),
):
    require_package(_module, _extra)
require_kit()

pytestmark = [
    # The converters and PyTorch warn of their own code.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    # The converters' libraries start threads in this process.
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
]

FOLDER = tempfile.TemporaryDirectory(prefix="device-matrix-")
CACHE = Path(FOLDER.name)
ROUND_ALIKE = (
    ("resnet", Runtime.EXECUTORCH),
    ("resnet", Runtime.LITERT),
    ("separable", Runtime.EXECUTORCH),
    ("separable", Runtime.LITERT),
    ("attention", Runtime.EXECUTORCH),
)
"""Those whose int8 operators round alike on x86-64 and Arm."""
RUNTIMES = (Runtime.EXECUTORCH, Runtime.LITERT)
CORES = DEVICES[1:]
WITH_DOT_PRODUCT = {"qemu-user:cortex-a55", "qemu-user:cortex-a76"}
LEFT_OUT = frozenset({"android-arm64-executorch-float32"})
"""It is in the benchmark: another program to compile for the same float32 kernels, XNNPACK's."""
MOST_STEPS = 2
"""How far an output of LiteRT's attention may be from this machine's. Its softmax rounds one
value in a thousand otherwise on Arm, its product of two computed tensors one in a hundred; each
by one step, which the layers behind it pass on or swallow."""


@pytest.fixture(scope="module", autouse=True)
def quickly_compiled() -> Iterator[None]:
    """Compile without optimising, and each file of the sources once for all that it is in."""
    compile_program = handheld.compile_program

    def quick(toolchain: handheld.Toolchain, files: dict[str, str], _: Path) -> Path:
        folder = CACHE / f"{toolchain.runtime}-{toolchain.architecture}"
        folder.mkdir(exist_ok=True)
        shutil.rmtree(folder / "generated", ignore_errors=True)
        return compile_program(toolchain, files, folder, "-DCMAKE_BUILD_TYPE=Debug")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handheld, "compile_program", quick)
        # The outputs are looked at here, so that one program does for all networks.
        patch.setattr(handheld, "output_tolerance", lambda *_: EXACT)
        yield


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    matrix()  # the converters leave files of their own
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield
    assert list(temporary.iterdir()) == []
    assert emulators() == set()


def emulators() -> set[str]:
    """Return the emulators that this process has started."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {child for child in children if b"qemu-" in Path(f"/proc/{child}/cmdline").read_bytes()}


@cache
def matrix() -> dict[tuple[str, Runtime, Precision], Made]:
    made = make_bundles(CACHE / "build", real_data("breastmnist").parent, without=LEFT_OUT)
    return {(m.network, m.opened.manifest.runtime, m.opened.manifest.precision): m for m in made}


def bundle_of(network: str, runtime: Runtime, precision: Precision = Precision.INT8) -> Made:
    return matrix()[network, runtime, precision]


@cache
def seen_on(device: str, network: str, runtime: Runtime, precision: Precision) -> Seen:
    made = bundle_of(network, runtime, precision)
    return look(made, device, require_kit(), CACHE, watching=counting_twice, runs=2)


def counting_twice(device: Device, payload: Payload, *, timeout_s: float) -> Runs:
    """Do of all that a validation does on a device only what is looked at here."""
    counting = Watch.INSTRUCTIONS in device.watches
    watch = Watch.INSTRUCTIONS if counting else Watch.NOTHING
    argv = [*payload.command, "--bundle", BUNDLE, *COUNTED]
    counted = device.run(argv, timeout_s=timeout_s, watch=watch)
    again = device.run(argv, timeout_s=timeout_s, watch=watch) if counting else None
    return Runs(counted=counted, counted_again=again)


def golden_outputs(made: Made) -> NDArray[np.float32]:
    return read_golden(made.opened)["outputs"].astype(np.float32, casting="no")


def as_bytes(outputs: NDArray[np.float32]) -> tuple[bytes, ...]:
    return tuple(output.tobytes() for output in outputs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("network", "runtime"), ROUND_ALIKE)
def test_int8_outputs_are_equal_to_the_last_bit(
    network: str, runtime: Runtime, device: str
) -> None:
    golden = golden_outputs(bundle_of(network, runtime))
    seen = seen_on(device, network, runtime, Precision.INT8)
    outputs = seen.validation.outputs
    assert seen.outputs == as_bytes(golden)
    assert (outputs.samples, outputs.inputs_differing, outputs.decisions_differing) == (16, 0, 0)
    # Frames that are all answered alike would prove little.
    assert len(np.unique(golden, axis=0)) > 4


@pytest.mark.parametrize("device", CORES)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_second_run_takes_the_same_instructions_to_the_digit(
    network: str, runtime: Runtime, device: str
) -> None:
    counted = seen_on(device, network, runtime, Precision.INT8).validation.instructions
    assert counted is not None
    assert counted.repeats
    assert counted.inferences == 16
    # Cores with a dot product of int8 use it; the others multiply and lengthen.
    classes = {count.name for count in counted.simd}
    assert ("sdot" in classes) == (device in WITH_DOT_PRODUCT)


def test_attention_of_litert_is_the_same_on_every_core_and_nearly_so_here() -> None:
    here, *cores = (
        seen_on(device, "attention", Runtime.LITERT, Precision.INT8) for device in DEVICES
    )
    golden = golden_outputs(here.made)
    assert here.outputs == as_bytes(golden)
    assert {core.outputs for core in cores} == {cores[0].outputs}
    answers = np.stack([np.frombuffer(output, np.float32) for output in cores[0].outputs])
    steps = np.diff(np.unique(golden))
    apart = np.abs(answers - golden.reshape(answers.shape)) / steps[steps > 1e-6].min()
    assert 0 < apart.max() < MOST_STEPS + 0.5
    outputs = cores[0].validation.outputs
    assert (
        outputs.tolerance_reason == "LiteRT's int8 BATCH_MATMUL and SOFTMAX round otherwise on Arm"
    )
    assert (outputs.outputs_differing, outputs.decisions_differing) == (0, 0)


@pytest.mark.parametrize("device", CORES)
def test_float32_outputs_are_within_a_hundred_thousandth(device: str) -> None:
    seen = seen_on(device, FLOAT32_NETWORK, Runtime.LITERT, Precision.FLOAT32)
    outputs = seen.validation.outputs
    assert outputs.tolerance_ratio == FLOAT.ratio
    assert (outputs.samples, outputs.outputs_differing, outputs.decisions_differing) == (16, 0, 0)


def gate(bundle: Path, device: str) -> None:
    place = Place(on=device, kit=require_kit(), ram_bytes=None, cache_root=CACHE)
    validate(bundle, place, bundle.with_name("validated.zip"))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_one_flipped_byte_of_a_weight_is_caught(tmp_path: Path, runtime: Runtime) -> None:
    bundle = tmp_path / "bundle.zip"
    bundle.write_bytes(flipped(bundle_of("resnet", runtime), tmp_path))
    with pytest.raises(ParityError, match=r"of 16 golden samples, \d+ outputs are not equal to"):
        gate(bundle, CORES[0])
    assert not bundle.with_name("validated.zip").exists()


def flipped(made: Made, folder: Path) -> bytes:
    """Return the bundle with a byte of the model inverted that this machine's outputs show."""
    name = made.opened.manifest.model
    model = bundles.read_file(made.opened, name)
    for place in range(len(model) // 2, len(model), 997):
        wrong = bytearray(model)
        wrong[place] ^= 0xFF
        path = folder / "wrong.zip"
        path.write_bytes(with_files(made.opened, {name: bytes(wrong)}))
        changed = Made(network=made.network, opened=bundles.open_bundle(path))
        with contextlib.suppress(DeviceError):  # the runtime may refuse it
            outputs = look(changed, DEVICES[0], require_kit(), CACHE, runs=0).outputs
            if outputs != as_bytes(golden_outputs(made)):
                return path.read_bytes()
    raise AssertionError("no byte of the model changes its outputs")


def test_a_float32_output_a_little_beyond_its_tolerance_is_caught(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.zip"
    made = bundle_of(FLOAT32_NETWORK, Runtime.LITERT, Precision.FLOAT32)
    bundle.write_bytes(moved(made, tolerances=0.5))
    gate(bundle, CORES[0])
    bundle.write_bytes(moved(made, tolerances=2.0))
    with pytest.raises(ParityError, match=r"of 16 golden samples, 1 outputs are not within 1e-05"):
        gate(bundle, CORES[0])


def moved(made: Made, *, tolerances: float) -> bytes:
    """Return the bundle with one golden output off by so many times what is allowed."""
    arrays = {name: array.copy() for name, array in read_golden(made.opened).items()}
    outputs = arrays["outputs"]
    outputs[3, 0] += np.float32(tolerances * FLOAT.ratio * np.abs(outputs).max())
    return with_files(made.opened, {bundles.GOLDEN: save(arrays)})
