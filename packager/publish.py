"""Put the results of a build into the user's folder, each file whole or not at all."""

import json
import re
from dataclasses import replace
from pathlib import Path

from packager.artifacts import File
from packager.built import Built, TargetResult
from packager.cache import decode, encode, files_of, map_files
from packager.errors import ConfigError
from packager.report import html
from packager.storage import copy_whole, storage_errors, write_whole

BUILD_FILE = "build.json"
REPORT_FILE = "report.html"
EVIDENCE = "evidence"
EVIDENCE_NAME = re.compile(r"[0-9a-f]{16}\.npz")


def publish(built: Built, out: Path) -> Built:
    """Write bundles, evidence, `build.json` and the report to `out`.

    The bundle of a target that failed this time is removed, lest an older one pass for
    today's.

    Returns:
        `built`, with bundles and evidence at their new places, relative to `out`.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    for result in built.targets:
        _publish_bundle(result, out)
    kept = {file.sha256: file for result in built.targets for file in _evidence(result)}
    for file in kept.values():
        copy_whole(file.path, out / _evidence_place(file))
    _remove_old_evidence(out, {_evidence_place(file).name for file in kept.values()})
    published = map_files(built, lambda file: _published(file, kept))
    write_whole(out / BUILD_FILE, (json.dumps(encode(published), indent=1) + "\n").encode())
    write_report(published, out)
    return published


def write_report(built: Built, out: Path) -> Path:
    """Render the report of a published build, whose evidence lies in `out`; return its place.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    place = out / REPORT_FILE
    write_whole(place, html.render(built, out).encode())
    return place


def read(out: Path) -> Built:
    """Return the build that `publish` wrote to `out`.

    Raises:
        ConfigError: There is none, or another version of this program wrote it.
    """
    place = out / BUILD_FILE
    try:
        return decode(Built, json.loads(place.read_text("utf-8")))
    except OSError as error:
        problem = f"cannot be read ({error.strerror}). `packager build` writes it."
        raise ConfigError(str(place), problem) from None
    except ValueError:
        problem = "was not written by this version of packager. Run `packager build` again."
        raise ConfigError(str(place), problem) from None


def _publish_bundle(result: TargetResult, out: Path) -> None:
    place = out / f"{result.target.name}.zip"
    if result.bundle:
        copy_whole(result.bundle.archive.path, place)
    else:
        place.unlink(missing_ok=True)


def _evidence(result: TargetResult) -> list[File]:
    return files_of(result.parity) if result.parity else []


def _remove_old_evidence(out: Path, kept: set[str]) -> None:
    """Remove what earlier builds left, and nothing that a user may have put there."""
    for path in (out / EVIDENCE).glob("*"):
        if EVIDENCE_NAME.fullmatch(path.name) and path.name not in kept:
            path.unlink(missing_ok=True)


def _evidence_place(file: File) -> Path:
    return Path(EVIDENCE) / f"{file.sha256[:16]}{file.path.suffix}"


def _published(file: File, kept: dict[str, File]) -> File:
    place = _evidence_place(file) if file.sha256 in kept else Path(file.path.name)
    return replace(file, path=place)
