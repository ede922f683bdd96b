"""What a bundle holds, and how to open one that may come from anywhere.

A bundle is a flat zip archive. `manifest.json` lists every other file with its digest;
the values below are what its JSON files say.
"""

import hashlib
import json
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pydantic

from packager.archives import zip_bytes
from packager.artifacts import (
    Comparison,
    Cost,
    Fallback,
    File,
    Finding,
    Measured,
    OperatorCount,
    Precision,
    Runtime,
)
from packager.cache import encode
from packager.contract import IoContract, spec
from packager.distributions import Distribution
from packager.errors import BundleError
from packager.validations import Validation
from packager.verdicts import Verdict

T = TypeVar("T")

FORMAT_VERSION = 2

MANIFEST = "manifest.json"
CONTRACT = "contract.json"
CONTRACT_SCHEMA = "contract.schema.json"
PARITY = "parity.json"
MEASURED = "measured.json"
OPERATORS = "operators.json"
GOLDEN = "golden.safetensors"
README = "README.txt"
VALIDATION = "validation.json"
NEEDED = (CONTRACT, CONTRACT_SCHEMA, PARITY, MEASURED, OPERATORS, GOLDEN, README)

MAX_FILES = 64
MAX_TOTAL_BYTES = 2 * 2**30
MAX_JSON_BYTES = 16 * 2**20
CHUNK_BYTES = 2**20

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1
# What zipfile raises for archives that are damaged or made to harm: NotImplementedError
# for features that it lacks, struct.error for fields that are cut short.
UNREADABLE = (
    zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError,
    NotImplementedError,
)  # fmt: skip
REMEDY = "Do not use it; build it again, or get it again from whoever built it."


@dataclass(frozen=True, kw_only=True)
class BundledFile:
    """One file of the archive, by its content."""

    name: str
    sha256: str
    size_bytes: int

    @classmethod
    def of(cls, name: str, content: bytes) -> "BundledFile":
        """Describe a file that goes into an archive."""
        digest = hashlib.sha256(content).hexdigest()
        return cls(name=name, sha256=digest, size_bytes=len(content))


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What the archive is, what is in it, and what built it.

    Attributes:
        packager: Version of this program.
        target: Name of the target that the program was made for.
        recipe: Name of the model, from its recipe.
        model: Which of the files is the program.
        files: Every file but the manifest, by name.
        built_with: Python, zlib and all distributions, by name, to the exact version.
    """

    format_version: int = FORMAT_VERSION
    packager: str
    target: str
    recipe: str
    runtime: Runtime
    precision: Precision
    model: str
    files: tuple[BundledFile, ...]
    built_with: tuple[Distribution, ...]


@dataclass(frozen=True, kw_only=True)
class ParityRecord:
    """`parity.json`: how the program's answers compare with those of the original.

    Attributes:
        runtime: What ran the program.
        reference_runtime: What ran the float networks.
        origin: Where the evaluation samples come from, in words.
        simulated: True where no patient or device ever produced these samples.
    """

    runtime: str
    reference_runtime: str
    origin: str
    simulated: bool
    pruning: Comparison
    conversion: Comparison
    whole: Comparison
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, kw_only=True)
class MeasuredRecord:
    """`measured.json`: what the program takes of the device, and what pruning saved."""

    program: Measured
    original: Cost
    pruned: Cost


@dataclass(frozen=True, kw_only=True)
class OperatorRecord:
    """`operators.json`: what the program computes, where, and what was found before."""

    operators: tuple[OperatorCount, ...]
    fallbacks: tuple[Fallback, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True)
class ValidationRecord:
    """One entry of `validation.json`: a run on a device, judged.

    Attributes:
        files: Names of the bundle's files that hold the raw evidence, the program first.
    """

    validation: Validation
    verdicts: tuple[Verdict, ...]
    files: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class OpenedBundle:
    """A bundle in which every file is there, and is what the manifest says.

    Attributes:
        validations: By the name of the device; empty until a device has run the bundle.
    """

    archive: File
    manifest: Manifest
    contract: IoContract
    parity: ParityRecord
    measured: MeasuredRecord
    operators: OperatorRecord
    validations: tuple[ValidationRecord, ...] = ()


def open_bundle(path: Path) -> OpenedBundle:
    """Verify the bundle at `path`, and read what it says.

    The archive is taken for hostile. Nothing is unpacked, nothing is read past the size
    that was declared for it, and nothing is believed before its digest is checked. What
    this cannot tell is who made the bundle: compare the archive's own digest for that.

    Raises:
        BundleError: It is no bundle, is damaged, was changed, or is of a newer format.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _safe_members(path, archive)
            manifest = _read_manifest(path, archive, members)
            _check_files(path, archive, members, manifest)
            return _read_values(path, archive, manifest)
    except FileNotFoundError:
        remedy = "A build writes bundles to the folder that it names."
        raise BundleError(str(path), f"no such file. {remedy}") from None
    except UNREADABLE as error:
        raise BundleError(str(path), f"is no readable bundle: {error}. {REMEDY}") from None


