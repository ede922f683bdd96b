"""What a device prints is turned into figures; the device here is one of words, and computes nothing."""

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pytest
from numpy.typing import NDArray

from packager.apps import Payload, PayloadFile
from packager.artifacts import File, Precision
from packager.assessment import Runs, assess, read_golden
from packager.bundles import OpenedBundle, open_bundle
from packager.contract.golden import FLOAT
from packager.devices import Architecture, CallTrace, Mark, Ran, Watch
from packager.errors import DeviceError
from packager.validations import (
    Latency,
    NotMeasured,
    OfflineProof,
    OutputCheck,
    PeakMemory,
    RanFile,
    SimdCount,
)
from tests.bundle_example import write_bundle


@dataclass(kw_only=True)
class Described:
    """A device as far as it describes itself."""

    name: str = "qemu-user:cortex-a53"
    description: str = "a device of words"
    architecture: Architecture = Architecture.AARCH64
    emulated: bool = True
    clock_counts_instructions: bool = False
    watches: frozenset[Watch] = frozenset()

    def put(self, source: Path, name: str) -> None:
        raise NotImplementedError

    def run(self, argv: Sequence[str], *, timeout_s: float, watch: Watch = Watch.NOTHING) -> Ran:
        raise NotImplementedError

    def get(self, name: str, destination: Path) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None


DEVICE = Described()


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenedBundle:
    return open_bundle(write_bundle(tmp_path, monkeypatch))


@pytest.fixture
def payload(tmp_path: Path) -> Payload:
    (tmp_path / "scan").write_bytes(b"ELF")
    return Payload(
        architecture=Architecture.AARCH64,
        program=PayloadFile(name="scan", file=File.of(tmp_path / "scan")),
        libraries=(),
        command=("./scan",),
        notices="",
    )


def lines(*events: dict[str, object]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


PROGRAM: dict[str, object] = {
    "event": "program",
    "runtime": "LiteRT 2.3.0",
    "architecture": "aarch64",
    "model_sha256": "a1" * 32,
    "contract_sha256": "b2" * 32,
}


def answered(opened: OpenedBundle, outputs: NDArray[np.generic] | None = None) -> bytes:
    """Return what a program prints that gives `outputs`, by default the golden ones."""
    golden = read_golden(opened)
    given = golden["outputs"] if outputs is None else outputs
    digests = {file.name: file.sha256 for file in opened.manifest.files}
    return lines(
        PROGRAM
        | {
            "model_sha256": digests["model.tflite"],
            "contract_sha256": digests["contract.json"],
        },
        *(
            {
                "event": "golden",
                "index": index,
                "input_equal": True,
                "output": b64encode(output.tobytes()).decode(),
                "decision": int(decision),
            }
            for index, (output, decision) in enumerate(zip(given, golden["decisions"], strict=True))
        ),
    )


def ran(stdout: bytes, *, returncode: int = 0, stderr: bytes = b"") -> Ran:
    return Ran(returncode=returncode, stdout=stdout, stderr=stderr)


def test_the_golden_outputs_differ_in_nothing(opened: OpenedBundle, payload: Payload) -> None:
    validation = assess(opened, DEVICE, payload, Runs(counted=ran(answered(opened))))
    assert validation.outputs == OutputCheck(
        reference="arithmetic on this machine",
        precision=Precision.INT8,
        tolerance_ratio=0.0,
        tolerance_reason="",
        samples=16,
        inputs_differing=0,
        outputs_differing=0,
        decisions_differing=0,
        max_abs_error=0.0,
    )
    assert validation.ran == (
        RanFile(name="scan", sha256=payload.program.file.sha256, size_bytes=3),
    )
    digests = {file.name: file.sha256 for file in opened.manifest.files}
    assert (validation.runtime, validation.model_sha256, validation.golden_sha256) == (
        "LiteRT 2.3.0 on aarch64",
        digests["model.tflite"],
        digests["golden.safetensors"],
    )


def test_one_step_in_one_output_is_one_difference(opened: OpenedBundle, payload: Payload) -> None:
    outputs = read_golden(opened)["outputs"].copy()
    outputs[3, 1] += 1
    outputs_check = assess(
        opened, DEVICE, payload, Runs(counted=ran(answered(opened, outputs), returncode=5))
    ).outputs
    # An int8 step of the example's output is worth 0.5.
    assert (outputs_check.outputs_differing, outputs_check.max_abs_error) == (1, 0.5)


def test_a_decision_of_the_devices_own_code_counts_as_well(
    opened: OpenedBundle, payload: Payload
) -> None:
    wanted = int(read_golden(opened)["decisions"][0])
    ran_first = answered(opened).splitlines(keepends=True)
    event = json.loads(ran_first[1])
    for decision, differing in ((1 - wanted, 1), (None, 0), (wanted, 0)):
        ran_first[1] = lines(event | {"decision": decision})
        seen = assess(opened, DEVICE, payload, Runs(counted=ran(b"".join(ran_first))))
        assert seen.outputs.decisions_differing == differing


def test_float_outputs_may_differ_by_their_tolerance_and_no_more(
    opened: OpenedBundle, payload: Payload
) -> None:
    manifest = replace(opened.manifest, precision=Precision.FLOAT32)
    as_float = replace(opened, manifest=manifest)
    assert (
        assess(as_float, DEVICE, payload, Runs(counted=ran(answered(opened)))).outputs
    ) == OutputCheck(
        reference="arithmetic on this machine",
        precision=Precision.FLOAT32,
        tolerance_ratio=1e-5,
        tolerance_reason=FLOAT.reason,
        samples=16,
        inputs_differing=0,
        outputs_differing=0,
        decisions_differing=0,
        max_abs_error=0.0,
    )
    outputs = read_golden(opened)["outputs"].copy()
    outputs[0, 0] += 1
    seen = assess(as_float, DEVICE, payload, Runs(counted=ran(answered(opened, outputs))))
    assert seen.outputs.outputs_differing == 1


def test_a_sample_that_is_missing_is_named(opened: OpenedBundle, payload: Payload) -> None:
    shorter = b"".join(answered(opened).splitlines(keepends=True)[:-1])
    with pytest.raises(DeviceError, match="answered 15 samples, and not all 16 golden ones"):
        assess(opened, DEVICE, payload, Runs(counted=ran(shorter)))


def test_an_output_of_another_size_is_named(opened: OpenedBundle, payload: Payload) -> None:
    outputs = np.zeros((16, 3), np.int8)
    with pytest.raises(DeviceError, match="gave 3 bytes for golden sample 0, not 2"):
        assess(opened, DEVICE, payload, Runs(counted=ran(answered(opened, outputs))))


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (
            ran(lines({"event": "error", "message": "model.pte: digest"}), returncode=12),
            "the program ended with exit code 12. model.pte: digest.",
        ),
        (
            ran(b'{"event": "prog', returncode=-11, stderr=b"Segmentation fault"),
            "the program was killed by signal 11. Segmentation fault.",
        ),
        (ran(b"", returncode=1), "the program ended with exit code 1. It printed nothing."),
    ],
)
def test_a_program_that_ends_badly_is_quoted(
    end: Ran, message: str, opened: OpenedBundle, payload: Payload
) -> None:
    with pytest.raises(DeviceError) as caught:
        assess(opened, DEVICE, payload, Runs(counted=end))
    assert str(caught.value) == f"qemu-user:cortex-a53: {message}"


