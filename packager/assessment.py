"""Turn what a device printed and what was watched into figures; judge nothing."""

import contextlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from packager import bundles
from packager.apps import Payload
from packager.apps.costs import Passed, instruction_counts, operator_costs
from packager.apps.events import (
    BenchEvent,
    ErrorEvent,
    Event,
    GoldenEvent,
    Marker,
    MarkEvent,
    MemoryEvent,
    OperatorsEvent,
    ProgramEvent,
    of_kind,
    read_events,
)
from packager.bundles import OpenedBundle
from packager.contract.answers import decisions
from packager.contract.golden import Arrays, output_tolerance
from packager.contract.tensors import dequantise
from packager.devices import Device, Ran
from packager.errors import DeviceError
from packager.validations import (
    InstructionCounts,
    Latency,
    NotMeasured,
    OfflineProof,
    OperatorCost,
    OutputCheck,
    PeakMemory,
    RanFile,
    Validation,
)

ENDED_WELL = 0
DIFFERS = 5
"""The program's exit code where its own self-test fails: we look at the outputs ourselves."""
NS_PER_MS = 1e6
SHOWN_CHARACTERS = 500
"""Of what a program printed last, where it did not end well."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The runs of one program on one device, each for what it was watched for.

    Attributes:
        counted: The self-test, with its markers.
        counted_again: The same once more, to see whether counts repeat; None where the device
            does not count.
        traced: The self-test, with its system calls; None where they cannot be seen.
        profiled: A few inferences, operator by operator; None where the clock counts nothing.
        timed: Many inferences on silicon; None on an emulator.
    """

    counted: Ran
    counted_again: Ran | None = None
    traced: Ran | None = None
    profiled: Ran | None = None
    timed: Ran | None = None


def assess(opened: OpenedBundle, device: Device, payload: Payload, runs: Runs) -> Validation:
    """Return what a device showed.

    Raises:
        DeviceError: The program did not end as it should, or printed something else.
    """
    events = _events(runs.counted, device)
    digests = {file.name: file.sha256 for file in opened.manifest.files}
    program = _program(events, device)
    ran = (program.model_sha256, program.contract_sha256)
    if ran != (digests[opened.manifest.model], digests[bundles.CONTRACT]):
        problem = "the program ran another model, or another contract, than the bundle's"
        raise DeviceError(device.name, f"{problem}. Look at what lies in the device's folder.")
    validation = Validation(
        device=device.name,
        description=device.description,
        emulated=device.emulated,
        architecture=device.architecture,
        target=opened.manifest.target,
        runtime=f"{program.runtime} on {program.architecture}",
        model_sha256=digests[opened.manifest.model],
        contract_sha256=digests[bundles.CONTRACT],
        golden_sha256=digests[bundles.GOLDEN],
        ran=tuple(
            RanFile(name=each.name, sha256=each.file.sha256, size_bytes=each.file.size_bytes)
            for each in (payload.program, *payload.libraries)
        ),
        outputs=check_outputs(opened, of_kind(events, GoldenEvent), device.name),
        instructions=_instructions(device, runs),
        memory=_memory(device, events, runs.counted),
        latency=_latency(device, runs),
        offline=_offline(device, runs),
        not_measured=(),
    )
    return replace(validation, not_measured=_not_measured(validation))


def check_outputs(opened: OpenedBundle, seen: tuple[GoldenEvent, ...], device: str) -> OutputCheck:
    """Hold the outputs that a device printed against the golden ones, value for value.

    Raises:
        DeviceError: A golden sample is missing, or an output is of another size.
    """
    golden = read_golden(opened)
    wanted, precision = golden["outputs"], opened.manifest.precision
    if [event.index for event in seen] != list(range(len(wanted))):
        problem = f"answered {len(seen)} samples, and not all {len(wanted)} golden ones in order"
        raise DeviceError(device, f"{problem}. The device runs another program, or lost output.")
    given = np.stack([_output(event, wanted[0], device) for event in seen])
    io = opened.contract.output
    real, promised = dequantise(given, io), dequantise(wanted, io)
    tolerance = output_tolerance(precision, opened.manifest.runtime, opened.operators.operators)
    if tolerance.ratio:
        differing = _beyond(real, promised, tolerance.ratio)
    else:
        differing = [
            one.tobytes() != other.tobytes() for one, other in zip(given, wanted, strict=True)
        ]
    prepared = [event.input_equal for event in seen]
    decided = decisions(real.reshape(len(seen), -1), opened.contract.contract)
    return OutputCheck(
        reference=opened.parity.runtime,
        precision=precision,
        tolerance_ratio=tolerance.ratio,
        tolerance_reason=tolerance.reason,
        samples=len(seen),
        inputs_differing=None if None in prepared else prepared.count(False),
        outputs_differing=sum(differing),
        decisions_differing=sum(
            # Ours, read from the output that it gave, and the device's own, where it made one.
            bool(promised != ours) or event.decision not in {None, int(promised)}
            for promised, ours, event in zip(golden["decisions"], decided, seen, strict=True)
        ),
        max_abs_error=float(np.abs(real.astype(np.float64) - promised).max()),
    )


def read_golden(opened: OpenedBundle) -> Arrays:
    """Return the arrays of a bundle's golden file."""
    from safetensors.numpy import load

    return load(bundles.read_file(opened, bundles.GOLDEN))


def _beyond(
    given: NDArray[np.float32], wanted: NDArray[np.float32], tolerance_ratio: float
) -> list[bool]:
    """Return for each sample whether an output is too far from the golden one; NaN is."""
    one, other = (each.reshape(len(wanted), -1).astype(np.float64) for each in (given, wanted))
    # Of all samples: those whose outputs are all small are no more exact than the others.
    allowed = tolerance_ratio * np.abs(other).max()
    return [not within for within in (np.abs(one - other) <= allowed).all(axis=1)]


