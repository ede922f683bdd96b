import shutil
from pathlib import Path

import pytest

from packager import tools
from packager.device_setup import programs
from packager.devices.kit import PROGRAMS
from packager.errors import ToolError
from packager.tools import Finished


class System:
    """Stands in for a system with some programs, whose apt installs what it can."""

    def __init__(self, here: set[str], can_have: set[str]) -> None:
        self.here, self.can_have = here, can_have
        self.calls: list[list[str]] = []

    def which(self, name: str) -> str | None:
        return f"/usr/bin/{name}" if name in self.here else None

    def run(self, argv: list[str], *, timeout_s: float, env: dict[str, str]) -> Finished:
        assert timeout_s > 0
        assert env["DEBIAN_FRONTEND"] == "noninteractive"
        self.calls.append(argv[argv.index("DPkg::Lock::Timeout=120") + 1 :])
        if "install" in argv:
            self.here |= self.can_have
        return Finished(returncode=0, stdout=b"", stderr=b"")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> System:
    """Make this a system that has compilers, and nothing else."""
    system = System({"gcc", "g++"}, set(PROGRAMS))
    monkeypatch.setattr(shutil, "which", system.which)
    monkeypatch.setattr(tools, "run_checked", system.run)
    return system


def test_only_what_is_missing_is_installed(bare: System) -> None:
    assert programs.missing() == (
        "qemu-aarch64", "qemu-arm", "qemu-system-aarch64", "aarch64-linux-gnu-g++", "strace",
    )  # fmt: skip
    programs.install(programs.missing())
    packages = ["g++-aarch64-linux-gnu", "qemu-system-arm", "qemu-user", "strace"]
    assert bare.calls == [
        ["update"],
        ["install", "--yes", "--no-install-recommends", *packages],
    ]
    assert programs.missing() == ()
    assert programs.of_system() == {name: f"/usr/bin/{name}" for name in PROGRAMS}


def test_a_program_that_its_package_did_not_bring_is_named(bare: System) -> None:
    bare.can_have = set(PROGRAMS) - {"qemu-arm"}
    with pytest.raises(ToolError, match=r"yet \('qemu-arm',\) are not here"):
        programs.install(programs.missing())


def test_packages_that_dpkg_does_not_know_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = (
        b"installed strace 6.1-0.1 amd64\nnot-installed gcc  amd64\nconfig-files g++ 4:12 amd64\n"
    )
    finished = Finished(returncode=1, stdout=shown, stderr=b"no packages found\n")
    monkeypatch.setattr(tools, "run", lambda *_args, **_options: finished)
    assert programs.installed() == (("strace", "6.1-0.1", "amd64"),)


def test_an_emulator_gets_its_libraries_without_a_variable() -> None:
    assert programs._script("qemu-aarch64") == (
        "#!/bin/sh\n"
        'here=$(dirname "$(readlink -f "$0")")/..\n'
        'exec /lib64/ld-linux-x86-64.so.2 --library-path "$here/usr/lib/x86_64-linux-gnu" '
        '"$here/usr/bin/qemu-aarch64" "$@"\n'
    )


def test_a_compiler_finds_the_programs_that_it_starts() -> None:
    assert programs._script("g++") == (
        "#!/bin/sh\n"
        'here=$(dirname "$(readlink -f "$0")")/..\n'
        'LD_LIBRARY_PATH="$here/usr/lib/x86_64-linux-gnu"\n'
        'PATH="$here/usr/bin:$PATH"\n'
        "export LD_LIBRARY_PATH PATH\n"
        'exec "$here/usr/bin/g++" "$@"\n'
    )


def test_what_is_large_and_never_used_is_removed(tmp_path: Path) -> None:
    kept = ("usr/bin/qemu-arm", "usr/lib/gcc/x86_64-linux-gnu/12/cc1plus")
    removed = ("usr/bin/qemu-ppc", "usr/bin/x-lto-dump-12", "usr/lib/gcc/x/12/lto1")
    for name in (*kept, *removed, "usr/include/stdio.h"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    programs._prune(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(kept)
