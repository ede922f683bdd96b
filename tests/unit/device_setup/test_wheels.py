import hashlib
import zipfile
from pathlib import Path

import pytest

from packager import tools
from packager.device_setup import wheels
from packager.device_setup.wheels import Wheel
from packager.errors import MissingToolError, ToolError
from packager.tools import Finished

CONTENT = b"a wheel"
WHEEL = Wheel(
    name="ai-edge-litert",
    version="2.3.0",
    tag="cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)


class Pip:
    """Stands in for pip: writes a file where it is told to, and records how it was called."""

    def __init__(self, content: bytes, returncode: int = 0, said: bytes = b"") -> None:
        self.content = content
        self.finished = Finished(returncode=returncode, stdout=b"", stderr=said)
        self.argv: list[str] = []
        self.requirements = ""
        self.environment: dict[str, str] = {}

    def run(self, argv: list[object], *, timeout_s: float, env: dict[str, str]) -> Finished:
        assert timeout_s > 0
        self.argv, self.environment = [str(part) for part in argv[3:]], env
        into, requirements = Path(str(argv[-3])), Path(str(argv[-1]))
        self.requirements = requirements.read_text()
        if self.finished.returncode == 0:
            (into / WHEEL.file_name).write_bytes(self.content)
        return self.finished


def archive(folder: Path, members: dict[str, bytes]) -> Path:
    path = folder / "some.whl"
    with zipfile.ZipFile(path, "w") as written:
        for name, content in members.items():
            written.writestr(name, content)
    return path


def test_a_wheel_is_asked_for_by_version_platform_and_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = Pip(CONTENT)
    monkeypatch.setattr(tools, "run", pip.run)
    (path,) = wheels.download([WHEEL], tmp_path)
    assert path.name == (
        "ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64.whl"
    )
    assert path.read_bytes() == CONTENT
    assert pip.requirements == f"ai-edge-litert==2.3.0 --hash=sha256:{WHEEL.sha256}\n"
    assert pip.argv[:-4] == [
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        "--python-version=3.11",
        "--abi=cp311",
        "--platform=manylinux_2_17_aarch64",
        "--platform=manylinux2014_aarch64",
    ]
    assert pip.environment["PIP_CONSTRAINT"] == ""
    assert [path.name for path in tmp_path.iterdir()] == [WHEEL.file_name]


def test_a_wheel_of_another_content_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "run", Pip(b"another").run)
    with pytest.raises(ToolError) as caught:
        wheels.download([WHEEL], tmp_path)
    found = hashlib.sha256(b"another").hexdigest()
    assert str(caught.value) == (
        f"{WHEEL.file_name} has the SHA-256 {found}, and the lock wants {WHEEL.sha256}. "
        "It printed nothing."
    )


def test_what_pip_says_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "run", Pip(b"", 1, b"ERROR: no such version\n").run)
    with pytest.raises(ToolError) as caught:
        wheels.download([WHEEL], tmp_path)
    assert str(caught.value) == (
        "pip download ended with exit code 1 while it fetched ai-edge-litert 2.3.0. "
        "It printed: ERROR: no such version"
    )


def test_a_python_without_pip_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "run", Pip(b"", 1, b"/usr/bin/python: No module named pip\n").run)
    with pytest.raises(MissingToolError, match="Fetching wheels needs 'pip'"):
        wheels.download([WHEEL], tmp_path)


def test_chosen_files_are_taken_out(tmp_path: Path) -> None:
    members = {"package/lib/a.so": b"a", "package/b.py": b"b", "package/lib/": b""}
    path = archive(tmp_path, members)
    into = tmp_path / "out"
    taken = wheels.extract(path, lambda name: name if "lib" in name else None, into)
    assert taken == (into / "package/lib/a.so",)
    assert [file for file in into.rglob("*") if file.is_file()] == [into / "package/lib/a.so"]
    assert taken[0].read_bytes() == b"a"


@pytest.mark.parametrize("name", ["../a.so", "/a.so", "lib/../../a.so", "lib\\..\\a.so", "", "."])
def test_a_place_outside_is_refused(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path, {"a.so": b"a"})
    with pytest.raises(ToolError) as caught:
        wheels.extract(path, lambda _: name, tmp_path / "out")
    assert str(caught.value) == (
        f"some.whl cannot be unpacked: it holds {name!r}, which would lie outside. "
        "It printed nothing."
    )
    assert [file.name for file in tmp_path.rglob("a.so")] == []


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path, {"a.so": b"a", "b.so": b"b"})
    with pytest.raises(ToolError, match=r"some.whl cannot be unpacked"):
        wheels.extract(path, lambda _: "same.so", tmp_path / "out")


def test_a_huge_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "MAX_FILE_BYTES", 3)
    with pytest.raises(ToolError, match=r"a.so has 4 bytes"):
        wheels.extract(archive(tmp_path, {"a.so": b"four"}), lambda name: name, tmp_path / "out")


@pytest.mark.parametrize("cut", [0, 10, 40])
def test_a_damaged_wheel_is_refused(tmp_path: Path, cut: int) -> None:
    path = archive(tmp_path, {"a.so": bytes(1000)})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ToolError, match=r"some.whl cannot be unpacked"):
        wheels.extract(path, lambda name: name, tmp_path / "out")


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = archive(tmp_path, {"a.so": b"some content"})
    path.write_bytes(path.read_bytes().replace(b"some content", b"same content"))
    with pytest.raises(ToolError, match="Bad CRC-32"):
        wheels.extract(path, lambda name: name, tmp_path / "out")
