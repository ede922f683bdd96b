"""An `.npz` may come from anywhere: it is read whole and plain, or refused."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from packager.artifacts import File
from packager.datasets import arrays
from packager.datasets.splits import Labelled, Split
from packager.errors import DataError
from packager.recipe import ArrayData
from tests.loaded import raw_frames

FRAMES = np.random.default_rng(0).integers(0, 256, (6, 4, 5), np.uint8)
LABELS = np.array([0, 1, 0, 1, 1, 0])


def recipe(folder: Path) -> ArrayData:
    return ArrayData(
        source="arrays",
        finetune=folder / "finetune.npz",
        validation=folder / "validation.npz",
        calibration=folder / "calibration.npz",
        evaluation=folder / "evaluation.npz",
        origin="drawn for a test",
        simulated=True,
    )


def save(path: Path, frames: NDArray[np.generic] = FRAMES, labels: object = LABELS) -> Path:
    np.savez_compressed(path, frames=frames, labels=np.asarray(labels))
    return path


def save_all(folder: Path) -> ArrayData:
    for index, split in enumerate(Split):
        save(folder / f"{split}.npz", FRAMES + np.uint8(index))
    return recipe(folder)


def refusal(path: Path, *names: str) -> str:
    with pytest.raises(DataError) as caught:
        arrays.read(path, names or ("frames",))
    assert str(caught.value).startswith(f"{path}: ")
    return caught.value.problem


def test_four_files_become_four_splits(tmp_path: Path) -> None:
    data = save_all(tmp_path)
    loaded = arrays.load(data, arrays.find(data))
    assert list(loaded.splits) == list(Split)
    for index, split in enumerate(Split):
        np.testing.assert_array_equal(raw_frames(loaded, split), FRAMES + np.uint8(index))
        np.testing.assert_array_equal(loaded.splits[split].labels, LABELS)
    assert loaded.origin == "drawn for a test"
    assert loaded.simulated


def test_missing_file_is_named_with_its_key_and_a_suggestion(tmp_path: Path) -> None:
    data = save_all(tmp_path)
    data.calibration.rename(tmp_path / "callibration.npz")
    with pytest.raises(DataError) as caught:
        arrays.find(data)
    assert str(caught.value) == (
        f"data.calibration: {data.calibration} is not there. Did you mean 'callibration.npz'?"
    )


def test_missing_folder_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        arrays.find(recipe(tmp_path / "nowhere"))
    path = tmp_path / "nowhere" / "finetune.npz"
    assert str(caught.value) == f"data.finetune: {path} is not there. Check the path."


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint16, np.int64])
def test_labels_of_any_whole_type_are_read(tmp_path: Path, dtype: type[np.generic]) -> None:
    data = save_all(tmp_path)
    save(data.evaluation, labels=LABELS.astype(dtype))
    labels = arrays.load(data, arrays.find(data)).splits[Split.EVALUATION].labels
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, LABELS)


def test_frames_of_another_type_are_refused(tmp_path: Path) -> None:
    data = save_all(tmp_path)
    save(data.validation, FRAMES.astype(np.float64))
    with pytest.raises(DataError) as caught:
        arrays.load(data, arrays.find(data))
    assert str(caught.value) == (
        f"data.validation ({data.validation}): frames are float64. "
        "Save images as uint8 or uint16, signals as float32 or int16."
    )


@pytest.mark.parametrize("labels", [LABELS / 2, LABELS[:, np.newaxis]])
def test_labels_that_are_no_indices_are_refused(tmp_path: Path, labels: object) -> None:
    data = save_all(tmp_path)
    save(data.finetune, labels=labels)
    with pytest.raises(DataError, match=r"they should be whole numbers, one for each frame\.$"):
        arrays.load(data, arrays.find(data))


def test_same_samples_are_written_as_the_same_bytes(tmp_path: Path) -> None:
    samples = Labelled(frames=FRAMES, labels=LABELS)
    one = arrays.write(tmp_path / "one.npz", samples)
    other = arrays.write(tmp_path / "other.npz", samples)
    assert one.sha256 == other.sha256
    assert one == File.of(tmp_path / "one.npz")
    read = arrays.read(one.path, ("frames", "labels"))
    np.testing.assert_array_equal(read["frames"], FRAMES)
    np.testing.assert_array_equal(read["labels"], LABELS)


@pytest.mark.parametrize("saved", [np.asfortranarray(FRAMES), FRAMES[::-1], FRAMES[:0]])
def test_any_order_and_size_is_read_back(tmp_path: Path, saved: NDArray[np.uint8]) -> None:
    read = arrays.read(save(tmp_path / "a.npz", saved), ("frames",))["frames"]
    np.testing.assert_array_equal(read, saved)


def test_array_that_is_not_there_is_named_with_a_suggestion(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", frame=FRAMES)
    problem = refusal(tmp_path / "a.npz")
    assert problem == "holds no array 'frames'. Did you mean 'frame'?"
    np.savez(tmp_path / "empty.npz")
    assert refusal(tmp_path / "empty.npz") == "holds no array 'frames'. It is empty."


# Files that are damaged, or made to harm


class Bomb:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


def test_pickled_objects_are_refused_and_not_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", frames=np.array([Bomb()], dtype=object))
    with pytest.raises(SystemExit):  # what would happen
        np.load(tmp_path / "a.npz", allow_pickle=True)["frames"]
    problem = refusal(tmp_path / "a.npz")
    assert problem == "is not a readable .npz file: 'frames' is no array of plain numbers."


def npz(path: Path, header: bytes, content: bytes = b"", version: bytes = b"\1\0") -> Path:
    """Write an archive whose array has a header of our own."""
    length = len(header).to_bytes(2 if version == b"\1\0" else 4, "little")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("frames.npy", b"\x93NUMPY" + version + length + header + content)
    return path


def header(shape: str, descr: str = "|u1") -> bytes:
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}\n".encode()


def test_header_of_our_own_is_read_where_it_is_right(tmp_path: Path) -> None:
    for version in (b"\1\0", b"\2\0", b"\3\0"):
        path = npz(tmp_path / "a.npz", header("(2, 3)"), b"abcdef", version)
        assert arrays.read(path, ("frames",))["frames"].tobytes() == b"abcdef"


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        ("(100000, 100000)", "'frames' has 10000000000 bytes, the most is 2147483648"),
        ("(7,)", "'frames' should have 7 bytes and has 6"),
        ("(5,)", "'frames' should have 5 bytes and has 6"),
        ("(-2, -3)", "'frames' is no array of plain numbers"),
        ("(0, 99999999999999999999)", "'frames' is no array of plain numbers"),
    ],
)
def test_size_that_is_not_there_is_refused_before_it_is_believed(
    tmp_path: Path, shape: str, problem: str
) -> None:
    path = npz(tmp_path / "a.npz", header(shape), b"abcdef")
    assert refusal(path) == f"is not a readable .npz file: {problem}."


def test_array_of_more_than_the_limit_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = npz(tmp_path / "a.npz", header("(1024, 1024)"), bytes(1048576))
    assert path.stat().st_size < 2000
    assert arrays.read(path, ("frames",))["frames"].sum() == 0
    monkeypatch.setattr(arrays, "MAX_ARRAY_BYTES", 1048575)
    assert "'frames' has 1048576 bytes, the most is 1048575" in refusal(path)


@pytest.mark.parametrize(
    "broken",
    [
        b"{",
        b"[]",
        b"{" + b"-" * 9000 + b"1: 2}",
        b"(" * 9000,
        b"{'descr': '|u1', 'fortran_order': False, 3: (6,)}",
        header("(6,)", "no type"),
        header("(6,)", "|V0"),
        header("(2,)", "<u3"),
        header("(2 3,)"),
        header("(6,)").replace(b"shape", b"shave"),
        header("(6,)") + b" " * 10_000,
        header("(3,)", "<c8"),
        header("'six'"),
    ],
)
def test_broken_header_is_refused(tmp_path: Path, broken: bytes) -> None:
    problem = refusal(npz(tmp_path / "a.npz", broken, b"abcdef"))
    assert problem.startswith("is not a readable .npz file: ")


def test_header_of_an_unknown_version_is_refused(tmp_path: Path) -> None:
    problem = refusal(npz(tmp_path / "a.npz", header("(6,)"), b"abcdef", b"\4\0"))
    assert problem == "is not a readable .npz file: 'frames' is no array of plain numbers."


def test_compression_that_numpy_does_not_write_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("frames.npy", b"anything")
    assert "is compressed by a method that NumPy does not write" in refusal(tmp_path / "a.npz")


def test_encrypted_archive_is_refused(tmp_path: Path) -> None:
    content = bytearray(save(tmp_path / "a.npz").read_bytes())
    # The first bit of the flags, in the directory at the end and before the entry itself.
    for place in (content.index(b"PK\1\2") + 8, content.index(b"PK\3\4") + 6):
        content[place] |= 1
    (tmp_path / "a.npz").write_bytes(content)
    assert "encrypted" in refusal(tmp_path / "a.npz")


def test_plain_array_file_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", FRAMES)
    assert refusal(tmp_path / "a.npy") == "is not a readable .npz file: File is not a zip file."


def test_file_that_was_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.npz").read_bytes()
    for length in range(0, len(whole) - 1, 7):
        (tmp_path / "cut.npz").write_bytes(whole[:length])
        assert refusal(tmp_path / "cut.npz").startswith("is not a readable .npz file: ")


def test_damaged_file_is_refused_or_gives_what_was_saved(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.npz").read_bytes()
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(1000):
        content = bytearray(whole)
        content[rng.integers(len(content))] ^= int(rng.integers(1, 256))
        (tmp_path / "damaged.npz").write_bytes(content)
        try:
            read = arrays.read(tmp_path / "damaged.npz", ("frames", "labels"))
        except DataError:
            outcomes.add("refused")
        else:
            # Bytes that nobody reads, such as dates.
            np.testing.assert_array_equal(read["frames"], FRAMES)
            np.testing.assert_array_equal(read["labels"], LABELS)
            outcomes.add("read")
    assert outcomes == {"refused", "read"}


def test_reading_leaves_no_array_that_a_caller_could_change(tmp_path: Path) -> None:
    frames = arrays.read(save(tmp_path / "a.npz"), ("frames",))["frames"]
    with pytest.raises(ValueError, match="read-only"):
        frames[0] = 0


def test_whole_archive_may_hold_more_than_is_read(tmp_path: Path) -> None:
    unread = io.BytesIO()
    np.save(unread, np.array([Bomb()], dtype=object))
    with zipfile.ZipFile(save(tmp_path / "a.npz"), "a") as archive:
        archive.writestr("notes.npy", unread.getvalue())
    assert list(arrays.read(tmp_path / "a.npz", ("labels",))) == ["labels"]
    assert "'notes' is no array of plain numbers" in refusal(tmp_path / "a.npz", "notes")