def test_a_program_that_does_not_say_what_it_is_is_refused(
    opened: OpenedBundle, payload: Payload
) -> None:
    with pytest.raises(DeviceError, match="did not say what it is"):
        assess(opened, DEVICE, payload, Runs(counted=ran(b"")))


@pytest.mark.parametrize("key", ["model_sha256", "contract_sha256"])
def test_a_program_that_ran_another_model_or_contract_is_refused(
    key: str, opened: OpenedBundle, payload: Payload
) -> None:
    first, *rest = answered(opened).splitlines(keepends=True)
    other = lines(json.loads(first) | {key: "e5" * 32})
    with pytest.raises(DeviceError, match="ran another model, or another contract"):
        assess(opened, DEVICE, payload, Runs(counted=ran(other + b"".join(rest))))


def test_what_the_device_cannot_tell_is_listed_with_the_reason(
    opened: OpenedBundle, payload: Payload
) -> None:
    validation = assess(opened, DEVICE, payload, Runs(counted=ran(answered(opened))))
    assert [each.what for each in validation.not_measured] == [
        "instructions",
        "peak memory",
        "latency",
        "offline",
    ]
    assert validation.not_measured[2] == NotMeasured(
        what="latency", reason="an emulator knows no time; a real device does"
    )


def test_markers_of_the_plugin_become_counts(opened: OpenedBundle, payload: Payload) -> None:
    tags = [(1, 10), (2, 110), (20, 200), (21, 260), (20, 300), (21, 350)]
    marks = tuple(
        Mark(tag=tag, instructions=n, exact=True, simd=(SimdCount(name="sdot", instructions=n),))
        for tag, n in tags
    )
    counted = replace(ran(answered(opened)), marks=marks)
    runs = Runs(counted=counted, counted_again=counted)
    counts = assess(opened, DEVICE, payload, runs).instructions
    assert counts is not None
    assert counts.repeats
    assert (counts.startup, counts.first_inference, counts.inference) == (100, 60, 50)
    assert counts.source == "counted by a plugin inside the emulator"
    assert counts.simd == (SimdCount(name="sdot", instructions=50),)


