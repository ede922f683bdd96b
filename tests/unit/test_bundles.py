import hashlib
import json
import stat
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from packager import bundles
from packager.bundles import (
    OpenedBundle,
    ValidationRecord,
    open_bundle,
    read_file,
    with_validation,
)
from packager.cache import decode, encode
from packager.errors import BundleError
from tests.bundle_example import write_bundle
from tests.validation_example import VALIDATION

REMEDY = "Do not use it; build it again, or get it again from whoever built it."
Files = dict[str, bytes]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_bundle(tmp_path, monkeypatch)


def read(archive: Path) -> Files:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def write(archive: Path, files: Files) -> None:
    with zipfile.ZipFile(archive, "w") as opened:
        for name, data in files.items():
            opened.writestr(name, data)


def add(archive: Path, entry: zipfile.ZipInfo, data: bytes = b"") -> None:
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(entry, data)


def listed(files: Files, *, extra: Files | None = None) -> Files:
    """Return the files with a manifest that lists all of them, those of `extra` as well."""
    manifest = json.loads(files["manifest.json"])
    others = {name: data for name, data in files.items() if name != "manifest.json"}
    manifest["files"] = [
        {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
        for name, data in {**others, **(extra or {})}.items()
    ]
    return files | {"manifest.json": json.dumps(manifest).encode()}


def patch_directory(archive: Path, name: str, offset: int, value: bytes) -> None:
    """Overwrite bytes of an entry of the archive's directory, which is at its end."""
    content = bytearray(archive.read_bytes())
    start = content.rindex(b"PK\x01\x02", 0, content.rindex(name.encode()))
    content[start + offset : start + offset + len(value)] = value
    archive.write_bytes(content)


def refusal(archive: Path) -> str:
    """Return what is said of the archive, without its path and the remedy."""
    with pytest.raises(BundleError) as caught:
        open_bundle(archive)
    message = str(caught.value)
    assert message.startswith(f"{archive}: ")
    assert message.endswith(REMEDY)
    return message.removeprefix(f"{archive}: ").removesuffix(f". {REMEDY}")


def test_opened_bundle_can_be_written_as_json(archive: Path) -> None:
    opened = open_bundle(archive)
    assert decode(OpenedBundle, json.loads(json.dumps(encode(opened)))) == opened
    assert opened.archive.sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()


def test_rewritten_bundle_with_the_same_files_opens(archive: Path) -> None:
    # The helper of the tests below changes nothing by itself.
    before = open_bundle(archive)
    write(archive, listed(read(archive)))
    after = open_bundle(archive)
    assert (after.parity, after.contract) == (before.parity, before.contract)


def test_missing_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        open_bundle(tmp_path / "nothing.zip")
    assert str(caught.value) == (
        f"{tmp_path}/nothing.zip: no such file. A build writes bundles to the folder that it names."
    )


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive at all" * 50])
def test_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    assert refusal(tmp_path / "a.zip") == "is no readable bundle: File is not a zip file"


def test_folder_is_refused(tmp_path: Path) -> None:
    assert "Is a directory" in refusal(tmp_path)


def test_empty_archive_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.zip", {})
    assert refusal(tmp_path / "a.zip") == "'manifest.json': is missing"


def test_cut_archive_is_refused(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-200])
    assert refusal(archive) == "is no readable bundle: File is not a zip file"


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/passwd",
        "folder/file",
        "folder/",
        "..",
        ".hidden",
        "C:\\evil",
        "\x1b[31mred",
        "na\u0131ve.txt",
        "x" * 101,
    ],
)
def test_name_that_could_lead_elsewhere_is_refused(archive: Path, name: str) -> None:
    files = read(archive)
    write(archive, listed(files | {name: b"evil"}))
    assert refusal(archive) == f"{name!r}: is no plain file name"


