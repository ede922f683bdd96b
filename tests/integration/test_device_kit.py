"""The real device kit: what it holds works, and its trial of the emulator finds faults."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from packager import tools
from packager.device_setup import debian, lock, programs, setup, trial, wheels
from packager.device_setup.debian import Archive
from packager.device_setup.setup import Wish
from packager.device_setup.trial import Program
from packager.devices import Architecture, cpus
from packager.devices.kit import Kit, default_root
from packager.errors import MissingToolError, ToolError
from tests.conftest import missing, require_kit

HELLO = '#include <cstdio>\nint main() { std::puts("hello"); }\n'
ENVIRONMENT = '#include <cstdlib>\nint main() { return std::getenv("LD_LIBRARY_PATH") ? 1 : 0; }\n'
SYSTEM_FOLDERS = ("/var/lib/apt/lists", "/var/cache/apt/archives", "/var/lib/dpkg")


@pytest.fixture(scope="module")
def kit() -> Kit:
    return require_kit()


@pytest.fixture(scope="module")
def program(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Compile what runs the known network on Arm."""
    return trial.compiled(kit, Architecture.AARCH64, tmp_path_factory.mktemp("trial") / "arm")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Read the lists of Debian's archive; they must leave the system as it was."""
    try:
        debian.require_apt()
    except MissingToolError as error:
        missing("apt", str(error))
    before = seen_of_system()
    opened = debian.open_archive(tmp_path_factory.mktemp("apt") / "state", ["amd64"])
    assert seen_of_system() == before
    return opened


def seen_of_system() -> list[tuple[str, int, int]]:
    """Return name, size and time of whatever apt and dpkg keep."""
    found = []
    for path in (path for folder in SYSTEM_FOLDERS for path in Path(folder).glob("*")):
        with contextlib.suppress(FileNotFoundError):  # another test's apt may be at work
            state = path.stat()
            found.append((str(path), state.st_size, state.st_mtime_ns))
    return sorted(found)


def require_affected_qemu(kit: Kit) -> None:
    """Skip on a laptop with another QEMU, which may have other faults; CI has this one."""
    emulator = kit.record.emulator
    if emulator is None or not emulator.version.startswith("7.2."):
        missing("QEMU 7.2", "It is that of Debian 12.")


def test_every_processor_that_is_offered_computes_exactly(kit: Kit, program: Program) -> None:
    found = {
        cpu: trial.fault_on_processor(kit, profile, program)
        for cpu, profile in cpus.PROFILES.items()
    }
    assert found == dict.fromkeys(cpus.PROFILES)


def test_the_fault_of_an_emulator_is_found(kit: Kit, program: Program) -> None:
    require_affected_qemu(kit)
    # QEMU 7.2's `max` has SME, and computes int8 networks wrongly with it.
    wrong = "computes a wrong answer to the known int8 network"
    assert trial.fault_on_core(kit, "max", program) == wrong
    assert trial.fault_on_core(kit, "max,sme=off", program) is None


def test_the_record_says_what_the_emulator_can_do(kit: Kit) -> None:
    require_affected_qemu(kit)
    emulator = kit.record.emulator
    assert emulator is not None
    assert emulator.exact_cpus == tuple(cpus.PROFILES)
    assert (emulator.counts, emulator.boots, emulator.needs_cpuinfo) == (True, True, True)
    assert emulator.faults == ("-cpu max computes a wrong answer to the known int8 network",)


def test_another_answer_on_this_machine_is_noticed(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = trial.compiled(kit, Architecture.X86_64, tmp_path / "native")
    trial.require_right_here(native)
    monkeypatch.setattr(trial, "KNOWN_ANSWER", (*trial.KNOWN_ANSWER[:-1], 0))
    with pytest.raises(ToolError, match="LiteRT gives a wrong answer on this machine"):
        trial.require_right_here(native)


def test_the_kit_is_verified_by_its_digests() -> None:
    require_kit()
    assert not setup.set_up(default_root(), Wish(private=False, locked=False)).made


def test_programs_that_are_only_unpacked_work(
    kit: Kit, archive: Archive, program: Program, tmp_path: Path
) -> None:
    host = tmp_path / "host"
    names = ("aarch64-linux-gnu-g++", "qemu-aarch64")
    programs.unpack_private(archive, tmp_path / "debs", host, names=names)
    unpacked = {name: str(host / "run" / name) for name in names}
    private = Kit(root=kit.root, record=replace(kit.record, programs=unpacked))
    sysroot = kit.sysroot(Architecture.AARCH64)
    for source in (HELLO, ENVIRONMENT):
        (tmp_path / "main.cpp").write_text(source)
        compiler, emulator = (str(private.program(name)) for name in names)
        compile_it = [compiler, f"--sysroot={sysroot}", "main.cpp"]
        tools.run_checked(compile_it, timeout_s=60, cwd=tmp_path)
        tools.run_checked([emulator, "-L", sysroot, "./a.out"], timeout_s=60, cwd=tmp_path)
    first = cpus.PROFILES[trial.FIRST_CPU]
    assert trial.fault_on_processor(private, first, program) is None


def test_a_damaged_package_is_not_unpacked(archive: Archive, tmp_path: Path) -> None:
    (deb,) = archive.fetch_alone(["libmd0"], "amd64", tmp_path / "debs")
    content = bytearray(deb.path.read_bytes())
    content[len(content) // 2] ^= 1
    deb.path.write_bytes(content)
    with pytest.raises(ToolError, match="dpkg-deb ended with exit code 2"):
        debian.unpack([deb], tmp_path / "root")


def test_a_package_that_is_not_there_is_named(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="Unable to locate package no-such-package"):
        archive.fetch(["no-such-package"], "amd64", tmp_path / "debs")


def test_pip_refuses_a_wheel_that_is_not_the_pinned_one(tmp_path: Path) -> None:
    wheel, *_ = lock.read().wheels[Architecture.AARCH64]
    with pytest.raises(ToolError, match="HASHES"):
        wheels.download([replace(wheel, sha256="0" * 64)], tmp_path)
    assert not list(tmp_path.glob("*.whl"))


def test_wheels_of_the_kit_hold_no_more_than_is_used(kit: Kit) -> None:
    libraries = {path.name for path in (kit.root / "runtime").rglob("lib/*")}
    assert libraries == {
        "libLiteRt.so",
        "libexecutorch.so",
        "libexecutorch_backend_xnnpack.so",
        "libexecutorch_kernels_optimized.so",
        "libexecutorch_kernels_quantized.so",
        "libexecutorch_threadpool.so",
    }
