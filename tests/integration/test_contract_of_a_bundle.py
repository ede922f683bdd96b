"""A bundle's contract at work: its golden frames, its code, and what other resizers would change."""

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load, save
from typer.testing import CliRunner

from packager import bundles, pipeline
from packager.bundles import OpenedBundle
from packager.check_input import check_input
from packager.cli import app
from packager.codegen import Language
from packager.contract import IoContract
from packager.contract.frames import Frame
from packager.contract.golden import Sample, prepare, self_test
from packager.contract.tensors import normalise, to_device
from packager.datasets.splits import Split
from packager.errors import BundleError, DataError
from packager.recipe import load as load_recipe
from packager.seen import Stock
from tests.conftest import require_package
from tests.languages import javascript
from tests.languages.protocol import Case, Kind, read_results, write_cases

require_package("ai_edge_litert", "litert")
require_package("litert_torch", "litert")

TARGET = "ultrasound-handheld-arm64"
HEIGHT_PX, WIDTH_PX = 64, 80

RECIPE = f"""
name = "stripes"
targets = ["{TARGET}"]

[model]
factory = "net:create"

[contract]
input_shape = [1, 16, 16]
source = {{ kind = "image", colour = "gray", bits = 8, size_px = [{HEIGHT_PX}, {WIDTH_PX}] }}
resize = {{ mode = "antialias" }}
full_scale = 255.0
mean = [0.5]
std = [0.25]
activation = "softmax"
labels = ["flat", "rough"]

[data]
source = "arrays"
finetune = "finetune.npz"
validation = "validation.npz"
calibration = "calibration.npz"
evaluation = "evaluation.npz"
origin = "drawn for a test"
simulated = true

[train]
epochs = 40
patience_epochs = 40
batch_size = 16
learning_rate = 0.01

[prune]
method = "none"

[finetune]
epochs = 1
patience_epochs = 1
batch_size = 16
learning_rate = 0.001

[limits]
min_agreement_ratio = 0.5
max_accuracy_drop = 0.5
max_auroc_drop = 0.5
min_sqnr_db = 5.0
undecided = "accept"
"""
NETWORK = """
from torch import nn

def create():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
    )
"""


def draw(samples: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return frames of fine noise, flat once it is smoothed, and of noise as coarse as the tensor."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % 2
    fine = rng.integers(0, 256, (samples, HEIGHT_PX, WIDTH_PX))
    coarse = rng.integers(0, 256, (samples, 16, 16)).repeat(4, axis=1).repeat(5, axis=2)
    frames = np.where(labels[:, np.newaxis, np.newaxis] == 1, coarse, fine)
    return frames.astype(np.uint8), labels


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stripes")
    (folder / "packager.toml").write_text(RECIPE)
    (folder / "net.py").write_text(NETWORK)
    for seed, (split, samples) in enumerate(zip(Split, (64, 16, 16, 32), strict=True)):
        frames, labels = draw(samples, seed)
        np.savez(folder / f"{split}.npz", frames=frames, labels=labels)
    recipe = load_recipe(folder / "packager.toml")
    pipeline.build(recipe, out=folder / "dist", cache_root=folder / "cache")
    return folder / "dist" / f"{TARGET}.zip"


@pytest.fixture(scope="module")
def opened(bundle: Path) -> OpenedBundle:
    return bundles.open_bundle(bundle)


@pytest.fixture(scope="module")
def golden(opened: OpenedBundle) -> Mapping[str, NDArray[np.generic]]:
    return load(bundles.read_file(opened, bundles.GOLDEN))


def fine_frame(folder: Path) -> Path:
    path = folder / "fine.png"
    Image.fromarray(draw(1, 99)[0][0]).save(path)
    return path


def test_golden_frames_are_raw_and_their_inputs_are_the_programs(
    opened: OpenedBundle, golden: Mapping[str, NDArray[np.generic]]
) -> None:
    expected, _ = draw(32, 3)
    for place, sample in enumerate(golden["samples"]):
        np.testing.assert_array_equal(golden[f"frame_{place:03}"], expected[int(sample)])
    assert golden["inputs"].shape == (16, *opened.contract.input.shape[1:])
    assert self_test(golden, opened.contract, prepare) == ()


def test_platform_scaler_in_place_of_ours_is_caught_by_the_self_test(
    opened: OpenedBundle, golden: Mapping[str, NDArray[np.generic]]
) -> None:
    def with_pillow(sample: Sample, io: IoContract) -> NDArray[np.generic]:
        assert isinstance(sample, Frame)
        image = Image.fromarray(np.asarray(sample.pixels, np.uint8))
        pixels = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR))
        return to_device(normalise(pixels[np.newaxis], io.contract), io.input)

    assert self_test(golden, opened.contract, with_pillow) == tuple(range(16))


