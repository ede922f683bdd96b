"""Time and memory of the demo's build: first from nothing, then again with a full cache.

Prints the time of the second as a share of the first. Memory is that of all processes of
the build together, sampled five times a second from /proc (proportional shares, so that
pages shared between processes count once).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

RECIPE = Path(__file__).parent.parent / "examples" / "phantom" / "packager.toml"
SAMPLE_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one build took."""

    seconds: float
    peak_bytes: int
    targets: int


def main() -> None:
    """Build twice and print both."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first, second = build(folder), build(folder)
    print(f"build from nothing   {first.seconds:6.1f} s   {first.peak_bytes / 1e9:5.2f} GB peak")
    print(f"build again          {second.seconds:6.1f} s   {second.peak_bytes / 1e9:5.2f} GB peak")
    print(f"again / from nothing {second.seconds / first.seconds:8.3f}   {first.targets} bundles")


def build(folder: Path) -> Run:
    """Run `packager build` in a process of its own and watch it."""
    places = ["--out", str(folder / "out"), "--cache", str(folder / "cache")]
    command = [sys.executable, "-m", "packager", "build", str(RECIPE), *places, "--json"]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, group_bytes(process.pid))
        time.sleep(SAMPLE_S)
    seconds = time.perf_counter() - start
    assert process.stdout is not None, "stdout is a pipe"
    built = json.loads(process.stdout.read())
    if process.returncode:
        sys.exit(f"the build failed: {built}")
    return Run(seconds=seconds, peak_bytes=peak, targets=len(built["targets"]))


def group_bytes(group: int) -> int:
    """Return the memory of every process of a process group."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == group:
                rollup = (folder / "smaps_rollup").read_text()
                total += next(
                    1024 * int(x.split()[1]) for x in rollup.splitlines() if x.startswith("Pss:")
                )
        except (OSError, StopIteration):
            continue  # it ended between the listing and the reading
    return total


if __name__ == "__main__":
    main()
