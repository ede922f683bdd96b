import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from packager.errors import StorageError
from packager.storage import copy_whole, storage_errors, write_whole

FULL = "Free some space or name another folder, then run the same command again."
IN_THE_WAY = "Move what is in the way or name another one, then run the same command again."
FORBIDDEN = "Change its permissions or name another one, then run the same command again."


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """Let the kernel refuse to write more, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_file_and_its_folders_are_written(tmp_path: Path) -> None:
    write_whole(tmp_path / "a" / "b" / "file", b"content")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"content"
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["file"]


def test_written_file_can_be_read_by_others(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"content")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_reader_of_the_old_file_reads_all_of_it(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"old")
    with (tmp_path / "file").open("rb", buffering=0) as reader:
        write_whole(tmp_path / "file", b"newer")
        assert reader.read() == b"old"
    assert (tmp_path / "file").read_bytes() == b"newer"


def test_file_is_copied(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"content")
    copy_whole(tmp_path / "source", tmp_path / "out" / "copy")
    assert (tmp_path / "out" / "copy").read_bytes() == b"content"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["copy"]


def test_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"old")
    with files_of_at_most(100), pytest.raises(StorageError) as caught:
        write_whole(tmp_path / "file", b"n" * 200)
    assert str(caught.value) == f"{tmp_path}/file: File too large. {FULL}"
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_copy_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"n" * 200)
    write_whole(tmp_path / "out" / "file", b"old")
    with files_of_at_most(100), pytest.raises(StorageError) as caught:
        copy_whole(source, tmp_path / "out" / "file")
    assert str(caught.value) == f"{tmp_path}/out/file: File too large. {FULL}"
    assert (tmp_path / "out" / "file").read_bytes() == b"old"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]


def test_full_disk_is_said_plainly() -> None:
    place = Path("/dev/full")
    with pytest.raises(StorageError) as caught, storage_errors(place):  # noqa: SIM117
        with place.open("wb", buffering=0) as stream:
            stream.write(b"1")
    assert str(caught.value) == f"/dev/full: No space left on device. {FULL}"


def test_folder_below_a_file_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        write_whole(tmp_path / "file" / "below", b"")
    assert str(caught.value) == f"{tmp_path}/file: File exists. {IN_THE_WAY}"


def test_folder_in_place_of_a_file_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(StorageError) as caught:
        write_whole(tmp_path / "file", b"")
    assert str(caught.value) == f"{tmp_path}/file: Is a directory. {IN_THE_WAY}"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_refusal_elsewhere_names_that_place(tmp_path: Path) -> None:
    elsewhere = PermissionError(13, "Permission denied", "/data/weights.safetensors")
    with pytest.raises(StorageError) as caught, storage_errors(tmp_path / "cache"):
        raise elsewhere
    assert str(caught.value) == f"/data/weights.safetensors: Permission denied. {FORBIDDEN}"


def test_refusal_of_nothing_by_name_names_the_place(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught, storage_errors(tmp_path / "cache"):
        raise PermissionError(1, "Operation not permitted")
    assert str(caught.value) == f"{tmp_path}/cache: Operation not permitted. {FORBIDDEN}"


def test_other_trouble_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), storage_errors(tmp_path):
        os.stat(tmp_path / "nothing")  # noqa: PTH116