def test_generated_code_prepares_the_golden_frames_byte_for_byte(
    opened: OpenedBundle, golden: Mapping[str, NDArray[np.generic]], tmp_path: Path
) -> None:
    cases = [
        Case(
            contract=0,
            kind=Kind.PREPARE,
            height=HEIGHT_PX,
            width=WIDTH_PX,
            payload=golden[f"frame_{place:03}"].tobytes(),
        )
        for place in range(16)
    ]
    write_cases(tmp_path / "cases", cases)
    results = read_results(javascript.run([opened.contract], tmp_path / "cases", tmp_path))
    assert [result.status for result in results] == [0] * 16
    assert [result.payload for result in results] == [row.tobytes() for row in golden["inputs"]]


@pytest.mark.parametrize("language", Language)
def test_code_of_every_language_names_the_contract_of_its_bundle(
    bundle: Path, opened: OpenedBundle, tmp_path: Path, language: Language
) -> None:
    result = CliRunner().invoke(
        app, ["code", str(bundle), "--language", language, "--out", str(tmp_path / "code")]
    )
    assert result.exit_code == 0, result.output
    listed = {file.name: file.sha256 for file in opened.manifest.files}
    written = [Path(line) for line in result.output.splitlines()]
    assert any(listed[bundles.CONTRACT] in path.read_text("utf-8") for path in written)
    assert all(path.name.lower().startswith("stripes") for path in written)


def test_check_input_shows_how_far_other_resizers_move_the_answer(
    bundle: Path, tmp_path: Path
) -> None:
    check = check_input(fine_frame(tmp_path), bundle)
    assert check.target == TARGET
    assert check.runtime.startswith("LiteRT ")
    assert check.golden == 16
    seen = {entry.resizer: entry for entry in check.seen}
    assert list(seen) == list(Stock)
    ours = seen[Stock.CONTRACT]
    assert (ours.pixels_changed_ratio, ours.max_difference, ours.label) == (0.0, 0, "flat")
    # PyTorch's antialias and Pillow's bilinear have our formula and other roundings.
    for stock in (Stock.PILLOW_BILINEAR, Stock.TORCH_ANTIALIAS):
        assert seen[stock].pixels_changed_ratio > 0
        assert seen[stock].max_difference == 1
    # Without smoothing, fine noise stays noise: another frame, and another answer.
    plain = seen[Stock.TORCH_BILINEAR]
    assert plain.max_difference > 50
    assert plain.label == "rough"
    assert plain.probability < 0.5 < ours.probability


