import json
from dataclasses import replace
from pathlib import Path

import pytest

from packager.artifacts import File
from packager.built import Built
from packager.cache import decode, files_of, map_files
from packager.errors import ConfigError, StorageError
from packager.publish import publish, read, write_report
from tests.built_example import BREACHED, READY, example_built

PAGE = "<!doctype html><title>a report</title>"


@pytest.fixture(autouse=True)
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Built, Path]]:
    """Replace the report's page; return what it was asked to show."""
    calls: list[tuple[Built, Path]] = []

    def render(built: Built, out: Path) -> str:
        calls.append((built, out))
        return PAGE

    monkeypatch.setattr("packager.report.html.render", render)
    return calls


@pytest.fixture
def built(tmp_path: Path) -> Built:
    """Return a build whose files lie in a cache, as they do when it is published."""
    cache = tmp_path / "cache"
    example = example_built(cache)
    (cache / f"{READY}.zip").write_bytes(b"a bundle")

    def placed(file: File) -> File:
        place = cache / file.path
        return File.of(place) if place.is_file() else file

    return map_files(example, placed)


def contents(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_folder_holds_bundles_evidence_and_report(built: Built, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    published = publish(built, out)
    scores = [r.parity.scores for r in built.targets if r.parity]
    evidence = {f"evidence/{file.sha256[:16]}.npz": file.path.read_bytes() for file in scores}
    found = contents(out)
    assert found.keys() == {f"{READY}.zip", "report.html", "build.json", *evidence}
    assert found[f"{READY}.zip"] == b"a bundle"
    assert found["report.html"] == PAGE.encode()
    assert {name: found[name] for name in evidence} == evidence
    assert decode(Built, json.loads(found["build.json"])) == published


def test_published_build_holds_no_path_of_this_machine(built: Built, tmp_path: Path) -> None:
    published = publish(built, tmp_path / "out")
    assert not any(file.path.is_absolute() for file in files_of(published))
    assert str(tmp_path) not in (tmp_path / "out" / "build.json").read_text()


def test_published_files_lie_where_the_build_says(built: Built, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for result in publish(built, out).targets:
        for file in files_of((result.bundle, result.parity)):
            assert File.of(out / file.path) == replace(file, path=out / file.path)


def test_report_shows_what_was_published(
    built: Built, tmp_path: Path, rendered: list[tuple[Built, Path]]
) -> None:
    published = publish(built, tmp_path / "out")
    assert rendered == [(published, tmp_path / "out")]


def test_published_twice_gives_the_same_bytes(built: Built, tmp_path: Path) -> None:
    publish(built, tmp_path / "one")
    publish(built, tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_old_bundle_of_a_target_that_failed_is_removed(built: Built, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / f"{BREACHED}.zip").write_bytes(b"from last week")
    (out / "another-target.zip").write_bytes(b"not of this build")
    publish(built, out)
    assert not (out / f"{BREACHED}.zip").exists()
    assert (out / "another-target.zip").exists()


def test_old_evidence_is_removed_and_other_files_stay(built: Built, tmp_path: Path) -> None:
    evidence = tmp_path / "out" / "evidence"
    evidence.mkdir(parents=True)
    (evidence / "0123456789abcdef.npz").touch()
    (evidence / "my-notes.npz").touch()
    publish(built, tmp_path / "out")
    assert not (evidence / "0123456789abcdef.npz").exists()
    assert (evidence / "my-notes.npz").exists()


def test_folder_that_is_a_file_is_refused(built: Built, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(StorageError, match=r"/out: File exists\. Move what is in the way"):
        publish(built, tmp_path / "out")


def test_published_build_can_be_read_again(built: Built, tmp_path: Path) -> None:
    assert publish(built, tmp_path / "out") == read(tmp_path / "out")


def test_report_can_be_written_again(built: Built, tmp_path: Path) -> None:
    out = tmp_path / "out"
    published = publish(built, out)
    before = contents(out)
    (out / "report.html").unlink()
    assert write_report(published, out) == out / "report.html"
    assert contents(out) == before


def test_folder_without_a_build_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/build.json: cannot be read (No such file or directory). "
        "`packager build` writes it."
    )


@pytest.mark.parametrize("content", ["", "{", "[]", '{"recipe": {}}'])
def test_build_of_another_version_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "build.json").write_text(content)
    with pytest.raises(ConfigError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/build.json: was not written by this version of packager. "
        "Run `packager build` again."
    )
