"""The script for 32-bit handhelds: what it is given to run with, and what it makes of bundles."""

import gc
import importlib.metadata
import importlib.util
import json
import sys
import types
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load

from packager.apps import PayloadFile, legacy
from packager.apps.events import GoldenEvent, Marker, MarkEvent, ProgramEvent, of_kind, read_events
from packager.apps.handheld import sources_root
from packager.archives import zip_bytes
from packager.artifacts import File, Precision, Runtime
from packager.bundles import OpenedBundle, open_bundle
from packager.contract.golden import output_tolerance
from packager.devices import Architecture
from packager.errors import BundleError, ConfigError, ParityError
from packager.stages.bundle import bundle
from tests import bundle_example

DEVICE = "qemu-user:cortex-a7"
TARGET = "ultrasound-handheld-armv7"
Change = Callable[[NDArray[np.int8]], NDArray[np.generic]]
Files = dict[str, bytes]


def write_bundle(folder: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Path:
    session = bundle_example.MeanSession()
    monkeypatch.setattr("packager.stages.bundle.open_session", lambda _: session)
    contents = bundle_example.contents(folder)
    made = replace(contents, target=TARGET, converted=replace(contents.converted, runtime=runtime))
    return bundle.run(folder, made).archive.path


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_bundle(tmp_path, Runtime.TFLITE_LEGACY, monkeypatch)


@pytest.fixture
def scan(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Return the script, as it starts on a device with tflite-runtime."""
    path = sources_root() / "handheld" / "legacy" / legacy.PROGRAM
    spec = importlib.util.spec_from_file_location("scan_of_a_handheld", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(gc, "disable", lambda: None)
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.14.0")
    give_runtime(monkeypatch, lambda outputs: outputs)
    return module


def give_runtime(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """Let the device have a runtime that answers as the bundle's program does, but for `change`."""

    class Interpreter:
        def __init__(self, *, model_content: bytes, num_threads: int) -> None:
            assert (model_content[:4], num_threads) == (b"TFL3", 1)

        def allocate_tensors(self) -> None:
            pass

        def get_input_details(self) -> list[dict[str, int]]:
            return [{"index": 0}]

        def get_output_details(self) -> list[dict[str, int]]:
            return [{"index": 7}]

        def set_tensor(self, index: int, sample: NDArray[np.int8]) -> None:
            assert (index, sample.shape[0]) == (0, 1)
            self.sample = sample

        def invoke(self) -> None:
            pass

        def get_tensor(self, index: int) -> NDArray[np.generic]:
            assert index == 7
            answer = bundle_example.MeanSession().run(self.sample)
            return change(np.asarray(answer, np.int8))

    module = types.ModuleType("tflite_runtime.interpreter")
    module.__dict__["Interpreter"] = Interpreter
    monkeypatch.setitem(sys.modules, "tflite_runtime", types.ModuleType("tflite_runtime"))
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", module)


def printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def read_all(archive: Path) -> Files:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


# What goes onto the device


def opened_for(runtime: Runtime, archive: Path) -> OpenedBundle:
    opened = open_bundle(archive)
    return replace(opened, manifest=replace(opened.manifest, runtime=runtime))


def test_device_is_given_the_script_alone(archive: Path) -> None:
    payload = legacy.build(opened_for(Runtime.TFLITE_LEGACY, archive), Architecture.ARMV7)
    script = sources_root() / "handheld" / "legacy" / "scan.py"
    assert payload.program == PayloadFile(name="scan.py", file=File.of(script))
    assert payload.libraries == ()
    assert payload.command == ("/usr/bin/python3.11", "-sP", "scan.py")
    assert payload.architecture is Architecture.ARMV7


@pytest.mark.parametrize("architecture", [Architecture.X86_64, Architecture.AARCH64])
def test_other_processor_is_refused(archive: Path, architecture: Architecture) -> None:
    with pytest.raises(ConfigError) as caught:
        legacy.build(opened_for(Runtime.TFLITE_LEGACY, archive), architecture)
    assert str(caught.value) == (
        f"{TARGET}: is made for armv7l, not {architecture}. "
        "Name a device with 32-bit Arm, such as qemu-user:cortex-a7."
    )


def test_bundle_of_another_runtime_is_refused(archive: Path) -> None:
    with pytest.raises(ConfigError, match="runs on litert, which has an app of its own"):
        legacy.build(opened_for(Runtime.LITERT, archive), Architecture.ARMV7)


# What the script shares with packager, which it cannot import


def test_script_tolerates_what_packager_does(scan: types.ModuleType) -> None:
    ratios = {str(p): output_tolerance(p, Runtime.TFLITE_LEGACY, ()).ratio for p in Precision}
    assert ratios == scan.TOLERANCE_RATIO
    assert Runtime.TFLITE_LEGACY == scan.RUNTIME


def test_script_marks_the_places_that_packager_counts_between(scan: types.ModuleType) -> None:
    names = {tag.name: int(tag) for tag in scan.Tag}
    assert names == {name: int(Marker[name]) for name in names}


def test_script_ends_with_the_exit_codes_of_packager(scan: types.ModuleType) -> None:
    assert (ParityError.exit_code, BundleError.exit_code) == (
        scan.Exit.DIFFERS,
        scan.Exit.BAD_BUNDLE,
    )


# What it does


def test_device_that_answers_as_promised_passes(
    scan: types.ModuleType, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scan.main(["--bundle", str(archive), "--selftest", "--marks"]) == 0
    events = read_events(capsys.readouterr().out.encode(), DEVICE)
    opened = open_bundle(archive)
    digests = {file.name: file.sha256 for file in opened.manifest.files}
    (program,) = of_kind(events, ProgramEvent)
    assert program.runtime == "tflite-runtime 2.14.0"
    assert program.model_sha256 == digests["model.tflite"]
    assert program.contract_sha256 == digests["contract.json"]
    golden = load(read_all(archive)["golden.safetensors"])
    samples = of_kind(events, GoldenEvent)
    assert [event.output for event in samples] == [row.tobytes() for row in golden["outputs"]]
    # The contract is not run on this device, and the script does not say that it was.
    assert {(event.input_equal, event.decision) for event in samples} == {(None, None)}
    pairs = [Marker.INFERRING, Marker.INFERRED] * len(samples)
    assert [mark.tag for mark in of_kind(events, MarkEvent)] == [
        Marker.STARTED, Marker.READY, *pairs, Marker.DONE,
    ]  # fmt: skip


def test_device_that_answers_otherwise_fails(
    scan: types.ModuleType,
    archive: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    give_runtime(monkeypatch, lambda outputs: outputs[:, ::-1])
    assert scan.main(["--bundle", str(archive), "--selftest"]) == 5
    lines = printed(capsys)
    judged = [line["within"] for line in lines if line["event"] == "golden"]
    assert not all(judged)
    (selftest,) = [line for line in lines if line["event"] == "selftest"]
    assert selftest == {
        "event": "selftest", "passed": False, "samples": 16, "failed": judged.count(False),
    }  # fmt: skip


@pytest.mark.parametrize(("off", "code"), [(0, 0), (2, 0), (5, 5)])
def test_error_counts_beside_the_largest_golden_output(
    scan: types.ModuleType, archive: Path, monkeypatch: pytest.MonkeyPatch, off: int, code: int
) -> None:
    # The largest is 102: 3 % of that are three steps.
    give_runtime(monkeypatch, lambda outputs: (outputs - np.int8(off)).astype(np.int8))
    golden = load(read_all(archive)["golden.safetensors"])
    assert 67 <= np.abs(golden["outputs"].astype(int)).max() <= 133
    assert scan.main(["--bundle", str(archive), "--selftest"]) == code


@pytest.mark.parametrize("wrong", [np.nan, np.inf], ids=["nan", "infinity"])
def test_output_that_is_no_number_is_never_within(scan: types.ModuleType, wrong: float) -> None:
    wanted = np.array([1.0, 2.0], np.float32)
    output = np.array([1.0, wrong], np.float32)
    assert scan.difference(output, wanted, 1e9) == (None, False)


def test_output_of_another_type_is_never_within(scan: types.ModuleType) -> None:
    wanted = np.array([1.0, 2.0], np.float32)
    assert scan.difference(wanted.astype(np.float64), wanted, 1e9) == (None, False)


def test_bench_runs_the_first_sample_as_often_as_asked(
    scan: types.ModuleType, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scan.main(["--bundle", str(archive), "--bench", "3", "--operators"]) == 0
    lines = {line["event"]: line for line in printed(capsys)}
    assert len(lines["bench"]["infer_ns"]) == 3
    assert lines["operators"]["operators"] is None


# What it refuses


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--selftest"], "the following arguments are required: --bundle"),
        (["--bundle", "b.zip"], "one of the arguments --selftest --bench is required"),
        (["--bundle", "b.zip", "--bench", "0"], "--bench and --threads want a number from 1"),
        (["--bundle", "b.zip", "--selftest", "frame.png"], "unrecognized arguments: frame.png"),
    ],
)
def test_wrong_arguments_are_told(
    scan: types.ModuleType, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert scan.main(arguments) == 2
    message = f"{said}. `scan.py --help` says how it is called."
    assert printed(capsys) == [{"event": "error", "code": 2, "message": message}]


def without_golden(files: Files) -> Files:
    return {name: data for name, data in files.items() if name != "golden.safetensors"}


def with_manifest(files: Files, **changes: object) -> Files:
    manifest = json.loads(files["manifest.json"]) | changes
    return files | {"manifest.json": json.dumps(manifest).encode()}


DAMAGES: dict[str, tuple[Callable[[Files], Files], str]] = {
    "changed model": (
        lambda files: files | {"model.tflite": b"TFL3" * 63 + b"TFL4"},
        "ValueError: 'model.tflite' is not the file that the manifest describes",
    ),
    "one file more": (
        lambda files: files | {"numpy.py": b"evil"},
        "ValueError: it holds other files than its manifest lists",
    ),
    "no golden samples": (
        without_golden,
        "ValueError: it holds other files than its manifest lists",
    ),
    "no manifest": (
        lambda files: {"model.tflite": files["model.tflite"]},
        "KeyError: \"There is no item named 'manifest.json' in the archive\"",
    ),
    "large manifest": (
        lambda files: files | {"manifest.json": b" " * (2**20 + 1)},
        "ValueError: 'manifest.json' is larger than 1048576 bytes",
    ),
    "manifest that is a list": (
        lambda files: files | {"manifest.json": b"[]"},
        "TypeError: list indices must be integers or slices, not str",
    ),
    "another runtime": (
        lambda files: with_manifest(files, runtime="litert"),
        "ValueError: it is made for 'litert', and this is tflite-runtime",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_bundle_is_refused(
    scan: types.ModuleType, archive: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    change, said = DAMAGES[damage]
    archive.write_bytes(zip_bytes(change(read_all(archive))))
    assert scan.main(["--bundle", str(archive), "--selftest"]) == 12
    message = f"{archive}: is no sound bundle ({said})."
    assert printed(capsys) == [{"event": "error", "code": 12, "message": message}]


def test_deep_manifest_is_refused(scan: types.ModuleType, archive: Path) -> None:
    archive.write_bytes(zip_bytes({"manifest.json": b"[" * 10**6}))
    assert scan.main(["--bundle", str(archive), "--selftest"]) == 12


def test_bundle_that_is_cut_short_is_refused(
    scan: types.ModuleType, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = archive.read_bytes()
    for size_bytes in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        archive.write_bytes(whole[:size_bytes])
        assert scan.main(["--bundle", str(archive), "--selftest"]) == 12
        assert [line["code"] for line in printed(capsys)] == [12]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (200).to_bytes(8, "little")
        + b'{"inputs": {"dtype": "I8", "shape": [1, 4], "data_offsets": [0, 4]}}'.ljust(200),
        (200).to_bytes(8, "little")
        + b'{"inputs": {"dtype": "I8", "shape": [9, 9], "data_offsets": [0, 4]}}'.ljust(200)
        + b"1234",
        (200).to_bytes(8, "little")
        + b'{"inputs": {"dtype": "O", "shape": [4], "data_offsets": [0, 4]}}'.ljust(200)
        + b"1234",
    ],
    ids=["empty", "long", "bare", "list", "outside", "shape", "objects"],
)
def test_damaged_golden_file_is_refused(scan: types.ModuleType, content: bytes) -> None:
    with pytest.raises(scan.RefusalError, match="is damaged") as caught:
        scan.Golden(content)
    assert caught.value.code == 12


def test_device_without_the_runtime_is_told_so(
    scan: types.ModuleType,
    archive: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", None)
    assert scan.main(["--bundle", str(archive), "--selftest"]) == 1
    (line,) = printed(capsys)
    assert line["message"].startswith("this device has no usable tflite-runtime (")


def test_model_that_the_runtime_refuses_is_told(
    scan: types.ModuleType,
    archive: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: NDArray[np.int8]) -> NDArray[np.generic]:
        raise RuntimeError("Node 3 (CONV_2D) failed to prepare.\nAnd more.")

    give_runtime(monkeypatch, refuse)
    assert scan.main(["--bundle", str(archive), "--selftest"]) == 17
    error = printed(capsys)[-1]
    assert error["message"] == (
        "tflite-runtime refuses the model: Node 3 (CONV_2D) failed to prepare."
    )