def test_check_input_writes_its_pictures_side_by_side(bundle: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    command = ["check-input", str(fine_frame(tmp_path)), "--bundle", str(bundle)]
    result = CliRunner().invoke(app, [*command, "--out", str(sheet)])
    assert result.exit_code == 0, result.output
    assert "16 golden samples of the bundle: prepared byte for byte" in result.output
    assert "rough (another)" in result.output
    with Image.open(sheet) as picture:
        assert picture.size[0] > 1_000


def test_pictures_show_what_the_tensor_holds(bundle: Path, tmp_path: Path) -> None:
    ours = check_input(fine_frame(tmp_path), bundle).seen[0]
    frame = draw(1, 99)[0][0].astype(np.float64)
    means = frame.reshape(16, 4, 16, 5).mean(axis=(1, 3))
    # A triangle is wider than a block, so the levels agree in the mean only.
    assert abs(float(ours.picture.mean()) - float(means.mean())) < 2
    assert ours.picture.shape == (16, 16)


def test_frame_that_is_not_the_contracts_is_refused(bundle: Path, tmp_path: Path) -> None:
    colour = tmp_path / "colour.png"
    Image.new("RGB", (WIDTH_PX, HEIGHT_PX), (200, 30, 30)).save(colour)
    with pytest.raises(DataError) as caught:
        check_input(colour, bundle)
    assert str(caught.value) == (
        f"{colour}: pixels are RGB, not gray. "
        "Convert the file, or write the files' own colour into contract.source."
    )
    result = CliRunner().invoke(app, ["check-input", str(small(tmp_path)), "--bundle", str(bundle)])
    assert result.exit_code == 15
    assert "wrong-size: the frame is 32 by 40 pixels, the contract says 64 by 80." in result.output


def small(folder: Path) -> Path:
    path = folder / "small.png"
    Image.new("L", (40, 32)).save(path)
    return path


def test_golden_samples_that_come_out_otherwise_are_refused(bundle: Path, tmp_path: Path) -> None:
    def change(arrays: dict[str, NDArray[np.generic]]) -> None:
        arrays["inputs"].view(np.uint8).reshape(16, -1)[2, 5] += 1

    broken = rewritten(bundle, tmp_path / "broken.zip", change)
    with pytest.raises(BundleError) as caught:
        check_input(fine_frame(tmp_path), broken)
    assert str(caught.value) == (
        f"{broken}: golden sample 2 is prepared otherwise than when it was built. "
        "Use the version of packager that built it."
    )


def test_bundle_without_golden_samples_proves_nothing_and_is_refused(
    bundle: Path, tmp_path: Path
) -> None:
    def empty(arrays: dict[str, NDArray[np.generic]]) -> None:
        arrays["samples"] = arrays["samples"][:0]

    bare = rewritten(bundle, tmp_path / "bare.zip", empty)
    with pytest.raises(BundleError) as caught:
        check_input(fine_frame(tmp_path), bare)
    assert str(caught.value) == f"{bare}: golden.safetensors holds no sample. {bundles.REMEDY}"


def test_bundle_that_changes_after_it_was_verified_is_noticed(bundle: Path, tmp_path: Path) -> None:
    copy = rewritten(bundle, tmp_path / "copy.zip", lambda _arrays: None)
    verified = bundles.open_bundle(copy)
    longer = {"samples": np.zeros(100_000, np.int64)}
    rewritten(bundle, copy, lambda arrays: arrays.update(longer))
    with pytest.raises(BundleError) as caught:
        bundles.read_file(verified, bundles.GOLDEN)
    assert str(caught.value) == (
        f"{copy}: {bundles.GOLDEN!r}: is not the file that the manifest describes. {bundles.REMEDY}"
    )


def rewritten(
    bundle: Path, copy: Path, change: Callable[[dict[str, NDArray[np.generic]]], None]
) -> Path:
    """Copy a bundle with other golden samples, and all digests right."""
    with zipfile.ZipFile(bundle) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    arrays = load(files[bundles.GOLDEN])
    change(arrays)
    files[bundles.GOLDEN] = save(arrays)
    manifest = json.loads(files[bundles.MANIFEST])
    for entry in manifest["files"]:
        content = files[entry["name"]]
        entry["sha256"] = hashlib.sha256(content).hexdigest()
        entry["size_bytes"] = len(content)
    files[bundles.MANIFEST] = json.dumps(manifest).encode()
    with zipfile.ZipFile(copy, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return copy
