"""Bundles are run on emulated devices; what each gate is there for is done, and caught."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from packager import bundles, cli, runtimes, target
from packager.apps import handheld
from packager.archives import zip_bytes
from packager.artifacts import File
from packager.assessment import read_golden
from packager.bundles import BundledFile, OpenedBundle, open_bundle
from packager.contract import Activation, Contract
from packager.contract.frames import Frame
from packager.contract.spec import Colour, ImageSource, Resize, ResizeMode
from packager.errors import BudgetError, OfflineError, ParityError
from packager.validate import Place, Validated, validate
from packager.verdicts import Outcome
from tests.conftest import require_kit, require_package

require_package("ai_edge_litert", "litert")
require_package("litert_torch", "litert")
require_kit()

from tests.integration import litert_programs
from tests.integration.scan_programs import FOLDER, write_bundle
from tests.networks import Residual

pytestmark = [
    # litert-torch and PyTorch warn of their own code.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

TARGET = "ultrasound-handheld-arm64"
CORE = "qemu-user:cortex-a72"
MACHINE = "qemu-system:cortex-a72"
CACHE = Path(FOLDER.name) / "cache"
CONTRACT = Contract(
    input_shape=(1, 28, 28),
    source=ImageSource(kind="image", colour=Colour.GRAY, bits=8),
    resize=Resize(mode=ResizeMode.ANTIALIAS),
    full_scale=255.0,
    mean=(0.5,),
    std=(0.25,),
    activation=Activation.SOFTMAX,
    labels=("benign", "malignant"),
)
LEAK = """
#include <sys/socket.h>
namespace {
const int leak = socket(AF_INET, SOCK_STREAM, 0);
}
"""


@lru_cache(maxsize=1)
def built() -> Path:
    """Return a bundle of an int8 network with 8 golden frames, for a handheld."""
    rng = np.random.default_rng(0)
    frames = [Frame(pixels=rng.integers(0, 256, (64, 48)).astype(np.uint8)) for _ in range(8)]
    program = litert_programs.convert(Residual, litert_programs.HANDHELD)
    return write_bundle(program, CONTRACT, frames, target=TARGET)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    shutil.copy(built(), tmp_path / "bundle.zip")
    return tmp_path / "bundle.zip"


def on(device: str, *, ram_bytes: int | None = None) -> Place:
    return Place(on=device, kit=require_kit(), ram_bytes=ram_bytes, cache_root=CACHE)


def run(bundle: Path, place: Place) -> Validated:
    return validate(bundle, place, bundle)


def emulators() -> set[str]:
    """Return the emulators that this process has started."""
    found = set()
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended in the meantime
            if b"qemu-" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.add(child)
    return found


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield
    assert list(temporary.glob("packager-*")) == []
    assert emulators() == set()


def test_a_bundle_that_keeps_its_promises_takes_the_evidence_along(bundle: Path) -> None:
    before = open_bundle(bundle)
    record = run(bundle, on(CORE)).record
    seen = record.validation
    assert {verdict.outcome for verdict in record.verdicts} == {Outcome.MET}
    assert (seen.outputs.samples, seen.outputs.outputs_differing) == (8, 0)
    assert (seen.outputs.inputs_differing, seen.outputs.decisions_differing) == (0, 0)
    assert seen.runtime == "LiteRT 2.3.0 on aarch64"
    assert seen.instructions is not None
    assert seen.instructions.repeats
    assert {count.name for count in seen.instructions.simd} >= {"smlal", "load", "store", "simd"}
    assert seen.offline is not None
    assert seen.offline.network_calls == ()
    assert dict(seen.offline.calls)["openat"] > 0
    assert [each.what for each in seen.not_measured] == ["peak memory", "latency"]

    after = open_bundle(bundle)
    assert after.validations == (record,)
    assert record.files == (
        "scan-aarch64",
        "scan-aarch64-notices.txt",
        "run-qemu-user-cortex-a72.jsonl",
        "calls-qemu-user-cortex-a72.txt",
    )
    program = bundles.read_file(after, "scan-aarch64")
    assert BundledFile.of("scan", program).sha256 == seen.ran[0].sha256
    assert program.startswith(b"\x7fELF")
    added = {*record.files, "validation.json"}
    kept = tuple(file for file in after.manifest.files if file.name not in added)
    assert kept == before.manifest.files


def test_a_whole_machine_tells_of_memory_operators_and_its_network(bundle: Path) -> None:
    record = run(bundle, on(MACHINE)).record
    seen = record.validation
    assert {verdict.outcome for verdict in record.verdicts} == {Outcome.MET}
    assert seen.memory is not None
    assert seen.memory.limit_bytes == 268_435_456
    # A loaded runtime and a small network: more than half a megabyte, and not ten.
    assert 5e5 < seen.memory.peak_bytes < 1e7
    assert seen.offline is not None
    assert seen.offline.network_devices == ("lo",)
    assert seen.instructions is not None
    assert seen.instructions.repeats
    shares = [cost.share_ratio for cost in seen.instructions.operators]
    assert len(shares) >= 5
    assert sum(shares) == pytest.approx(1.0)
    assert shares == sorted(shares, reverse=True)


def flipped(opened: OpenedBundle) -> bytes:
    """Return the bundle with one bit of one weight turned over, its digests made to fit."""
    files = {file.name: bundles.read_file(opened, file.name) for file in opened.manifest.files}
    model = opened.manifest.model
    files[model] = with_a_wrong_weight(files[model], read_golden(opened)["inputs"])
    described = tuple(BundledFile.of(name, data) for name, data in sorted(files.items()))
    manifest = replace(opened.manifest, files=described)
    return zip_bytes(files | {bundles.MANIFEST: bundles.json_bytes(manifest)})


def with_a_wrong_weight(program: bytes, inputs: NDArray[np.generic]) -> bytes:
    """Return a program that still loads on this machine, and answers otherwise."""
    source = litert_programs.convert(Residual, litert_programs.HANDHELD)
    right = runtimes.open_session(source).run(inputs)
    for place in range(len(program) // 2, len(program), 97):
        wrong = bytearray(program)
        wrong[place] ^= 0x40
        path = Path(tempfile.mkdtemp(dir=FOLDER.name)) / "model.tflite"
        path.write_bytes(wrong)
        try:
            answers = runtimes.open_session(replace(source, program=File.of(path))).run(inputs)
        except (RuntimeError, ValueError):
            continue
        if not np.array_equal(answers, right):
            return bytes(wrong)
    raise AssertionError("no byte of the program changes its answers")


def test_one_flipped_bit_of_a_weight_is_caught(bundle: Path) -> None:
    bundle.write_bytes(flipped(open_bundle(bundle)))
    before = bundle.read_bytes()
    with pytest.raises(ParityError, match=r"qemu-user:cortex-a72: of 8 golden samples, \d outputs"):
        run(bundle, on(CORE))
    assert bundle.read_bytes() == before


def test_a_program_that_opens_a_socket_is_caught(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = shutil.copytree(handheld.sources_root(), tmp_path / "sample_apps")
    with (sources / "handheld/cpp/src/main.cpp").open("a") as main:
        main.write(LEAK)
    monkeypatch.setattr(handheld, "sources_root", lambda: sources)
    before = bundle.read_bytes()
    with pytest.raises(OfflineError, match=r"the program made 1 network calls .*socket\(PF_INET"):
        run(bundle, on(CORE))
    assert bundle.read_bytes() == before


def test_a_program_that_needs_more_memory_than_there_is_is_caught(bundle: Path) -> None:
    before = bundle.read_bytes()
    with pytest.raises(BudgetError, match=r"peak memory is [\d,]+ bytes, [\d,]+ bytes over the"):
        run(bundle, on(MACHINE, ram_bytes=2**19))
    assert bundle.read_bytes() == before


def test_a_program_that_takes_too_many_instructions_is_caught(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = (target.default_root() / TARGET / target.PROFILE).read_text("utf-8")
    slow = tmp_path / "targets" / TARGET
    slow.mkdir(parents=True)
    limits = profile.replace(
        "max_inference_instructions = 50_000_000", "max_inference_instructions = 1000"
    )
    (slow / target.PROFILE).write_text(limits, "utf-8")
    monkeypatch.setattr(target, "default_root", lambda: slow.parent)
    with pytest.raises(BudgetError, match=r"an inference is [\d,]+ instructions, .* of 1,000\."):
        run(bundle, on(CORE))


def test_the_command_line_says_what_was_seen(bundle: Path) -> None:
    arguments = ["validate", str(bundle), "--on", CORE, "--cache", str(CACHE), "--json"]
    answered = CliRunner().invoke(cli.app, arguments)
    assert answered.exit_code == 0, answered.output
    (record,) = json.loads(answered.stdout)
    assert record["validation"]["device"] == CORE
    assert {verdict["outcome"] for verdict in record["verdicts"]} == {"met"}
    shown = CliRunner().invoke(cli.app, ["inspect", str(bundle)])
    assert "devices that ran it" in shown.stdout
    assert f"{CORE}  6 of 6 verdicts met, by LiteRT 2.3.0 on aarch64" in shown.stdout


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("qemu-usr:cortex-a72", "Did you mean 'qemu-user'?"),
        ("qemu-user:cortex-a73", "Did you mean 'cortex-a7"),
        ("qemu-user", "name a processor"),
        ("host:other", "it is this machine"),
    ],
)
def test_a_device_that_there_is_not_is_named(bundle: Path, device: str, message: str) -> None:
    answered = CliRunner().invoke(cli.app, ["validate", str(bundle), "--on", device])
    assert answered.exit_code == 2
    assert message in answered.stderr
