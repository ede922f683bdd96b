import hashlib
import io
import shutil
import tarfile
from pathlib import Path

import pytest

from packager import tools
from packager.device_setup import debian
from packager.device_setup.debian import Archive, Deb
from packager.errors import MissingToolError, ToolError
from packager.tools import Finished

DUMPED = """\
APT::Architecture "amd64";
Acquire::http::Proxy "http://proxy.example:3128";
APT::Update::Post-Invoke "";
APT::Update::Post-Invoke:: "rm -f /var/cache/apt/archives/*.deb";
Dir::Etc::parts "apt.conf.d";
"""
UPDATE_REFUSED = "E: The repository is not signed."


class Apt:
    """Stands in for apt: records each call, and puts files where packages go."""

    def __init__(self, *, update_error: str = "", packages: tuple[str, ...] = ()) -> None:
        self.update_error, self.packages = update_error, packages
        self.calls: list[list[str]] = []

    def run(
        self,
        argv: list[str],
        *,
        timeout_s: float,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> Finished:
        assert timeout_s > 0
        assert env is None or Path(env["APT_CONFIG"]).is_file()
        self.calls.append(argv)
        if argv[0] == "apt-config":
            return Finished(returncode=0, stdout=DUMPED.encode(), stderr=b"")
        if "update" in argv and self.update_error:
            return Finished(returncode=100, stdout=b"", stderr=self.update_error.encode())
        folders = [part.partition("=")[2] for part in argv if part.startswith("Dir::Cache::")]
        for name in self.packages:
            Path(folders[0] if folders else str(cwd), name).write_bytes(name.encode())
        shown = (
            b"linux-image-arm64\n  Depends: linux-image-6.1.0-56-arm64\n  Depends: <kernel:any>\n"
        )
        return Finished(returncode=0, stdout=shown, stderr=b"")

    def run_checked(self, argv: list[str], *, timeout_s: float) -> Finished:
        return self.run(argv, timeout_s=timeout_s)


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch) -> Apt:
    stand_in = Apt()
    monkeypatch.setattr(tools, "run", stand_in.run)
    monkeypatch.setattr(tools, "run_checked", stand_in.run_checked)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    return stand_in


def test_apt_writes_to_no_place_of_the_system(apt: Apt, tmp_path: Path) -> None:
    archive = debian.open_archive(tmp_path, ["amd64", "arm64"])
    written = archive.config.read_text()
    for place in ("State", "State::lists", "State::status", "Cache", "Log"):
        assert f'\nDir::{place} "{tmp_path}' in written
    assert apt.calls[1] == ["apt-get", "-qq", "-o", "APT::Update::Error-Mode=any", "update"]


def test_the_proxy_stays_and_the_hooks_of_the_system_go(apt: Apt, tmp_path: Path) -> None:
    written = debian.open_archive(tmp_path, ["arm64"]).config.read_text()
    assert apt.calls[0] == ["apt-config", "dump"]
    assert 'Acquire::http::Proxy "http://proxy.example:3128";' in written
    assert "Invoke" not in written
    # A later line wins: this one stands behind the system's own.
    assert written.index("apt.conf.d") < written.index('Dir::Etc::parts "/dev/null"')
    assert 'APT::Get::AllowUnauthenticated "false";' in written


def test_an_archive_that_is_not_signed_is_refused(apt: Apt, tmp_path: Path) -> None:
    apt.update_error = UPDATE_REFUSED
    with pytest.raises(ToolError) as caught:
        debian.open_archive(tmp_path, ["arm64"])
    assert str(caught.value) == (
        "apt-get ended with exit code 100. Look whether there is a network, and whether "
        f"`apt-get update` works. It printed: {UPDATE_REFUSED}"
    )


def test_lists_that_cannot_be_had_are_told_where_that_is_allowed(apt: Apt, tmp_path: Path) -> None:
    assert debian.open_archive_in_part(tmp_path / "whole", ["armhf"]).problems == ""
    apt.update_error = "Ign: something\nW: A list is missing.\n  and more\nE: Failed.\n"
    archive = debian.open_archive_in_part(tmp_path / "part", ["armhf"])
    assert archive.problems == "W: A list is missing.\nE: Failed."


def test_packages_are_described_by_their_files(apt: Apt, tmp_path: Path) -> None:
    archive = debian.open_archive(tmp_path / "apt", ["arm64"])
    name = "zlib1g_1%3a1.2.13+dfsg-1_arm64.deb"
    apt.packages = (name,)
    into = tmp_path / "into"
    fetched = archive.fetch(["zlib1g-dev"], "arm64", into, without=("libc6",))
    assert fetched == (
        Deb(
            name="zlib1g",
            version="1:1.2.13+dfsg-1",
            architecture="arm64",
            path=into / name,
            sha256=hashlib.sha256(name.encode()).hexdigest(),
            size_bytes=len(name),
        ),
    )
    assert apt.calls[-1][-1] == "zlib1g-dev"
    assert "APT::Architectures=arm64" in apt.calls[-1]
    believed = (into / "status").read_text().splitlines()
    assert believed[:3] == ["Package: libc6", "Status: install ok installed", "Architecture: arm64"]


