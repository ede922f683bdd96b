import sys
from pathlib import Path

import pytest

from packager.device_setup import debian, legacy_python, wheels
from packager.device_setup.debian import Deb
from packager.device_setup.legacy_python import LIBRARIES, MODULES, UNCOMPILED, WHEEL, build
from packager.environments import TFLITE_LEGACY
from packager.tools import Finished

DEB = Deb(
    name="libc6",
    version="2.36-9",
    architecture="armhf",
    path=Path("libc6_2.36-9_armhf.deb"),
    sha256="ab" * 32,
    size_bytes=1,
)


class Archive:
    """Debian's archive with one package."""

    problems = ""

    def fetch_alone(self, names: tuple[str, ...], architecture: str, into: Path) -> tuple[Deb, ...]:
        assert names == legacy_python.PACKAGES
        assert (architecture, into.name) == ("armhf", "debs")
        return (DEB,)


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Archive:
    """Stand in for Debian's archive, the package index and Python's compiler."""
    archive = Archive()

    def unpack(debs: tuple[Deb, ...], into: Path) -> None:
        assert debs == (DEB,)
        (into / LIBRARIES).mkdir(parents=True)
        (into / MODULES / "numpy" / "core" / "tests").mkdir(parents=True)

    def extract(wheel: Path, choose: object, into: Path) -> tuple[Path, ...]:
        assert (wheel, callable(choose), into.is_dir()) == (Path("t.whl"), True, True)
        return ()

    def compile_all(argv: list[str | Path], **_: object) -> Finished:
        assert argv[1:4] == ["-I", "-m", "compileall"]
        return Finished(returncode=0, stdout=b"", stderr=b"")

    monkeypatch.setattr(debian, "open_archive_in_part", lambda *_: archive)
    monkeypatch.setattr(debian, "unpack", unpack)
    monkeypatch.setattr(wheels, "download", lambda *_: (Path("t.whl"),))
    monkeypatch.setattr(wheels, "extract", extract)
    monkeypatch.setattr("packager.tools.run_checked", compile_all)
    return archive


@pytest.mark.usefixtures("archive")
def test_folder_has_the_links_that_an_installed_debian_has(tmp_path: Path) -> None:
    fetched = build(tmp_path / "downloads", tmp_path / "root")
    folder = tmp_path / "root" / LIBRARIES
    assert {path.name: str(path.readlink()) for path in folder.iterdir()} == {
        "libblas.so.3": "blas/libblas.so.3",
        "liblapack.so.3": "lapack/liblapack.so.3",
    }
    assert (fetched.debs, fetched.wheel, fetched.problems) == ((DEB,), Path("t.whl"), ())


@pytest.mark.usefixtures("archive")
def test_tests_of_numpy_are_left_out(tmp_path: Path) -> None:
    build(tmp_path / "downloads", tmp_path / "root")
    core = tmp_path / "root" / MODULES / "numpy" / "core"
    assert list(core.iterdir()) == []


def test_what_could_not_be_had_or_done_is_told(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.problems = "E: Failed to fetch bookworm-security"
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    monkeypatch.setenv("PATH", "")
    fetched = build(tmp_path / "downloads", tmp_path / "root")
    assert fetched.problems == ("E: Failed to fetch bookworm-security", UNCOMPILED)


def test_device_has_the_runtime_that_the_build_is_proven_with() -> None:
    assert TFLITE_LEGACY.versions()[WHEEL.name] == WHEEL.version
    assert WHEEL.file_name == "tflite_runtime-2.14.0-cp311-cp311-manylinux_2_34_armv7l.whl"