def test_counts_of_another_second_run_do_not_repeat(opened: OpenedBundle, payload: Payload) -> None:
    tags = [(1, 10), (2, 110), (20, 200), (21, 260), (20, 300), (21, 350)]
    marks = [Mark(tag=tag, instructions=n, exact=True, simd=()) for tag, n in tags]
    counted = replace(ran(answered(opened)), marks=tuple(marks))
    other = replace(counted, marks=(*marks[:-1], replace(marks[-1], instructions=351)))
    counts = assess(
        opened, DEVICE, payload, Runs(counted=counted, counted_again=other)
    ).instructions
    assert counts is not None
    assert (counts.inference, counts.repeats) == (50, False)


def test_counts_of_several_threads_are_not_given(opened: OpenedBundle, payload: Payload) -> None:
    tags = [(1, 10), (2, 110), (20, 200), (21, 260), (20, 300), (21, 350)]
    marks = tuple(Mark(tag=tag, instructions=n, exact=n < 300, simd=()) for tag, n in tags)
    counted = replace(ran(answered(opened)), marks=marks)
    runs = Runs(counted=counted, counted_again=counted)
    assert assess(opened, DEVICE, payload, runs).instructions is None


def test_a_clock_that_counts_instructions_gives_operators_too(
    opened: OpenedBundle, payload: Payload
) -> None:
    tags = [(1, 10), (2, 110), (20, 200), (21, 260), (20, 300), (21, 350)]
    marks = lines(*({"event": "mark", "tag": tag, "clock_ns": ns} for tag, ns in tags))
    operators = lines({"event": "operators", "operators": [{"name": "conv", "clock_ns": 40}]})
    device = Described(clock_counts_instructions=True)
    counted = ran(answered(opened) + marks)
    runs = Runs(counted=counted, counted_again=counted, profiled=ran(operators))
    counts = assess(opened, device, payload, runs).instructions
    assert counts is not None
    assert (counts.startup, counts.inference) == (100, 50)
    assert [(cost.name, cost.instructions) for cost in counts.operators] == [("conv", 40)]


def test_the_clock_of_an_ordinary_device_counts_nothing(
    opened: OpenedBundle, payload: Payload
) -> None:
    tags = [(1, 10), (2, 110), (20, 200), (21, 260), (20, 300), (21, 350)]
    marks = lines(*({"event": "mark", "tag": tag, "clock_ns": ns} for tag, ns in tags))
    runs = Runs(counted=ran(answered(opened) + marks))
    assert assess(opened, DEVICE, payload, runs).instructions is None


def test_memory_times_and_calls_are_taken_as_the_device_gives_them(
    opened: OpenedBundle, payload: Payload
) -> None:
    trace = CallTrace(source="strace 6.1", counts=(("read", 3),), network=("socket(1)",), raw=b"")
    counted = replace(
        ran(answered(opened)),
        peak_memory_bytes=2_000_000,
        memory_limit_bytes=4_000_000,
        network_devices=("lo",),
    )
    times = [1_000_000] * 10 + [3_000_000] * 10
    runs = Runs(
        counted=counted,
        traced=replace(ran(answered(opened)), calls=trace),
        timed=ran(lines({"event": "bench", "infer_ns": times})),
    )
    validation = assess(opened, Described(emulated=False), payload, runs)
    assert validation.memory == PeakMemory(
        source="counted by the kernel for the program alone, without pages of files",
        peak_bytes=2_000_000,
        limit_bytes=4_000_000,
    )
    assert validation.latency == Latency(inferences=20, median_ms=2.0, p95_ms=3.0)
    assert validation.offline == OfflineProof(
        source="strace 6.1",
        calls=(("read", 3),),
        network_calls=("socket(1)",),
        network_devices=("lo",),
    )


def test_the_resident_set_counts_only_where_no_emulator_is_in_it(
    opened: OpenedBundle, payload: Payload
) -> None:
    told = answered(opened) + lines({"event": "memory", "peak_rss_bytes": 7_000_000})
    runs = Runs(counted=ran(told))
    assert assess(opened, DEVICE, payload, runs).memory is None
    assert assess(opened, Described(emulated=False), payload, runs).memory == PeakMemory(
        source="the largest resident set of the process, its libraries included",
        peak_bytes=7_000_000,
        limit_bytes=None,
    )


def test_a_record_of_a_run_that_broke_off_proves_nothing(
    opened: OpenedBundle, payload: Payload
) -> None:
    trace = CallTrace(source="strace 6.1", counts=(), network=(), raw=b"")
    broken = replace(ran(b"", returncode=-9), calls=trace)
    with pytest.raises(DeviceError, match="killed by signal 9"):
        assess(opened, DEVICE, payload, Runs(counted=ran(answered(opened)), traced=broken))
