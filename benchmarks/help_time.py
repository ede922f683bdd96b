"""Measure how long `packager --help` and `import packager` take in a fresh process.

    python benchmarks/help_time.py

Prints the median and the worst of five runs, in seconds, and the limit that each has.
Exits with 1 if a median is over its limit.
"""

import statistics
import subprocess
import sys
import time

RUNS = 5
COMMANDS = {
    "packager --help": ([sys.executable, "-m", "packager", "--help"], 0.5),
    "import packager": ([sys.executable, "-c", "import packager"], 0.3),
}


def seconds(command: list[str]) -> float:
    """Return how long one run of `command` takes."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    """Measure each command; return 1 if one is too slow, else 0."""
    slow = 0
    for name, (command, limit_s) in COMMANDS.items():
        seconds(command)  # the first run reads the files from disk
        runs = [seconds(command) for _ in range(RUNS)]
        median_s = statistics.median(runs)
        print(f"{name}: median {median_s:.2f} s, worst {max(runs):.2f} s, limit {limit_s} s")
        slow |= median_s > limit_s
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
