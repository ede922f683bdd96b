import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from packager import environments, tools
from packager.environments import TFLITE_LEGACY, Pinned, interpreter
from packager.errors import MissingToolError, ToolError
from packager.runtimes import tflite_legacy, tflite_legacy_worker
from packager.tools import Finished

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
Pip = Callable[..., Finished]


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pinned:
    """Return an environment of one package, in a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    requirements = tmp_path / "small_requirements.txt"
    requirements.write_text("# why\nsmall-package==1.2.3 \\\n    --hash=sha256:00\n")
    return Pinned(requirements=requirements, python=HERE, needed_by="A test")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stand in for Python and pip; return the commands that they are given."""
    commands: list[list[str]] = []

    def make(argv: list[str | Path], **_: object) -> Finished:
        commands.append([str(part) for part in argv])
        Path(argv[-1], "bin").mkdir(parents=True)
        return Finished(returncode=0, stdout=b"", stderr=b"")

    monkeypatch.setattr(tools, "run_checked", make)
    pip_answers(monkeypatch, commands, returncode=0, stderr="")
    return commands


def pip_answers(
    monkeypatch: pytest.MonkeyPatch, commands: list[list[str]], *, returncode: int, stderr: str
) -> None:
    def install(argv: list[str | Path], *, env: dict[str, str], **_: object) -> Finished:
        commands.append([str(part) for part in argv])
        assert env == {**os.environ, "PIP_CONSTRAINT": ""}
        return Finished(returncode=returncode, stdout=b"", stderr=stderr.encode())

    monkeypatch.setattr(tools, "run", install)


def left(tmp_path: Path) -> list[str]:
    folder = tmp_path / "cache" / "packager" / "environments"
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_environment_is_made_once(pinned: Pinned, made: list[list[str]], tmp_path: Path) -> None:
    python = interpreter(pinned)
    assert interpreter(pinned) == python
    assert python.relative_to(tmp_path).parts[:3] == ("cache", "packager", "environments")
    (name,) = left(tmp_path)
    assert name.startswith("small-")
    assert python.parts[-3:] == (name, "bin", "python")
    create, install = made
    assert create[1:4] == ["-m", "venv", "--without-pip"]
    assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(install)
    assert install[-1] == str(pinned.requirements)


def test_other_requirements_make_another_environment(pinned: Pinned, made: list[list[str]]) -> None:
    first = interpreter(pinned)
    pinned.requirements.write_text("small-package==1.2.4 --hash=sha256:01\n")
    assert interpreter(pinned) != first
    assert len(made) == 4


def test_what_cannot_be_fetched_is_named_and_nothing_is_left(
    pinned: Pinned, made: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "WARNING: Retrying\nERROR: Could not find a version that satisfies small-package"
    pip_answers(monkeypatch, made, returncode=1, stderr=said)
    with pytest.raises(MissingToolError) as caught:
        interpreter(pinned)
    assert str(caught.value) == (
        "A test needs 'small-package==1.2.3', which is not installed. pip fetches it once, and "
        "could not: ERROR: Could not find a version that satisfies small-package. "
        "Run the same command where a package index can be reached."
    )
    assert left(tmp_path) == []


def test_package_of_another_digest_is_refused_and_nothing_is_left(
    pinned: Pinned, made: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."
    pip_answers(monkeypatch, made, returncode=1, stderr=said)
    with pytest.raises(ToolError, match="a package is not the one that is pinned"):
        interpreter(pinned)
    assert left(tmp_path) == []


def test_what_a_killed_run_left_is_removed(
    pinned: Pinned, made: list[list[str]], tmp_path: Path
) -> None:
    place = interpreter(pinned).parents[1]
    place.rename(place.with_name(f"{place.name}.work"))
    interpreter(pinned)
    assert left(tmp_path) == [place.name]
    assert len(made) == 4


def test_missing_python_is_named(pinned: Pinned) -> None:
    with pytest.raises(MissingToolError) as caught:
        interpreter(replace(pinned, python="3.99"))
    assert str(caught.value) == (
        "A test needs 'python3.99', which is not installed. "
        "Its packages exist for Python 3.99: install that beside this one."
    )


def test_cache_folder_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert environments.default_root() == Path.home() / ".cache" / "packager" / "environments"


def test_pinned_runtime_is_the_one_that_is_spoken_of() -> None:
    versions = TFLITE_LEGACY.versions()
    assert list(versions) == list(tflite_legacy_worker.PACKAGES)
    assert versions["tflite-runtime"] == tflite_legacy.VERSION


def test_every_package_is_pinned_by_hash() -> None:
    text = TFLITE_LEGACY.requirements.read_text()
    # One for each processor that a build runs on: x86_64 and aarch64.
    assert text.count("--hash=sha256:") == 2 * len(TFLITE_LEGACY.versions())
