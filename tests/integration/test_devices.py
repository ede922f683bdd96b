"""Devices on this machine: the machine itself, and a processor that is emulated."""

import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from packager import tools
from packager.devices import Architecture, Device, Mark, Ran, Watch, cpus
from packager.devices.host import Host
from packager.devices.kit import Kit
from packager.devices.qemu_user import CORES, QemuUser
from packager.errors import DeviceError
from tests.integration.devices_for_tests import (
    compiled,
    kit_with_own_plugin,
    none_stays_in,
    processes_in,
)

TIMEOUT_S = 30
PROGRAM = "./program"
CPU = "cortex-a53"
CPUS_64 = [name for name, cpu in cpus.PROFILES.items() if cpu.architecture == "aarch64"]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return kit_with_own_plugin(tmp_path_factory.mktemp("kit"))


@pytest.fixture(scope="module")
def programs(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> dict[Architecture, Path]:
    folder = tmp_path_factory.mktemp("programs")
    architectures = (Architecture.AARCH64, Architecture.X86_64)
    return {one: compiled(kit, one, folder / one, "-static") for one in architectures}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have temporary files in a place of their own, and see that nothing is left there."""
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []
    assert none_stays_in(folder)


@pytest.fixture(params=["host", "qemu-user"])
def opened(
    request: pytest.FixtureRequest, kit: Kit, programs: dict[Architecture, Path]
) -> Iterator[Device]:
    """A device in use, with the test program in its folder."""
    device = Host(kit) if request.param == "host" else QemuUser(CPU, kit)
    with device:
        device.put(programs[device.architecture], "program")
        yield device


@pytest.fixture
def emulated(kit: Kit, programs: dict[Architecture, Path]) -> Iterator[QemuUser]:
    with QemuUser(CPU, kit) as device:
        device.put(programs[Architecture.AARCH64], "program")
        yield device


def run(device: Device, *arguments: str, watch: Watch = Watch.NOTHING) -> Ran:
    return device.run([PROGRAM, *arguments], timeout_s=TIMEOUT_S, watch=watch)


def counts(marks: tuple[Mark, ...]) -> list[int]:
    """Return the instructions from each mark to the next."""
    return [after.instructions - before.instructions for before, after in pairwise(marks)]


def test_arguments_go_to_a_program_as_they_are(opened: Device) -> None:
    odd = ["two words", "", "$HOME", "a'b\"c", "-x", "*", "umlaut ä"]

    ran = run(opened, "arguments", *odd)

    stdout = "".join(f"[{word}]\n" for word in odd).encode()
    assert ran == Ran(returncode=9, stdout=stdout, stderr=b"to stderr\n")


def test_files_go_to_a_device_and_come_back(opened: Device, tmp_path: Path) -> None:
    given, taken = tmp_path / "given", tmp_path / "taken"
    given.write_bytes(bytes(range(256)))
    opened.put(given, "of all bytes")

    ran = run(opened, "file", "of all bytes")
    run(opened, "write", "made", "there")
    opened.get("made", taken)

    assert ran.stdout == bytes(range(256))
    assert taken.read_text() == "there"


def test_a_file_that_is_not_there_is_an_error(opened: Device, tmp_path: Path) -> None:
    with pytest.raises(DeviceError) as caught:
        opened.get("nothing", tmp_path / "taken")

    problem = "there is no file 'nothing' in its folder. No program has made it there."
    assert str(caught.value) == f"{opened.name}: {problem}"


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "", "..", "-rf"])
def test_only_plain_names_go_to_a_device(opened: Device, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(DeviceError, match="is no name for a file in its folder"):
        opened.put(tmp_path / "file", name)
    with pytest.raises(DeviceError, match="is no name for a file in its folder"):
        opened.get(name, tmp_path / "taken")


def test_a_link_does_not_lead_out_of_the_folder(opened: Device, tmp_path: Path) -> None:
    folder = next(Path(tempfile.gettempdir()).iterdir())
    (folder / "files" / "link").symlink_to("/etc/passwd")

    with pytest.raises(DeviceError, match="there is no file 'link'"):
        opened.get("link", tmp_path / "taken")


@pytest.mark.parametrize("name", ["./missing", "program", "./data", "/no/such/program", "./.."])
def test_what_is_no_program_is_not_run(opened: Device, tmp_path: Path, name: str) -> None:
    (tmp_path / "data").touch(mode=0o644)
    opened.put(tmp_path / "data", "data")

    with pytest.raises(DeviceError):
        opened.run([name], timeout_s=TIMEOUT_S)


def test_a_crash_is_the_signal_that_killed_the_program(opened: Device) -> None:
    assert run(opened, "crash").returncode == -signal.SIGSEGV


def test_none_of_the_users_variables_reach_a_program(
    opened: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LD_PRELOAD", "QEMU_CPU", "QEMU_STRACE", "SECRET"):
        monkeypatch.setenv(name, "1")

    ran = run(opened, "environment")

    assert sorted(ran.stdout.split()) == [b"LC_ALL=C", b"PATH=/usr/bin:/bin", b"PYTHONHASHSEED=0"]
    assert ran.stderr == b""


@pytest.mark.parametrize(
    ("task", "watch"),
    [("stubborn", Watch.NOTHING), *(("parent", watch) for watch in Watch)],
)
def test_a_program_that_does_not_end_is_killed(
    opened: Device, temporary: Path, task: str, watch: Watch
) -> None:
    if watch not in opened.watches:
        assert (opened.name, watch) == ("host", Watch.INSTRUCTIONS)
        return

    with pytest.raises(DeviceError) as caught:
        opened.run([PROGRAM, task], timeout_s=1, watch=watch)

    assert "did not end within 1 s, and was killed. It printed: asleep" in str(caught.value)
    assert none_stays_in(temporary)


def test_a_child_that_a_program_leaves_behind_is_killed(opened: Device, temporary: Path) -> None:
    assert run(opened, "deserter").returncode == 4
    assert none_stays_in(temporary)


def test_a_program_that_prints_for_ever_is_stopped(
    opened: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "MAX_OUTPUT_BYTES", 2**20)

    with pytest.raises(DeviceError, match="printed more than 1048576 bytes, and was killed"):
        run(opened, "flood")


def test_ctrl_c_leaves_nothing(opened: Device, temporary: Path) -> None:
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        run(opened, "sleeper")

    assert none_stays_in(temporary)


def test_an_emulator_that_is_killed_is_no_result(emulated: QemuUser, temporary: Path) -> None:
    def kill() -> None:
        while not processes_in(temporary):
            time.sleep(0.01)
        for process in Path("/proc").glob("[0-9]*"):
            command = (process / "cmdline").read_bytes()
            if b"qemu-aarch64\0" in command and str(temporary).encode() in command:
                os.kill(int(process.name), signal.SIGKILL)

    killer = threading.Timer(0.5, kill)
    killer.start()
    with pytest.raises(DeviceError) as caught:
        run(emulated, "sleeper")
    killer.join()

    remedy = "Look whether this machine has too little memory, then run the same again."
    assert str(caught.value) == f"{emulated.name}: the emulator was killed by SIGKILL. {remedy}"


def test_what_the_emulator_cannot_run_is_no_result(
    emulated: QemuUser, programs: dict[Architecture, Path]
) -> None:
    emulated.put(programs[Architecture.X86_64], "other")

    with pytest.raises(DeviceError) as caught:
        emulated.run(["./other"], timeout_s=TIMEOUT_S)

    assert str(caught.value).startswith(f"{emulated.name}: the emulator does not run it. It says:")


@pytest.mark.parametrize("cpu", CPUS_64)
def test_an_emulated_processor_says_what_the_silicon_says(
    kit: Kit, programs: dict[Architecture, Path], cpu: str
) -> None:
    with QemuUser(cpu, kit) as device:
        device.put(programs[Architecture.AARCH64], "program")
        ran = run(device, "file", "/proc/cpuinfo")
        online = run(device, "file", "/sys/devices/system/cpu/online")
        preload = run(device, "file", "/etc/ld.so.preload")

    assert ran.stdout.decode() == cpus.cpuinfo_text(cpus.PROFILES[cpu], cores=CORES)
    assert online.stdout == b"0\n"
    assert preload == Ran(returncode=0, stdout=b"", stderr=b"")


HWCAP = (
    "fp", "asimd", "evtstrm", "aes", "pmull", "sha1", "sha2", "crc32", "atomics", "fphp",
    "asimdhp", "cpuid", "asimdrdm", "jscvt", "fcma", "lrcpc", "dcpop", "sha3", "sm3", "sm4",
    "asimddp", "sha512", "sve", "asimdfhm", "dit", "uscat", "ilrcpc", "flagm", "ssbs",
)  # fmt: skip
"""Names of the bits, as Linux has them: arch/arm64/include/uapi/asm/hwcap.h."""


@pytest.mark.parametrize("cpu", CPUS_64)
def test_the_extensions_that_are_named_are_those_that_are_emulated(
    kit: Kit, programs: dict[Architecture, Path], cpu: str
) -> None:
    """A runtime that believed in one that is missing would die of an illegal instruction."""
    profile, emulator = cpus.PROFILES[cpu], kit.program("qemu-aarch64")
    core = cpus.core(profile, emulator)
    vector = tools.run(
        [emulator, "-cpu", core.name, programs[Architecture.AARCH64], "hwcap"],
        timeout_s=TIMEOUT_S,
    )
    bits = int(vector.stdout, 16)
    emulated = {name for place, name in enumerate(HWCAP) if bits >> place & 1}

    assert bits >> len(HWCAP) == 0
    assert emulated == set(profile.features)


def test_instructions_are_counted_to_the_digit(emulated: QemuUser) -> None:
    runs = [run(emulated, "alone", "1000", watch=Watch.INSTRUCTIONS) for _ in range(3)]
    longer = run(emulated, "alone", "1500", watch=Watch.INSTRUCTIONS)

    assert runs[0].returncode == 3
    assert runs[1:] == runs[:2]
    assert [mark.tag for mark in runs[0].marks] == [20, 21, 22]
    assert all(mark.exact for mark in runs[0].marks)
    # Two instructions each time round.
    assert [b - a for a, b in zip(counts(runs[0].marks), counts(longer.marks), strict=True)] == [
        1000, 1000,
    ]  # fmt: skip


def test_the_place_of_the_folder_does_not_change_a_count(
    kit: Kit, programs: dict[Architecture, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []
    # Beside the tests' own folders, which can be too deep for a path of a fixed length.
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        for name in ("t", "t" * 50):
            folder = Path(short) / name
            folder.mkdir()
            monkeypatch.setattr(tempfile, "tempdir", str(folder))
            with QemuUser(CPU, kit) as device:
                device.put(programs[Architecture.AARCH64], "program")
                ran.append(run(device, "alone", "1000", watch=Watch.INSTRUCTIONS))

    assert ran[0] == ran[1]


def test_counts_beside_another_thread_are_said_to_be_inexact(emulated: QemuUser) -> None:
    ran = run(emulated, "threads", "1000", watch=Watch.INSTRUCTIONS)

    # It has ended when the second of these marks is passed.
    assert [(mark.tag, mark.exact) for mark in ran.marks] == [(20, True), (21, False), (22, True)]


def test_counts_are_inexact_for_as_long_as_another_thread_lives(emulated: QemuUser) -> None:
    ran = run(emulated, "companion", "1000", watch=Watch.INSTRUCTIONS)

    assert [(mark.tag, mark.exact) for mark in ran.marks] == [(20, True), (21, False), (22, False)]


def test_a_mark_of_a_forked_process_is_said_to_be_inexact(emulated: QemuUser) -> None:
    ran = run(emulated, "process", "1000", watch=Watch.INSTRUCTIONS)

    assert [(mark.tag, mark.exact) for mark in ran.marks] == [
        (20, True), (99, False), (21, True), (22, True),
    ]  # fmt: skip


def test_a_crash_keeps_the_marks_before_it(emulated: QemuUser) -> None:
    ran = run(emulated, "crash", watch=Watch.INSTRUCTIONS)

    assert (ran.returncode, ran.marks) == (-signal.SIGSEGV, ())


@pytest.mark.parametrize("task", ["network", "network-in-thread", "inherited"])
def test_a_use_of_the_network_is_seen(opened: Device, task: str) -> None:
    calls = run(opened, task, watch=Watch.SYSTEM_CALLS).calls

    assert calls is not None
    names = [re.search(r"(\w+)\(", line)[1] for line in calls.network]  # type: ignore[index]
    assert names == (["connect"] if task == "inherited" else ["socket", "sendto"])


def test_sockets_that_stay_on_the_machine_are_no_network(opened: Device) -> None:
    calls = run(opened, "local", watch=Watch.SYSTEM_CALLS).calls

    assert calls is not None
    assert calls.network == ()
    assert dict(calls.counts)["socket"] == 2
    assert calls.source.startswith(("strace 6", "strace 5", "qemu-aarch64 7.2"))
    assert b"AF_UNIX" in calls.raw or b"PF_UNIX" in calls.raw


def test_exit_codes_are_the_same_when_a_run_is_watched(opened: Device) -> None:
    for watch in opened.watches:
        assert run(opened, "exit", "42", watch=watch).returncode == 42