def test_name_that_ends_at_a_zero_byte_is_refused(archive: Path) -> None:
    add(archive, zipfile.ZipInfo("evil_.txt"))
    content = archive.read_bytes().replace(b"evil_.txt", b"evil\0.txt")
    archive.write_bytes(content)
    assert refusal(archive) == "'evil': is no plain file name"


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR])
def test_link_or_device_is_refused(archive: Path, kind: int) -> None:
    entry = zipfile.ZipInfo("evil")
    entry.external_attr = (kind | 0o777) << 16
    add(archive, entry, b"/etc/passwd")
    assert refusal(archive) == "'evil': is a link or a device, not a file"


@pytest.mark.parametrize("name", ["contract.json", "Contract.JSON"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_file_that_is_there_twice_is_refused(archive: Path, name: str) -> None:
    add(archive, zipfile.ZipInfo(name), b"{}")
    assert refusal(archive) == f"{name!r}: is there twice"


def test_file_that_the_manifest_does_not_know_is_refused(archive: Path) -> None:
    add(archive, zipfile.ZipInfo("extra.txt"), b"surprise")
    assert refusal(archive) == "'extra.txt': is not in the manifest"


def test_file_that_the_manifest_knows_may_be_added(archive: Path) -> None:
    write(archive, listed(read(archive) | {"notes.txt": b"of a later version"}))
    assert open_bundle(archive).manifest.files[-1].name == "notes.txt"


def test_file_of_the_manifest_that_is_gone_is_missed(archive: Path) -> None:
    files = read(archive)
    write(archive, listed(files, extra={"notes.txt": b"lost"}))
    assert refusal(archive) == "'notes.txt': is missing"


@pytest.mark.parametrize("name", [*bundles.NEEDED, "model.tflite"])
def test_bundle_lacks_nothing_even_if_its_manifest_does(archive: Path, name: str) -> None:
    files = read(archive)
    del files[name]
    write(archive, listed(files))
    assert refusal(archive) == f"{name!r}: is missing"


def test_manifest_cannot_name_itself_as_the_program(archive: Path) -> None:
    files = read(archive)
    manifest = json.loads(files["manifest.json"]) | {"model": "manifest.json"}
    write(archive, files | {"manifest.json": json.dumps(manifest).encode()})
    assert refusal(archive) == "'manifest.json': is missing"


def test_manifest_is_needed(archive: Path) -> None:
    files = read(archive)
    del files["manifest.json"]
    write(archive, files)
    assert refusal(archive) == "'manifest.json': is missing"


@pytest.mark.parametrize("change", [lambda d: d[:-1] + b"X", lambda d: d + b"X", lambda d: d[1:]])
@pytest.mark.parametrize("name", [*bundles.NEEDED, "model.tflite"])
def test_changed_file_is_refused(
    archive: Path, name: str, change: Callable[[bytes], bytes]
) -> None:
    files = read(archive)
    write(archive, files | {name: change(files[name])})
    assert refusal(archive) == f"{name!r}: is not the file that the manifest describes"


def test_damaged_byte_of_a_file_is_found(archive: Path) -> None:
    write(archive, read(archive))  # stored, so that the program's own bytes can be found
    content = bytearray(archive.read_bytes())
    content[content.index(b"TFL3TFL3")] ^= 1
    archive.write_bytes(content)
    assert refusal(archive) == "is no readable bundle: Bad CRC-32 for file 'model.tflite'"


@pytest.mark.parametrize(
    ("manifest", "problem"),
    [
        (b"", "EOF while parsing"),
        (b"\xff\xfe", "expected value"),
        (b"[]", "should be an object"),
        (b"[" * 100_000, "recursion limit"),
        (b"{}", "packager: Field required"),
        (b'{"format_version": "1"}', "format_version: Input should be a valid integer"),
    ],
)
def test_manifest_that_says_something_else_is_refused(
    archive: Path, manifest: bytes, problem: str
) -> None:
    write(archive, read(archive) | {"manifest.json": manifest})
    said = refusal(archive)
    assert said.startswith("'manifest.json': does not say what a bundle's does (")
    assert problem in said


@pytest.mark.parametrize(
    "name", ["contract.json", "parity.json", "measured.json", "operators.json"]
)
def test_values_of_another_shape_are_refused(archive: Path, name: str) -> None:
    write(archive, listed(read(archive) | {name: b"{}"}))
    assert refusal(archive).startswith(f"{name!r}: does not say what a bundle's does (")


def edited(data: bytes, change: Callable[[Any], None]) -> bytes:
    value = json.loads(data)
    change(value)
    return json.dumps(value).encode()


def test_newer_bundle_asks_for_a_newer_program(archive: Path) -> None:
    files = read(archive)
    newer = edited(files["manifest.json"], lambda m: m.update(format_version=3, more=[]))
    write(archive, files | {"manifest.json": newer})
    with pytest.raises(BundleError) as caught:
        open_bundle(archive)
    assert str(caught.value) == (
        f"{archive}: is of format 3, and this program reads 2. Install a newer version of packager."
    )


def test_newer_contract_asks_for_a_newer_program(archive: Path) -> None:
    files = read(archive)
    newer = edited(files["contract.json"], lambda c: c.update(format_version=3, more=[]))
    write(archive, listed(files | {"contract.json": newer}))
    with pytest.raises(BundleError) as caught:
        open_bundle(archive)
    assert str(caught.value) == (
        f"{archive}: contract.json: is of format 3, and this program reads 2. "
        "Install a newer version of packager."
    )


def test_bundle_of_an_older_format_is_to_be_built_again(archive: Path) -> None:
    files = read(archive)
    older = edited(files["manifest.json"], lambda m: m.update(format_version=1))
    write(archive, files | {"manifest.json": older})
    with pytest.raises(BundleError) as caught:
        open_bundle(archive)
    assert str(caught.value) == (
        f"{archive}: is of format 1, and this program reads 2. Build it again."
    )


def test_crowd_of_files_is_refused(archive: Path) -> None:
    write(archive, listed(read(archive) | {f"f{i}": b"" for i in range(100)}))
    assert refusal(archive) == "holds 109 files; a bundle has at most 64"


def test_declared_bomb_is_refused_before_it_is_read(archive: Path) -> None:
    # Bytes 24 to 27 of a directory entry are the size of the file when unpacked.
    patch_directory(archive, "model.tflite", 24, struct.pack("<I", 3 * 2**30))
    assert refusal(archive) == f"unpacks to more than {2 * 2**30} bytes"


def test_bomb_that_lies_about_its_size_is_read_no_further_than_it_says(archive: Path) -> None:
    files = read(archive)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in files.items():
            opened.writestr(name, data if name != "model.tflite" else bytes(50 * 2**20))
    patch_directory(archive, "model.tflite", 24, struct.pack("<I", 256))
    assert refusal(archive) == "is no readable bundle: Bad CRC-32 for file 'model.tflite'"


def test_swollen_manifest_is_refused(archive: Path) -> None:
    files = read(archive)
    swollen = files["manifest.json"] + b" " * (17 * 2**20)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in (files | {"manifest.json": swollen}).items():
            opened.writestr(name, data)
    assert refusal(archive) == f"'manifest.json': is larger than {16 * 2**20} bytes"


def test_encrypted_file_is_refused(archive: Path) -> None:
    # Bytes 8 and 9 of a directory entry are flags, the lowest of which says "encrypted".
    patch_directory(archive, "model.tflite", 8, b"\x01\x00")
    assert refusal(archive) == "'model.tflite': is encrypted"


def test_archive_of_a_future_kind_is_refused(archive: Path) -> None:
    # Bytes 6 and 7 of a directory entry are the version of zip that it takes to read it.
    patch_directory(archive, "model.tflite", 6, b"\x54\x00")
    assert refusal(archive) == "is no readable bundle: zip file version 8.4"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compression_is_refused(archive: Path, method: int) -> None:
    with zipfile.ZipFile(archive, "a", method) as opened:
        opened.writestr("notes.txt", b"x" * 1000)
    assert refusal(archive) == "'notes.txt': is compressed in an unusual way"


def test_something_in_front_of_the_archive_is_refused(archive: Path) -> None:
    archive.write_bytes(b"#!/bin/sh\n" + archive.read_bytes())
    assert refusal(archive) == "has a comment, or something in front of its first file"


def test_comment_is_refused(archive: Path) -> None:
    with zipfile.ZipFile(archive, "a") as opened:
        opened.comment = b"read me"
    assert refusal(archive) == "has a comment, or something in front of its first file"


@settings(
    deadline=None,
    max_examples=60,
    derandomize=True,
    # The archive is written anew for each example.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(place=st.floats(0.0, 1.0, exclude_max=True), value=st.integers(1, 255))
def test_no_damaged_byte_changes_what_is_read(
    archive: Path, tmp_path_factory: pytest.TempPathFactory, place: float, value: int
) -> None:
    content = bytearray(archive.read_bytes())
    content[int(place * len(content))] ^= value
    damaged = tmp_path_factory.mktemp("damaged") / archive.name
    damaged.write_bytes(content)
    try:
        opened = open_bundle(damaged)
    except BundleError:
        return
    # What is left are fields that say nothing of the files, such as their dates.
    sound = open_bundle(archive)
    assert encode(opened) | {"archive": None} == encode(sound) | {"archive": None}


def record(device: str, *files: str) -> ValidationRecord:
    return ValidationRecord(validation=replace(VALIDATION, device=device), verdicts=(), files=files)


def validated(archive: Path, device: str, evidence: Files) -> OpenedBundle:
    opened = open_bundle(archive)
    archive.write_bytes(with_validation(opened, record(device, *evidence), evidence))
    return open_bundle(archive)


def test_a_bundle_keeps_what_a_device_showed(archive: Path) -> None:
    before = read(archive)
    opened = validated(archive, "host", {"scan-x86_64": b"ELF", "run-host.jsonl": b"{}"})
    assert opened.validations == (record("host", "scan-x86_64", "run-host.jsonl"),)
    after = read(archive)
    new = {"validation.json", "scan-x86_64", "run-host.jsonl"}
    assert after.keys() - before.keys() == new
    assert {name for name in before if before[name] != after[name]} == {"manifest.json"}
    assert read_file(opened, "scan-x86_64") == b"ELF"


def test_a_second_run_on_a_device_replaces_the_first(archive: Path) -> None:
    validated(archive, "host", {"scan-x86_64": b"old", "calls-host.txt": b"old"})
    validated(archive, "adb", {"scan-aarch64": b"ELF"})
    opened = validated(archive, "host", {"scan-x86_64": b"new"})
    assert opened.validations == (record("adb", "scan-aarch64"), record("host", "scan-x86_64"))
    names = read(archive)
    assert (names["scan-x86_64"], names["scan-aarch64"]) == (b"new", b"ELF")
    assert "calls-host.txt" not in names


def test_the_same_evidence_gives_the_same_bundle(archive: Path) -> None:
    evidence = {"scan-x86_64": b"ELF"}
    validated(archive, "host", evidence)
    once = archive.read_bytes()
    validated(archive, "host", evidence)
    assert archive.read_bytes() == once


def test_a_bundle_that_was_changed_meanwhile_is_not_written_again(archive: Path) -> None:
    opened = open_bundle(archive)
    files = read(archive)
    write(archive, listed(files | {"README.txt": b"changed"}))
    with pytest.raises(BundleError, match=r"'README.txt'"):
        with_validation(opened, record("host"), {})


def test_a_validation_of_another_shape_is_refused(archive: Path) -> None:
    files = read(archive)
    extra = {"validation.json": b'[{"validation": 1}]'}
    write(archive, listed(files, extra=extra) | extra)
    with pytest.raises(BundleError, match=r"'validation.json': does not say"):
        open_bundle(archive)