def read_file(opened: OpenedBundle, name: str) -> bytes:
    """Return the content of one file of a bundle that was verified.

    Raises:
        BundleError: The bundle has no such file, or was changed since.
    """
    path = opened.archive.path
    listed = {file.name: file for file in opened.manifest.files}
    if name not in listed:
        raise _refusal(path, "is not in the manifest", name)
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
            # One byte more than was verified, so that a longer file is noticed.
            content = stream.read(listed[name].size_bytes + 1)
    except (*UNREADABLE, KeyError) as error:
        raise BundleError(str(path), f"is no readable bundle: {error}. {REMEDY}") from None
    if hashlib.sha256(content).hexdigest() != listed[name].sha256:
        raise _refusal(path, "is not the file that the manifest describes", name)
    return content


def with_validation(
    opened: OpenedBundle, record: ValidationRecord, evidence: Mapping[str, bytes]
) -> bytes:
    """Return the archive with a device's record, in place of an earlier one of that device.

    All else stays as it is, byte for byte, but the manifest, which lists what is new.

    Args:
        opened: The bundle that ran.
        record: What came of it.
        evidence: The files that the record names, by name.

    Raises:
        BundleError: The bundle was changed since it was opened, or holds too much.
    """
    device = record.validation.device
    kept = [other for other in opened.validations if other.validation.device != device]
    records = sorted([*kept, record], key=lambda each: each.validation.device)
    named = {name for each in records for name in each.files}
    replaced = {name for other in opened.validations for name in other.files} - named
    listed = (file.name for file in opened.manifest.files)
    files = {name: read_file(opened, name) for name in listed if name not in replaced}
    files |= {**evidence, VALIDATION: json_bytes(records)}
    if len(files) >= MAX_FILES:
        raise _refusal(opened.archive.path, f"would hold more than {MAX_FILES} files")
    described = tuple(BundledFile.of(name, data) for name, data in sorted(files.items()))
    return zip_bytes(files | {MANIFEST: json_bytes(replace(opened.manifest, files=described))})


