"""Measure how long `packager setup-device qemu` takes from nothing, and what it leaves on disk.

    python benchmarks/device_setup.py

Both routes, each into a new folder: with the system's programs (which root has installed where
they are missing, and which are not counted), and with all programs unpacked into the kit.
Exits with 1 if one is over its limit.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT_S = 120
LIMIT_BYTES = 700_000_000
ROUTES = {"programs of the system": [], "programs unpacked": ["--private"]}


def set_up(folder: Path, options: list[str]) -> tuple[float, bool]:
    """Return how many seconds a set-up took, and whether it made a kit."""
    command = [sys.executable, "-m", "packager", "setup-device", "qemu", "--json"]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, "--folder", str(folder), *options],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - start
    return seconds, json.loads(done.stdout)["made"]


def occupied_bytes(folder: Path) -> int:
    """Return what a folder takes on disk; a file smaller than a block takes a whole one."""
    paths = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    return sum(path.lstat().st_blocks * 512 for path in paths)


def main() -> int:
    """Measure each route; return 1 if one is too slow or too large, else 0."""
    over = 0
    for name, options in ROUTES.items():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "kit"
            first_s, made = set_up(folder, options)
            again_s, made_again = set_up(folder, options)
            assert (made, made_again) == (True, False), "the second verifies what the first made"
            size_bytes = occupied_bytes(folder)
        print(
            f"{name:24} {first_s:6.1f} s of {LIMIT_S}, again {again_s:4.1f} s, "
            f"{size_bytes / 1e6:6.1f} MB of {LIMIT_BYTES / 1e6:.0f}"
        )
        over |= first_s > LIMIT_S or size_bytes > LIMIT_BYTES
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
