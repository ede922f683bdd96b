"""Bundles with real programs, and `scan` as it is built for them, each once in a test run."""

import atexit
import json
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from packager import bundles
from packager.apps import handheld
from packager.apps.handheld import Toolchain, compile_program
from packager.artifacts import Converted, File
from packager.bundles import OpenedBundle
from packager.contract import Contract
from packager.contract.frames import Frame
from packager.devices import Architecture
from packager.stages.bundle import bundle
from tests import bundle_example
from tests.conftest import require_kit

FOLDER = tempfile.TemporaryDirectory(prefix="scan-programs-")
atexit.register(FOLDER.cleanup)
HERE = Architecture(platform.machine())
SECONDS = 60
# Leaks of the runtimes' own, at exit, are none of ours.
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}

Line = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What became of a run: exit code, lines of JSON, and what was said to people."""

    returncode: int
    lines: list[Line]
    stderr: str

    def of(self, event: str) -> list[Line]:
        """Return the lines of one event."""
        return [line for line in self.lines if line["event"] == event]

    @property
    def problem(self) -> tuple[int, str]:
        """The exit code, and the message of the line that says why."""
        return self.returncode, str(self.of("error")[0]["message"])


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A program in a folder of its own, as it is on a device, and the bundle that it is for."""

    folder: Path
    bundle: Path
    opened: OpenedBundle

    def run(self, *arguments: str | Path, bundle: Path | None = None) -> Ended:
        """Run the program on its bundle, or on another one."""
        command = ["./scan", "--bundle", str(bundle or self.bundle), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, timeout=SECONDS, check=False,
            env=SANITIZERS,
        )  # fmt: skip
        return Ended(
            returncode=done.returncode,
            lines=[json.loads(line) for line in done.stdout.splitlines()],
            stderr=done.stderr.decode(errors="replace"),
        )


def write_bundle(
    converted: Converted,
    contract: Contract,
    samples: Sequence[Frame | npt.NDArray[np.generic]],
    *,
    target: str = "handheld",
) -> Path:
    """Write a bundle of a program, with raw golden samples; return its path."""
    folder = Path(tempfile.mkdtemp(dir=FOLDER.name))
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for place, sample in enumerate(samples):
        if isinstance(sample, Frame):
            arrays[f"frame_{place:03}"] = sample.pixels
            if sample.palette is not None:
                arrays[f"palette_{place:03}"] = sample.palette
        else:
            arrays[f"frame_{place:03}"] = sample
    turned = [getattr(sample, "orientation", 1) for sample in samples]
    np.savez(
        folder / "golden.npz",
        allow_pickle=False,
        samples=np.arange(len(samples)),
        labels=np.zeros(len(samples), np.int64),
        orientations=np.array(turned, np.int64),
        **arrays,
    )
    contents = replace(
        bundle_example.contents(folder / "example"),
        target=target,
        converted=converted,
        contract=contract,
        golden=File.of(folder / "golden.npz"),
    )
    return bundle.run(folder, contents).archive.path


def build(path: Path) -> Scan:
    """Build the program for a bundle as `packager` does."""
    opened = bundles.open_bundle(path)
    cache_root = Path(FOLDER.name) / "cache"
    payload = handheld.build(opened, HERE, require_kit(), cache_root=cache_root)
    folder = Path(tempfile.mkdtemp(dir=FOLDER.name))
    for part in (payload.program, *payload.libraries):
        shutil.copy(part.file.path, folder / part.name)
    return Scan(folder=folder, bundle=path, opened=opened)


def build_quickly(path: Path, *options: str) -> Scan:
    """Build the program without optimising it: a third of the time."""
    opened = bundles.open_bundle(path)
    toolchain = Toolchain.of(require_kit(), opened.manifest.runtime, HERE)
    folder = Path(tempfile.mkdtemp(dir=FOLDER.name))
    debug = "-DCMAKE_BUILD_TYPE=Debug"
    made = compile_program(toolchain, handheld.generated(opened), folder, debug, *options)
    for library in toolchain.libraries:
        shutil.copy(library, made.parent / library.name)
    return Scan(folder=made.parent, bundle=path, opened=opened)


def build_watched(path: Path) -> Scan:
    """Build the program with the compiler's sanitizers: the first fault of memory ends it."""
    return build_quickly(path, "-DSCAN_SANITIZE=ON")