def json_bytes(value: object) -> bytes:
    """Return an artifact, or a list of them, as the JSON of a bundle: keys sorted, no NaN."""
    text = json.dumps(encode(value), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def _safe_members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the archive's entries by name; refuse what a bundle never holds."""
    entries = archive.infolist()
    if len(entries) > MAX_FILES:
        raise _refusal(path, f"holds {len(entries)} files; a bundle has at most {MAX_FILES}")
    if sum(entry.file_size for entry in entries) > MAX_TOTAL_BYTES:
        raise _refusal(path, f"unpacks to more than {MAX_TOTAL_BYTES} bytes")
    if archive.comment or min((entry.header_offset for entry in entries), default=0) > 0:
        raise _refusal(path, "has a comment, or something in front of its first file")
    known: set[str] = set()
    for entry in entries:
        problem = _problem_of(entry)
        # Names that differ in case only are one file on many disks.
        if entry.filename.casefold() in known:
            problem = "is there twice"
        if problem:
            raise _refusal(path, problem, entry.filename)
        known.add(entry.filename.casefold())
    return {entry.filename: entry for entry in entries}


def _problem_of(entry: zipfile.ZipInfo) -> str:
    """Return what is wrong with an entry before its content is read; empty if nothing."""
    mode = entry.external_attr >> 16
    # `orig_filename` is what the archive says; `filename` ends at the first NUL.
    if not SAFE_NAME.fullmatch(entry.filename) or entry.orig_filename != entry.filename:
        return "is no plain file name"
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
        return "is a link or a device, not a file"
    if entry.flag_bits & ENCRYPTED:
        return "is encrypted"
    if entry.compress_type not in METHODS:
        return "is compressed in an unusual way"
    return ""


def _read_manifest(
    path: Path, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]
) -> Manifest:
    if MANIFEST not in members:
        raise _refusal(path, "is missing", MANIFEST)
    content = _read(path, archive, MANIFEST)
    _require_format(str(path), _decode(path, MANIFEST, dict[str, object], content), FORMAT_VERSION)
    return _decode(path, MANIFEST, Manifest, content)


def _require_format(where: str, content: dict[str, object], known: int) -> None:
    """Refuse a file of another format before its keys are looked at."""
    version = content.get("format_version")
    if not isinstance(version, int) or version == known:
        return
    problem = f"is of format {version}, and this program reads {known}"
    remedy = "Install a newer version of packager." if version > known else "Build it again."
    raise BundleError(where, f"{problem}. {remedy}")


def _check_files(
    path: Path, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], manifest: Manifest
) -> None:
    listed = {file.name: file for file in manifest.files}
    for name in sorted(members.keys() - listed.keys() - {MANIFEST}):
        raise _refusal(path, "is not in the manifest", name)
    for name in sorted({*NEEDED, manifest.model, *listed} - (members.keys() & listed.keys())):
        raise _refusal(path, "is missing", name)
    for name, file in listed.items():
        if members[name].file_size != file.size_bytes or _sha256(archive, name) != file.sha256:
            raise _refusal(path, "is not the file that the manifest describes", name)


def _read_values(path: Path, archive: zipfile.ZipFile, manifest: Manifest) -> OpenedBundle:
    def read(name: str, cls: type[T]) -> T:
        return _decode(path, name, cls, _read(path, archive, name))

    stated = read(CONTRACT, dict[str, object])
    _require_format(f"{path}: {CONTRACT}", stated, spec.FORMAT_VERSION)
    return OpenedBundle(
        archive=File.of(path),
        manifest=manifest,
        contract=read(CONTRACT, IoContract),
        parity=read(PARITY, ParityRecord),
        measured=read(MEASURED, MeasuredRecord),
        operators=read(OPERATORS, OperatorRecord),
        validations=_validations(path, archive),
    )


def _validations(path: Path, archive: zipfile.ZipFile) -> tuple[ValidationRecord, ...]:
    if VALIDATION not in archive.namelist():
        return ()
    content = _read(path, archive, VALIDATION)
    return _decode(path, VALIDATION, tuple[ValidationRecord, ...], content)


def _read(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > MAX_JSON_BYTES:
        raise _refusal(path, f"is larger than {MAX_JSON_BYTES} bytes", name)
    return archive.read(name)


def _decode(path: Path, name: str, cls: type[T], content: bytes) -> T:
    try:
        return pydantic.TypeAdapter(cls).validate_json(content, strict=True)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        problem = f"{key}: {first['msg']}" if key else first["msg"]
        raise _refusal(path, f"does not say what a bundle's does ({problem})", name) from None


def _sha256(archive: zipfile.ZipFile, name: str) -> str:
    digest = hashlib.sha256()
    with archive.open(name) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _refusal(path: Path, problem: str, name: str = "") -> BundleError:
    # Names come from the archive: `repr` keeps them from playing with the terminal.
    where = f"{path}: {name!r}" if name else str(path)
    return BundleError(where, f"{problem}. {REMEDY}")