def _output(event: GoldenEvent, like: NDArray[np.generic], device: str) -> NDArray[np.generic]:
    if len(event.output) != like.nbytes:
        problem = (
            f"gave {len(event.output)} bytes for golden sample {event.index}, not {like.nbytes}"
        )
        raise DeviceError(device, f"{problem}. The device runs another program.")
    return np.frombuffer(event.output, like.dtype).reshape(like.shape)


def _events(ran: Ran, device: Device) -> tuple[Event, ...]:
    """Return what a run printed.

    Raises:
        DeviceError: It ended otherwise than by finishing its work.
    """
    if ran.returncode in {ENDED_WELL, DIFFERS}:
        return read_events(ran.stdout, device.name)
    ended = f"ended with exit code {ran.returncode}"
    if ran.returncode < 0:
        ended = f"was killed by signal {-ran.returncode}"
    said = _last_words(ran, device) or "It printed nothing"
    raise DeviceError(device.name, f"the program {ended}. {said}.")


def _last_words(ran: Ran, device: Device) -> str:
    with contextlib.suppress(DeviceError):  # its last line may be cut short
        errors = of_kind(read_events(ran.stdout, device.name), ErrorEvent)
        if errors:
            return errors[-1].message
    return ran.stderr.decode(errors="replace").strip()[-SHOWN_CHARACTERS:]


def _program(events: tuple[Event, ...], device: Device) -> ProgramEvent:
    programs = of_kind(events, ProgramEvent)
    if len(programs) != 1:
        raise DeviceError(device.name, "the program did not say what it is. Build it again.")
    return programs[0]


def _instructions(device: Device, runs: Runs) -> InstructionCounts | None:
    if runs.counted_again is None or not _is_exact(runs.counted):
        return None
    passed, again = (_passed(device, ran) for ran in (runs.counted, runs.counted_again))
    if device.clock_counts_instructions:
        source = "read from the emulated clock, one instruction a nanosecond, the kernel's included"
    else:
        source = "counted by a plugin inside the emulator"
    return instruction_counts(passed, again, _operators(device, runs), source=source)


def _is_exact(ran: Ran) -> bool:
    return all(mark.exact for mark in ran.marks if mark.tag != Marker.DONE)


def _passed(device: Device, ran: Ran) -> list[Passed]:
    """Return the markers that are counted between: before the last one, times were printed."""
    if device.clock_counts_instructions:
        marks = of_kind(_events(ran, device), MarkEvent)
        passed = [Passed(tag=mark.tag, instructions=mark.clock_ns) for mark in marks]
    else:
        passed = [
            Passed(tag=mark.tag, instructions=mark.instructions, simd=mark.simd)
            for mark in ran.marks
        ]
    return [mark for mark in passed if mark.tag != Marker.DONE]


def _operators(device: Device, runs: Runs) -> tuple[OperatorCost, ...]:
    if runs.profiled is None:
        return ()
    events = of_kind(_events(runs.profiled, device), OperatorsEvent)
    times = [time for event in events for time in event.operators or ()]
    return operator_costs(times)


def _memory(device: Device, events: tuple[Event, ...], ran: Ran) -> PeakMemory | None:
    if ran.peak_memory_bytes is not None:
        return PeakMemory(
            source="counted by the kernel for the program alone, without pages of files",
            peak_bytes=ran.peak_memory_bytes,
            limit_bytes=ran.memory_limit_bytes,
        )
    told = of_kind(events, MemoryEvent)
    if device.emulated or not told:
        return None
    source = "the largest resident set of the process, its libraries included"
    return PeakMemory(source=source, peak_bytes=told[-1].peak_rss_bytes, limit_bytes=None)


def _latency(device: Device, runs: Runs) -> Latency | None:
    if runs.timed is None:
        return None
    benches = of_kind(_events(runs.timed, device), BenchEvent)
    times_ms = [ns / NS_PER_MS for bench in benches for ns in bench.infer_ns]
    if not times_ms:
        return None
    median_ms, p95_ms = np.percentile(times_ms, (50, 95))
    return Latency(inferences=len(times_ms), median_ms=float(median_ms), p95_ms=float(p95_ms))


def _offline(device: Device, runs: Runs) -> OfflineProof | None:
    calls = runs.traced.calls if runs.traced else None
    interfaces = runs.counted.network_devices
    if calls is None:
        if interfaces is None:
            return None
        return OfflineProof(source="", calls=(), network_calls=(), network_devices=interfaces)
    assert runs.traced, "there is a record of its calls"
    _events(runs.traced, device)  # a record of a run that broke off proves nothing
    return OfflineProof(
        source=calls.source,
        calls=calls.counts,
        network_calls=calls.network,
        network_devices=interfaces,
    )


def _not_measured(validation: Validation) -> tuple[NotMeasured, ...]:
    """Return which figures are missing, each with the reason."""
    emulator = "only qemu-user and qemu-system count, and only a program of one thread"
    reasons = {
        "instructions": (validation.instructions, emulator),
        "peak memory": (
            validation.memory,
            "this device cannot tell the program's memory from the emulator's; qemu-system can",
        ),
        "the contract": (
            validation.outputs.inputs_differing,
            "this device's program begins at the input and ends at the output",
        ),
        "latency": (validation.latency, "an emulator knows no time; a real device does"),
        "offline": (
            validation.offline,
            "this device can neither record system calls nor show its network devices",
        ),
    }
    return tuple(
        NotMeasured(what=what, reason=reason)
        for what, (figure, reason) in reasons.items()
        if figure is None
    )
