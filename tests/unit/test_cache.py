import importlib.metadata
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from packager.artifacts import File, Visit
from packager.cache import Cache, by_content, decode, encode, files_of, step
from packager.errors import StorageError

CALLS: list[str] = []


@dataclass(frozen=True, kw_only=True)
class Settings:
    keep: int
    modes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Cut:
    program: File
    kept_ratio: float


@step(version=1, tools=("pytest", "no-such-distribution"))
def shrink(out: Path, program: File, settings: Settings) -> Cut:
    CALLS.append(f"shrink {settings.keep}")
    content = program.path.read_bytes()
    (out / "cut.bin").write_bytes(content[: settings.keep])
    return Cut(program=File.of(out / "cut.bin"), kept_ratio=settings.keep / len(content))


@step(version=1)
def explode(out: Path) -> Cut:
    (out / "half-written").touch()
    raise RuntimeError("boom")


@step(version=1)
def overflow(_out: Path) -> Cut:
    # A device that is full by definition: the error is the kernel's own.
    with Path("/dev/full").open("wb", buffering=0) as stream:
        stream.write(b"1")
    raise AssertionError("unreachable")


@pytest.fixture(autouse=True)
def no_calls() -> None:
    CALLS.clear()


@pytest.fixture
def program(tmp_path: Path) -> File:
    path = tmp_path / "program.bin"
    path.write_bytes(b"12345678")
    return File.of(path)


def entries(cache: Cache) -> list[str]:
    """Return what the cache holds, but for its tag and its empty lock files."""
    return sorted(
        path.name
        for path in cache.root.iterdir()
        if path.name != "CACHEDIR.TAG" and path.suffix != ".lock"
    )


def test_same_input_runs_once(cache: Cache, program: File) -> None:
    first = cache.run(shrink, program, Settings(keep=4))
    again = cache.run(shrink, program, Settings(keep=4))
    assert first == again
    assert first.program.path.read_bytes() == b"1234"
    assert CALLS == ["shrink 4"]
    assert cache.visits == [
        Visit(step="test_cache", label="", reused=False, reason="first run"),
        Visit(step="test_cache", label="", reused=True, reason=""),
    ]


def test_argument_by_name_is_the_same_input(cache: Cache, program: File) -> None:
    cache.run(shrink, program, Settings(keep=4))
    cache.run(shrink, program, settings=Settings(keep=4))
    assert CALLS == ["shrink 4"]


def test_moved_model_is_still_the_same_input(cache: Cache, program: File, tmp_path: Path) -> None:
    cache.run(shrink, program, Settings(keep=4))
    (tmp_path / "elsewhere").mkdir()
    moved = program.path.rename(tmp_path / "elsewhere" / program.path.name)
    cache.run(shrink, File.of(moved), Settings(keep=4))
    assert CALLS == ["shrink 4"]


def test_moved_cache_still_hits(cache: Cache, program: File, tmp_path: Path) -> None:
    cache.run(shrink, program, Settings(keep=4))
    cache.root.replace(tmp_path / "moved")
    again = Cache(tmp_path / "moved").run(shrink, program, Settings(keep=4))
    assert CALLS == ["shrink 4"]
    assert again.program.path.parent.parent == tmp_path / "moved"
    assert again.program.path.read_bytes() == b"1234"


def test_several_values_at_once_are_an_input(cache: Cache) -> None:
    @step(version=1)
    def count(out: Path, settings: tuple[Settings, ...]) -> Cut:
        (out / "cut.bin").touch()
        return Cut(program=File.of(out / "cut.bin"), kept_ratio=len(settings))

    cache.run(count, (Settings(keep=1), Settings(keep=2)))
    cache.run(count, (Settings(keep=1), Settings(keep=3)))
    assert cache.visits[-1].reason == "inputs.settings[1].keep: 2 -> 3"


def test_changed_content_under_the_same_name_runs_again(cache: Cache, program: File) -> None:
    cache.run(shrink, program, Settings(keep=4))
    program.path.write_bytes(b"87654321")
    cache.run(shrink, File.of(program.path), Settings(keep=4))
    assert CALLS == ["shrink 4", "shrink 4"]
    assert cache.visits[-1].reason == ("inputs.program.sha256: ef797c8118f0... -> e24df920078c...")


def test_changed_setting_runs_again_and_is_named(cache: Cache, program: File) -> None:
    cache.run(shrink, program, Settings(keep=4))
    cache.run(shrink, program, Settings(keep=5, modes=("fast",)))
    assert CALLS == ["shrink 4", "shrink 5"]
    assert cache.visits[-1].reason == (
        "inputs.settings.keep: 4 -> 5; inputs.settings.modes: [] -> nothing; "
        "inputs.settings.modes[0]: nothing -> fast"
    )


def test_many_changes_are_counted(cache: Cache, program: File) -> None:
    cache.run(shrink, program, Settings(keep=4, modes=("a", "b", "c", "d", "e", "f")))
    cache.run(shrink, program, Settings(keep=4, modes=("g", "h", "i", "j", "k", "l")))
    assert cache.visits[-1].reason.count("; ") == 4
    assert cache.visits[-1].reason.endswith("; and 2 more")


