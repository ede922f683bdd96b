"""Run a bundle on a device, and hold what it does against what was promised.

`validate` reads top to bottom: open, build the bundle's program, run it, judge. What was
seen goes into the bundle as evidence only once every gate has passed.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from packager import bundles, target
from packager.apps import Payload
from packager.apps.building import build_app
from packager.assessment import Runs, assess
from packager.bundles import OpenedBundle, ValidationRecord
from packager.device_verdicts import judge_validation, require_validation
from packager.devices import Device, Ran, Watch
from packager.devices.kit import Kit
from packager.devices.opening import open_device
from packager.errors import BudgetError, ConfigError, DeviceError, PackagerError
from packager.storage import write_whole
from packager.target import Target
from packager.validations import Validation

BUNDLE = "bundle.zip"
COUNTED = ("--selftest", "--marks")
PROFILED_INFERENCES = 3
TIMED_INFERENCES = 50
AMPLE_RAM_BYTES = 2 * 2**30
"""For an emulated machine whose program is to be measured, and not held to a limit."""


@dataclass(frozen=True, kw_only=True)
class Validated:
    """A bundle that passed on a device.

    Attributes:
        record: What its `validation.json` now says of this device.
        bundle: The file that holds it.
    """

    record: ValidationRecord
    bundle: Path


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a bundle is run.

    Attributes:
        on: A device, such as `qemu-user:cortex-a72`.
        kit: What `packager setup-device` installed.
        ram_bytes: What the program may take; None for what the target has. Only a device
            that can hold a program to a limit looks at it.
        cache_root: Keeps built programs for the next run.
    """

    on: str
    kit: Kit
    ram_bytes: int | None
    cache_root: Path


def validate(bundle: Path, place: Place, out: Path) -> Validated:
    """Run a bundle on a device; write it, with the evidence, to `out`.

    Args:
        bundle: A .zip that a build wrote.
        place: The device.
        out: Where the bundle with its evidence goes; may be `bundle` itself.

    Raises:
        BundleError: It is no bundle, or damaged.
        ConfigError: There is no such device, or it is none for the bundle's target.
        DeviceError: The device failed, or the program did not end on it.
        ParityError: An input, an output or a decision differs from the golden ones.
        OfflineError: The program reached for a network.
        BudgetError: The program takes more than the target has.
    """
    opened = bundles.open_bundle(bundle)
    profile = _with_ram(target.load(opened.manifest.target, target.default_root()), place)
    limits, ram_bytes = _require_device(profile), profile.memory.ram_bytes
    with _device(place, ram_bytes=ram_bytes, memory_limit_bytes=ram_bytes) as device:
        payload = build_app(opened, device.architecture, place.kit, cache_root=place.cache_root)
        _put(device, payload, opened)
        runs = observe(device, payload, timeout_s=limits.timeout_s)
    if runs.counted.out_of_memory:
        raise _too_large(opened, payload, profile, place)
    validation = assess(opened, device, payload, runs)
    require_validation(validation, profile)
    return _keep(opened, validation, profile, payload=payload, runs=runs, out=out)


def observe(device: Device, payload: Payload, *, timeout_s: float) -> Runs:
    """Run the program once for each thing that the device can show.

    Raises:
        DeviceError: The device failed, or the program did not end in time.
    """

    def run(*arguments: str, watch: Watch) -> Ran:
        return device.run(_call(payload, *arguments), timeout_s=timeout_s, watch=watch)

    counting = Watch.INSTRUCTIONS if Watch.INSTRUCTIONS in device.watches else Watch.NOTHING
    counted = run(*COUNTED, watch=counting)
    if counted.out_of_memory:
        return Runs(counted=counted)
    again = traced = profiled = timed = None
    if counting is Watch.INSTRUCTIONS:
        again = run(*COUNTED, watch=counting)
    if Watch.SYSTEM_CALLS in device.watches:
        traced = run("--selftest", watch=Watch.SYSTEM_CALLS)
    if device.clock_counts_instructions:
        profiled = run("--bench", str(PROFILED_INFERENCES), "--operators", watch=counting)
        if profiled.out_of_memory:  # to watch each operator takes memory of its own
            profiled = None
    if not device.emulated:
        timed = run("--bench", str(TIMED_INFERENCES), watch=Watch.NOTHING)
    return Runs(counted=counted, counted_again=again, traced=traced, profiled=profiled, timed=timed)


def _with_ram(profile: Target, place: Place) -> Target:
    if place.ram_bytes is None:
        return profile
    memory = profile.memory.model_copy(update={"ram_bytes": place.ram_bytes})
    return profile.model_copy(update={"memory": memory})


def _device(place: Place, *, ram_bytes: int, memory_limit_bytes: int | None) -> Device:
    return open_device(
        place.on, kit=place.kit, ram_bytes=ram_bytes, memory_limit_bytes=memory_limit_bytes
    )


def _too_large(
    opened: OpenedBundle, payload: Payload, profile: Target, place: Place
) -> PackagerError:
    """Run once more with memory to spare, to say by how much the program does not fit."""
    limits, ram_bytes = _require_device(profile), profile.memory.ram_bytes
    with _device(place, ram_bytes=AMPLE_RAM_BYTES, memory_limit_bytes=None) as device:
        _put(device, payload, opened)
        ran = device.run(_call(payload, *COUNTED), timeout_s=limits.timeout_s)
    if ran.peak_memory_bytes is None or ran.peak_memory_bytes <= ram_bytes:
        problem = f"the program was killed for want of memory at a limit of {ram_bytes:,} bytes"
        return DeviceError(place.on, f"{problem}, and how much it needs could not be measured.")
    return BudgetError(
        f"{profile.name} on {place.on}: peak memory",
        measured=ran.peak_memory_bytes,
        limit=ram_bytes,
        unit="bytes",
    )


def _call(payload: Payload, *arguments: str) -> list[str]:
    return [*payload.command, "--bundle", BUNDLE, *arguments]


def _put(device: Device, payload: Payload, opened: OpenedBundle) -> None:
    for each in (payload.program, *payload.libraries):
        device.put(each.file.path, each.name)
    device.put(opened.archive.path, BUNDLE)


def _keep(
    opened: OpenedBundle,
    validation: Validation,
    profile: Target,
    *,
    payload: Payload,
    runs: Runs,
    out: Path,
) -> Validated:
    """Write the bundle with what the device showed, whole or not at all."""
    device = re.sub(r"[^A-Za-z0-9.-]+", "-", validation.device)
    program = f"{payload.program.name}-{payload.architecture}"
    evidence = {
        program: payload.program.file.path.read_bytes(),
        f"{program}-notices.txt": payload.notices.encode(),
        f"run-{device}.jsonl": runs.counted.stdout,
    }
    if runs.traced and runs.traced.calls:
        evidence[f"calls-{device}.txt"] = runs.traced.calls.raw
    record = ValidationRecord(
        validation=validation,
        verdicts=judge_validation(validation, profile),
        files=tuple(evidence),
    )
    write_whole(out, bundles.with_validation(opened, record, evidence))
    return Validated(record=record, bundle=out)


def _require_device(profile: Target) -> target.Device:
    if profile.device is None:
        problem = "bundles of this target cannot be run on a device yet: it names no core."
        remedy = "Flash the firmware, and compare its outputs with golden.safetensors."
        raise ConfigError(f"targets/{profile.name}", f"{problem} {remedy}")
    return profile.device