def test_a_package_is_fetched_without_what_it_depends_on(apt: Apt, tmp_path: Path) -> None:
    archive = debian.open_archive(tmp_path / "apt", ["arm64"])
    apt.packages = ("busybox-static_1_arm64.deb",)
    (fetched,) = archive.fetch_alone(["busybox-static"], "arm64", tmp_path / "into")
    assert (fetched.name, fetched.path.parent) == ("busybox-static", tmp_path / "into")
    assert apt.calls[-1][-2:] == ["download", "busybox-static:arm64"]


def test_what_a_package_depends_on(apt: Apt, tmp_path: Path) -> None:
    archive = Archive(config=debian.open_archive(tmp_path, ["arm64"]).config)
    names = archive.depends("linux-image-arm64", "arm64")
    assert names == ("linux-image-6.1.0-56-arm64", "kernel")
    assert apt.calls[-1][0] == "apt-cache"


def test_a_machine_without_apt_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert not debian.is_here()
    with pytest.raises(MissingToolError) as caught:
        debian.open_archive(tmp_path, ["arm64"])
    assert str(caught.value) == (
        "Fetching Debian packages needs 'apt-get', which is not installed. Only Debian's own apt "
        "can check its packages: use a Debian machine."
    )


def test_unpacked_packages_lie_as_in_a_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = tmp_path / "root"

    def extract(argv: list[object], *, timeout_s: float) -> None:
        assert timeout_s > 0
        assert argv == ["dpkg-deb", "--extract", Path("zlib1g.deb"), root]
        for name in ("lib/arm/libz.so.1", "usr/lib/arm/libz.a", "usr/share/man/man3/zlib.3.gz"):
            place = root / name
            place.parent.mkdir(parents=True)
            place.write_text(name)
        (root / "usr/lib/arm/libz.so").symlink_to("/lib/arm/libz.so.1")

    monkeypatch.setattr(tools, "run_checked", extract)
    deb = Deb(
        name="zlib1g", version="1", architecture="arm64", path=Path("zlib1g.deb"),
        sha256="a" * 64, size_bytes=1,
    )  # fmt: skip
    debian.unpack([deb], root)
    assert (root / "lib").readlink() == Path("usr/lib")
    assert (root / "usr/lib/arm/libz.so.1").read_text() == "lib/arm/libz.so.1"
    assert (root / "usr/lib/arm/libz.so").readlink() == Path("../../../lib/arm/libz.so.1")
    assert (root / "usr/lib/arm/libz.so").read_text() == "lib/arm/libz.so.1"
    assert not (root / "usr/share/man").exists()


def ar_member(name: str, content: bytes) -> bytes:
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
    return header + content + b"\n" * (len(content) % 2)


def package(folder: Path, members: dict[str, bytes]) -> Deb:
    """Write a Debian package that holds some files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data.getvalue()}
    path = folder / "some_1_arm64.deb"
    path.write_bytes(b"!<arch>\n" + b"".join(ar_member(*part) for part in parts.items()))
    return Deb(
        name="some", version="1", architecture="arm64", path=path, sha256="a" * 64, size_bytes=1
    )


def test_one_file_is_read_without_unpacking(tmp_path: Path) -> None:
    deb = package(tmp_path, {"boot/config-6.1": b"config", "boot/vmlinuz-6.1": b"kernel"})
    assert debian.read_member(deb, "boot/vmlinuz") == b"kernel"


def test_a_package_that_lacks_the_file_is_refused(tmp_path: Path) -> None:
    deb = package(tmp_path, {"boot/config-6.1": b"config"})
    with pytest.raises(ToolError, match=r"some_1_arm64.deb holds no file boot/vmlinuz\*"):
        debian.read_member(deb, "boot/vmlinuz")


@pytest.mark.parametrize("cut", [0, 4, 8, 100, 150, -150])
def test_a_damaged_package_is_refused(tmp_path: Path, cut: int) -> None:
    deb = package(tmp_path, {"boot/vmlinuz-6.1": bytes(range(256)) * 40})
    deb.path.write_bytes(deb.path.read_bytes()[:cut])
    with pytest.raises(ToolError, match=r"some_1_arm64.deb cannot be read"):
        debian.read_member(deb, "boot/vmlinuz")
