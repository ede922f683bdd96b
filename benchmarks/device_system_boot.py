"""Measure how long the emulated machine takes from power-on to power-off, and what memory.

    python -m benchmarks.device_system_boot BUNDLE [CPU]

The bundle's own program answers all of its golden frames, three times plainly and three times
with its instructions counted. Prints the seconds of each run and the program's peak of memory.
Exits with 1 where a run takes more than 30 s, an
answer is not the golden one, or a counted run is not the same as the one before, to the digit.
Needs the device kit: `packager setup-device qemu`.
"""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from packager.apps import Payload
from packager.apps.building import build_app
from packager.bundles import open_bundle
from packager.devices import Architecture, Ran, Watch
from packager.devices.kit import open_kit
from packager.devices.qemu_system import QemuSystem

RUNS = 3
LIMIT_S = 30
BYTES = 256 * 2**20
ARGUMENTS = ("--bundle", "bundle.zip", "--selftest", "--marks")


@dataclass(frozen=True, kw_only=True)
class Run:
    """From power-on to power-off."""

    seconds: float
    ran: Ran


def main(bundle: Path, cpu: str) -> int:
    """Build the program, run it, and print what it took; return 1 if a limit is broken."""
    kit = open_kit()
    opened = open_bundle(bundle)
    with (
        tempfile.TemporaryDirectory() as cache,
        QemuSystem(cpu, kit, ram_bytes=BYTES, memory_limit_bytes=BYTES) as device,
    ):
        payload = build_app(opened, Architecture.AARCH64, kit, cache_root=Path(cache))
        put(device, payload, bundle)
        print(device.description)
        plain = measure(device, payload, Watch.NOTHING)
        counted = measure(device, payload, Watch.INSTRUCTIONS)
    same = all(run.ran == counted[0].ran for run in counted)
    print(f"all counted runs the same to the digit: {same}")
    good = all(r.seconds <= LIMIT_S and r.ran.returncode == 0 for r in plain + counted)
    return int(not (good and same))


def put(device: QemuSystem, payload: Payload, bundle: Path) -> None:
    """Put the program, its libraries and the bundle onto the machine."""
    for part in (payload.program, *payload.libraries):
        device.put(part.file.path, part.name)
    device.put(bundle, "bundle.zip")


def measure(device: QemuSystem, payload: Payload, watch: Watch) -> list[Run]:
    """Run several times, and print each."""
    runs = []
    for _ in range(RUNS):
        start = time.perf_counter()
        ran = device.run([*payload.command, *ARGUMENTS], timeout_s=4 * LIMIT_S, watch=watch)
        run = Run(seconds=time.perf_counter() - start, ran=ran)
        ended = f"exit code {ran.returncode}, peak memory {ran.peak_memory_bytes} bytes"
        print(f"watching {watch}: {run.seconds:.1f} s, limit {LIMIT_S} s, {ended}")
        runs.append(run)
    return runs


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "cortex-a53"))