def test_changed_tool_runs_again_and_is_named(
    cache: Cache, program: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.run(shrink, program, Settings(keep=4))
    real = importlib.metadata.version
    monkeypatch.setattr(
        "importlib.metadata.version", lambda name: "99" if name == "pytest" else real(name)
    )
    cache.run(shrink, program, Settings(keep=4))
    assert cache.visits[-1].reason == f"tools.pytest: {real('pytest')} -> 99"


def test_step_of_a_new_version_runs_again(cache: Cache, program: File) -> None:
    cache.run(shrink, program, Settings(keep=4))
    cache.run(replace(shrink, version=2), program, Settings(keep=4))
    assert CALLS == ["shrink 4", "shrink 4"]
    assert cache.visits[-1].reason == "version: 1 -> 2"


def test_reason_compares_with_the_last_run_of_the_same_target(cache: Cache, program: File) -> None:
    phone, handheld = Cache(cache.root, label="phone"), Cache(cache.root, label="handheld")
    phone.run(shrink, program, Settings(keep=4))
    handheld.run(shrink, program, Settings(keep=6))
    phone.run(shrink, program, Settings(keep=5))
    assert phone.visits[-1].reason == "inputs.settings.keep: 4 -> 5"


def test_reused_result_counts_as_the_last_run(cache: Cache, program: File) -> None:
    for keep in (4, 5, 4, 6):
        cache.run(shrink, program, Settings(keep=keep))
    assert cache.visits[-1].reason == "inputs.settings.keep: 4 -> 6"


@pytest.mark.parametrize("damage", ["cut.bin", "result.json"])
@pytest.mark.parametrize("content", [b"", b"5678", b"\xff", None])
def test_damaged_result_is_computed_again(
    cache: Cache, program: File, damage: str, content: bytes | None
) -> None:
    known = cache.run(shrink, program, Settings(keep=4))
    damaged = known.program.path.parent / damage
    damaged.unlink() if content is None else damaged.write_bytes(content)
    again = cache.run(shrink, program, Settings(keep=4))
    assert again.program.path.read_bytes() == b"1234"
    assert CALLS == ["shrink 4", "shrink 4"]
    assert cache.visits[-1].reason == "the cached result was damaged"


def test_damaged_key_of_the_last_run_is_a_first_run(cache: Cache, program: File) -> None:
    known = cache.run(shrink, program, Settings(keep=4))
    (known.program.path.parent / "key.json").write_text("{")
    cache.run(shrink, program, Settings(keep=5))
    assert cache.visits[-1].reason == "first run"


def test_failed_step_leaves_nothing_behind(cache: Cache) -> None:
    with pytest.raises(RuntimeError, match="boom"):
        cache.run(explode)
    assert entries(cache) == []
    assert cache.visits == []


def test_killed_step_leaves_nothing_that_is_used(cache: Cache, program: File) -> None:
    known = cache.run(shrink, program, Settings(keep=4)).program.path.parent
    # What a kill -9 between the last write and the rename leaves.
    known.replace(cache.root / f".{known.name}.work")
    again = cache.run(shrink, program, Settings(keep=4))
    assert CALLS == ["shrink 4", "shrink 4"]
    assert again.program.path.read_bytes() == b"1234"
    assert entries(cache) == [".latest-test_cache-", known.name]


def test_next_build_removes_what_killed_steps_left(cache: Cache) -> None:
    (cache.root / ".prune-0123456789abcdef.work").mkdir()
    (cache.root / ".prune-0123456789abcdef.work" / "half.pt2").touch()
    Cache(cache.root)
    assert entries(cache) == []


def test_next_build_leaves_alone_who_still_works(cache: Cache, program: File) -> None:
    started, finish = threading.Event(), threading.Event()

    def slow(out: Path, program: File) -> Cut:
        started.set()
        assert finish.wait(timeout=10)
        return shrink.run(out, program, Settings(keep=2))

    worker = threading.Thread(target=cache.run, args=(step(version=1)(slow), program))
    worker.start()
    assert started.wait(timeout=10)
    before = entries(cache)
    Cache(cache.root)
    assert entries(cache) == before
    finish.set()
    worker.join(timeout=10)
    assert cache.visits == [Visit(step="test_cache", label="", reused=False, reason="first run")]


def test_same_entry_wanted_at_once_is_computed_once(cache: Cache, program: File) -> None:
    results: list[Cut] = []
    starting = threading.Barrier(4)

    def work() -> None:
        own = Cache(cache.root)
        starting.wait(timeout=10)
        results.append(own.run(shrink, program, Settings(keep=4)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert CALLS == ["shrink 4"]
    assert len(results) == 4
    assert len(set(results)) == 1


def test_full_disk_is_said_plainly_and_leaves_nothing(cache: Cache) -> None:
    with pytest.raises(StorageError) as caught:
        cache.run(overflow)
    assert str(caught.value) == (
        f"{cache.root}: No space left on device. Free some space or name another folder, "
        "then run the same command again."
    )
    assert entries(cache) == []


def test_folder_that_is_a_file_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        Cache(tmp_path / "file" / "cache")
    assert str(caught.value) == (
        f"{tmp_path}/file/cache: Not a directory. Move what is in the way or name another one, "
        "then run the same command again."
    )


def test_cache_marks_itself_for_backup_programs(cache: Cache) -> None:
    tag = (cache.root / "CACHEDIR.TAG").read_text()
    assert tag.startswith("Signature: 8a477f597d28d172789f06886806bc55")


def test_artifact_survives_a_round_trip_through_json(program: File) -> None:
    cut = Cut(program=program, kept_ratio=0.5)
    assert decode(Cut, encode(cut)) == cut


def test_files_are_found_at_any_depth(program: File) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Nested:
        cuts: tuple[Cut, ...]
        none: File | None

    other = File(path=Path("b"), sha256="0" * 64, size_bytes=1)
    cuts = (Cut(program=program, kept_ratio=0.5), Cut(program=other, kept_ratio=0.1))
    nested = Nested(cuts=cuts, none=None)
    assert files_of(nested) == [program, other]
    assert files_of(by_content(nested)) == [
        File(path=Path("program.bin"), sha256=program.sha256, size_bytes=8),
        other,
    ]
