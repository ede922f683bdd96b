"""Ask real runtimes, hold them against PyTorch, and ship what was compared."""

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors
from torch import nn

from packager import program, runtimes
from packager.artifacts import (
    Converted,
    Cost,
    Dataset,
    File,
    Layout,
    Model,
    Parity,
    Precision,
    Reference,
    Runtime,
    Tuned,
)
from packager.bundles import open_bundle
from packager.contract import Activation, Contract
from packager.contract.answers import decisions
from packager.contract.tensors import normalise, to_device
from packager.converters import Conversion
from packager.errors import DataError, ModelError, ParityError
from packager.parity import answers as answers_module
from packager.parity.answers import read_arrays
from packager.parity.tensors import compare
from packager.stages.bundle import bundle
from packager.stages.measure import measure
from packager.stages.parity import check_parity
from packager.stages.predict import predict
from packager.target import Io
from tests import bundle_example
from tests.conftest import require_package
from tests.contracts import GRAY
from tests.networks import Residual, seeded

pytestmark = [
    # Both converters use parts of PyTorch and JAX that their next versions will lose.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SAMPLES = 150
CONTRACT = Contract(
    input_shape=(1, 28, 28),
    source=GRAY,
    full_scale=255.0,
    mean=(0.5,),
    std=(0.25,),
    activation=Activation.SOFTMAX,
    labels=("cyst", "solid"),
)
EXTRAS = {
    Runtime.EXECUTORCH: ("executorch", "android"),
    Runtime.LITERT: ("litert_torch", "litert"),
    Runtime.TFLITE_MICRO: ("tflite_micro", "micro"),
    Runtime.TFLITE_LEGACY: ("litert_torch", "litert"),
}


@dataclass(frozen=True, kw_only=True)
class World:
    """What a target's steps are given."""

    folder: Path
    dataset: Dataset
    original: Model
    tuned: Tuned
    reference: Reference
    frames: NDArray[np.uint8]
    labels: NDArray[np.int64]


def slightly_changed(network: nn.Module) -> nn.Module:
    """Return the network with weights moved by a hundredth, as fine-tuning does."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(0.01 * noise * weight.abs().mean())
    return network


def centred(network: nn.Module) -> nn.Module:
    """Return the network with a bias that lets it decide for each label about as often."""
    frames, _ = frames_and_labels()
    with torch.no_grad():
        margin = network(torch.from_numpy(normalise(frames, CONTRACT))).numpy()
        shift = float(np.median(margin[:, 1] - margin[:, 0]))
        network.get_parameter("head.bias")[1] -= shift
    return network


def frames_and_labels() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    labels = np.arange(SAMPLES, dtype=np.int64) % 2
    brightness = 90 + 60 * labels[:, np.newaxis, np.newaxis] + rng.normal(0, 25, (SAMPLES, 1, 1))
    frames = brightness + rng.normal(0, 40, (SAMPLES, 28, 28))
    return np.clip(frames, 0, 255).astype(np.uint8), labels


def saved(network: nn.Module, path: Path) -> File:
    return program.save(network, path, CONTRACT.input_shape)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("parity")
    frames, labels = frames_and_labels()
    np.savez(folder / "evaluation.npz", frames=frames, labels=labels)
    file = File.of(folder / "evaluation.npz")
    raw = {f"frame_{place:03}": frame for place, frame in enumerate(frames[:16])}
    few = {"samples": np.arange(16), "labels": labels[:16], "orientations": np.ones(16, np.int64)}
    np.savez(folder / "golden.npz", allow_pickle=False, **raw, **few)
    dataset = Dataset(
        finetune=file,
        validation=file,
        calibration=file,
        evaluation=file,
        golden=File.of(folder / "golden.npz"),
        origin="drawn for a test",
        simulated=True,
    )
    cost = Cost(parameters=1, macs=1, sparsity_ratio=0.0)
    original = Model(
        program=saved(centred(seeded(Residual)), folder / "original.pt2"),
        input_shape=CONTRACT.input_shape,
        cost=cost,
    )
    network = slightly_changed(centred(seeded(Residual)))
    tuned = Tuned(program=saved(network, folder / "tuned.pt2"), history=(), best_epoch=0)
    (folder / "reference").mkdir()
    reference = predict.run(folder / "reference", original, tuned, dataset, CONTRACT)
    return World(
        folder=folder,
        dataset=dataset,
        original=original,
        tuned=tuned,
        reference=reference,
        frames=frames,
        labels=labels,
    )


CONVERTED: dict[tuple[Runtime, Precision, float], Converted] = {}


def convert(
    world: World, runtime: Runtime, precision: Precision, *, calibrated: float = 1.0
) -> Converted:
    """Convert the tuned network, on calibration samples of `calibrated` times their range."""
    require_package(*EXTRAS[runtime])
    key = (runtime, precision, calibrated)
    if key not in CONVERTED:
        out = world.folder / f"{runtime}-{precision}-{calibrated}"
        out.mkdir()
        network = program.load(world.tuned.program)
        samples = normalise(world.frames[:48], CONTRACT) * np.float32(calibrated)
        CONVERTED[key] = _converter(runtime)(out, network, samples, conversion(runtime, precision))
    return CONVERTED[key]


def _converter(runtime: Runtime):  # type: ignore[no-untyped-def] # noqa: ANN202 two of one signature
    if runtime is Runtime.EXECUTORCH:
        from packager.converters import executorch

        return executorch.convert
    from packager.converters import litert

    return litert.convert


def conversion(runtime: Runtime, precision: Precision) -> Conversion:
    """Return what the targets of the runtime want."""
    first = runtime is Runtime.EXECUTORCH
    io = Io(
        layout=Layout.CHANNELS_FIRST if first else Layout.CHANNELS_LAST,
        dtype=precision if runtime is Runtime.TFLITE_MICRO else Precision.FLOAT32,
    )
    return Conversion(runtime=runtime, precision=precision, io=io, rewrites=())


def parity_of(world: World, converted: Converted, out: Path) -> Parity:
    out.mkdir(exist_ok=True)
    return check_parity.run(out, converted, world.reference, world.dataset, CONTRACT)


def direct_answers(file: File, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Ask a network without any of the code under test."""
    network = torch.export.load(file.path).module()
    batch = (torch.from_numpy(frames).float()[:, None] / 255 - 0.5) / 0.25
    with torch.no_grad():
        answers: NDArray[np.float32] = network(batch).numpy()
    return answers


# What the float networks answer


def test_reference_holds_what_both_networks_answer(world: World) -> None:
    scores = read_arrays(world.reference.scores)
    assert scores.keys() == {"labels", "original", "tuned"}
    np.testing.assert_array_equal(scores["labels"], world.labels)
    for name, file in (("original", world.original.program), ("tuned", world.tuned.program)):
        assert scores[name].dtype == np.float32
        # The same sums, in another order where the batch is split.
        given = scores[name].astype(np.float32)
        np.testing.assert_allclose(given, direct_answers(file, world.frames), atol=1e-5)
    assert not np.array_equal(scores["original"], scores["tuned"])


def test_reference_names_what_computed_it(world: World) -> None:
    version = torch.__version__.partition("+")[0]
    assert world.reference.runtime == f"PyTorch {version} on {runtimes.machine()}"


def test_reference_has_the_same_bytes_with_any_number_of_threads(
    world: World, tmp_path: Path
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        again = predict.run(tmp_path, world.original, world.tuned, world.dataset, CONTRACT)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert again.scores.sha256 == world.reference.scores.sha256


def test_reference_is_the_same_in_small_batches(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_module, "BATCH", 7)
    again = predict.run(tmp_path, world.original, world.tuned, world.dataset, CONTRACT)
    scores, known = read_arrays(again.scores), read_arrays(world.reference.scores)
    one, two = (arrays["tuned"].astype(np.float32) for arrays in (scores, known))
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_network_that_answers_nan_is_named(world: World, tmp_path: Path) -> None:
    network = seeded(Residual)
    with torch.no_grad():
        network.get_parameter("head.weight")[0, 0] = torch.nan
    broken = replace(world.tuned, program=saved(network, tmp_path / "broken.pt2"))
    with pytest.raises(ModelError) as caught:
        predict.run(tmp_path, world.original, broken, world.dataset, CONTRACT)
    message = str(caught.value)
    assert message.startswith("model: the fine-tuned network answers [nan, ")
    assert message.endswith(
        "to evaluation sample 0. Training diverged: lower its learning_rate, or mend the weights."
    )


def test_label_without_a_sample_is_found_before_any_conversion(
    world: World, tmp_path: Path
) -> None:
    three = CONTRACT.model_copy(update={"labels": ("cyst", "solid", "other")})
    with pytest.raises(DataError, match="no sample has the label 'other'"):
        predict.run(tmp_path, world.original, world.tuned, world.dataset, three)


# What the converted programs answer


@pytest.mark.parametrize("runtime", Runtime)
def test_int8_program_decides_as_the_networks_do(
    world: World, tmp_path: Path, runtime: Runtime
) -> None:
    converted = convert(world, runtime, Precision.INT8)
    parity = parity_of(world, converted, tmp_path)
    scores = read_arrays(parity.scores)
    expected = runtimes.predict(converted, normalise(world.frames, CONTRACT))
    np.testing.assert_array_equal(scores["converted"], expected)
    for name in ("labels", "original", "tuned"):
        np.testing.assert_array_equal(
            scores[name], read_arrays(world.reference.scores)[name], err_msg=name
        )
    assert parity.conversion.samples == SAMPLES
    # Eight bits leave about 30 dB on a network of this size; noise as loud as the signal, 0.
    assert parity.conversion.tensors.sqnr_db is not None
    assert parity.conversion.tensors.sqnr_db > 20
    assert parity.whole.agreement.estimate > 0.93
    # Not by being identical to what it is compared with.
    assert parity.conversion.tensors.max_abs_error > 1e-4


@pytest.mark.parametrize("runtime", Runtime)
def test_float32_twin_computes_the_same(world: World, tmp_path: Path, runtime: Runtime) -> None:
    converted = convert(world, runtime, Precision.FLOAT32)
    parity = parity_of(world, converted, tmp_path)
    assert parity.conversion.decisions_changed == 0
    # float32 keeps 24 bits, which is 140 dB; sums in another order cost a few of them.
    assert parity.conversion.tensors.sqnr_db is not None
    assert parity.conversion.tensors.sqnr_db > 90


def test_comparisons_are_between_the_programs_that_they_name(world: World, tmp_path: Path) -> None:
    converted = convert(world, Runtime.LITERT, Precision.INT8)
    parity = parity_of(world, converted, tmp_path)
    scores = {n: a.astype(np.float32) for n, a in read_arrays(parity.scores).items()}
    device = f"{parity.runtime}, int8"
    for comparison, before, after, names in (
        (parity.pruning, "original", "tuned", ("original", "pruned and tuned")),
        (parity.conversion, "tuned", "converted", ("pruned and tuned", device)),
        (parity.whole, "original", "converted", ("original", device)),
    ):
        assert (comparison.reference, comparison.candidate) == names
        one, two = scores[before], scores[after]
        differ = decisions(one, CONTRACT) != decisions(two, CONTRACT)
        assert comparison.decisions_changed == int(differ.sum())
        assert comparison.agreement.estimate == pytest.approx(1 - differ.mean())
        assert comparison.tensors == compare(one, two)
        right = [float((x.argmax(axis=1) == world.labels).mean()) for x in (one, two)]
        accuracy = comparison.metrics[0]
        assert (accuracy.reference_score, accuracy.candidate_score) == pytest.approx(right)
        assert accuracy.drop.estimate == pytest.approx(right[0] - right[1])


def test_evidence_shows_the_samples_that_moved_most(world: World, tmp_path: Path) -> None:
    parity = parity_of(world, convert(world, Runtime.LITERT, Precision.INT8), tmp_path)
    scores = read_arrays(parity.scores)
    shown = scores["shown"].astype(np.int64)
    assert len(shown) == len(set(shown.tolist())) == 12
    np.testing.assert_array_equal(scores["frames"], world.frames[shown])
    original, converted = (scores[n].astype(np.float32) for n in ("original", "converted"))
    differ = decisions(original, CONTRACT) != decisions(converted, CONTRACT)
    assert differ[shown].tolist() == sorted(differ[shown].tolist(), reverse=True)
    assert differ[shown].sum() == min(12, differ.sum())


def test_parity_has_the_same_bytes_twice(world: World, tmp_path: Path) -> None:
    converted = convert(world, Runtime.LITERT, Precision.INT8)
    one, two = (parity_of(world, converted, tmp_path / name) for name in ("one", "two"))
    assert replace(one, scores=two.scores) == two
    assert one.scores.sha256 == two.scores.sha256


# What parity must find


def test_clipped_ranges_are_found(world: World, tmp_path: Path) -> None:
    sound = parity_of(world, convert(world, Runtime.LITERT, Precision.INT8), tmp_path)
    clipped = convert(world, Runtime.LITERT, Precision.INT8, calibrated=0.05)
    parity = parity_of(world, clipped, tmp_path / "clipped")
    assert parity.conversion.tensors.sqnr_db is not None
    assert sound.conversion.tensors.sqnr_db is not None
    assert parity.conversion.tensors.sqnr_db < 10 < sound.conversion.tensors.sqnr_db - 10


def test_program_of_another_network_is_found(world: World, tmp_path: Path) -> None:
    stranger = saved(slightly_changed(Residual().eval()), tmp_path / "stranger.pt2")
    (tmp_path / "reference").mkdir()
    other = predict.run(
        tmp_path / "reference",
        replace(world.original, program=stranger),
        replace(world.tuned, program=stranger),
        world.dataset,
        CONTRACT,
    )
    converted = convert(world, Runtime.LITERT, Precision.INT8)
    parity = check_parity.run(tmp_path, converted, other, world.dataset, CONTRACT)
    assert parity.pruning.tensors.sqnr_db is None
    assert parity.pruning.metrics[0].drop.estimate == 0.0
    assert parity.whole.tensors.sqnr_db is not None
    assert parity.whole.tensors.sqnr_db < 10
    assert parity.whole.agreement.estimate < 0.8


def test_program_that_answers_nan_is_named_with_its_runtime(world: World, tmp_path: Path) -> None:
    class Overflowing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            # A mean below 0 has no square root.
            mean = x.mean((2, 3))
            return torch.cat([mean, torch.sqrt(mean)], dim=1)

    require_package(*EXTRAS[Runtime.LITERT])
    network = program.load(saved(Overflowing(), tmp_path / "overflowing.pt2"))
    settings = conversion(Runtime.LITERT, Precision.FLOAT32)
    converted = _converter(Runtime.LITERT)(
        tmp_path, network, normalise(world.frames[:1], CONTRACT), settings
    )
    with pytest.raises(ParityError, match=r"^model\.tflite on LiteRT .* answers \[-0\..*, nan\]"):
        parity_of(world, converted, tmp_path)


# What a program takes, and how it ships


@pytest.mark.parametrize("runtime", Runtime)
def test_memory_is_measured_or_said_to_be_unknown(
    world: World, tmp_path: Path, runtime: Runtime
) -> None:
    converted = convert(world, runtime, Precision.INT8)
    measured = measure.run(tmp_path, converted)
    assert measured.flash_bytes == converted.program.path.stat().st_size
    if runtime is Runtime.TFLITE_MICRO:
        assert measured.ram_bytes is not None
        # Two maps of 16 channels of 28 x 28 live at once, at one byte a value.
        assert 2 * 16 * 28 * 28 <= measured.ram_bytes < 60_000
        assert measured.ram_source.startswith("the smallest arena in which TensorFlow Lite Micro")
    else:
        assert measured.ram_bytes is None
        assert measured.ram_source.endswith("measure it on the device")


@pytest.mark.parametrize("runtime", Runtime)
def test_bundled_program_gives_the_bundled_answers(
    world: World, tmp_path: Path, runtime: Runtime
) -> None:
    archive = bundled(world, runtime, tmp_path)
    opened = open_bundle(archive)
    with zipfile.ZipFile(archive) as files:
        golden = load_tensors(files.read("golden.safetensors"))
        shipped = Path(files.extract(opened.manifest.model, tmp_path / "device"))
    io = opened.contract
    # What an app on the device does, from the bundle alone.
    frames = np.stack([golden[f"frame_{place:03}"] for place in range(16)])
    inputs = to_device(normalise(frames, io.contract), io.input)
    np.testing.assert_array_equal(inputs, golden["inputs"])
    assert inputs.shape[1:] == io.input.shape[1:]
    program_file = replace(convert(world, runtime, Precision.INT8), program=File.of(shipped))
    outputs = runtimes.open_session(program_file).run(inputs)
    np.testing.assert_array_equal(outputs, golden["outputs"])
    assert set(golden["labels"].tolist()) == {0, 1}
    np.testing.assert_array_equal(frames, world.frames[:16])


@pytest.mark.parametrize("runtime", Runtime)
def test_bundle_has_the_same_bytes_in_two_folders_and_names_none(
    world: World, tmp_path: Path, runtime: Runtime
) -> None:
    one = bundled(world, runtime, tmp_path / "one")
    two = bundled(world, runtime, tmp_path / "two" / "deeper")
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as files:
        for name in files.namelist():
            content = files.read(name)
            for place in (tmp_path, world.folder, Path.home(), Path(__file__).parent.parent):
                assert str(place).encode() not in content, f"{place} in {name}"


def bundled(world: World, runtime: Runtime, folder: Path) -> Path:
    example = bundle_example.contents(folder)
    contents = replace(
        example,
        converted=convert(world, runtime, Precision.INT8),
        golden=world.dataset.golden,
        contract=CONTRACT,
    )
    return bundle.run(folder, contents).archive.path
