"""The emulated machine: what comes back of a program, and what does not come back."""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from packager import tools
from packager.devices import Architecture, Ran, Watch, qemu_system
from packager.devices.kit import Kit
from packager.devices.qemu_system import QemuSystem
from packager.errors import ConfigError, DeviceError
from tests.conftest import require_kit

SOURCE = Path(__file__).with_name("emulated_machine.c")
MIB = 2**20
RAM_BYTES = 64 * MIB
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def kit() -> Kit:
    return require_kit()


@pytest.fixture(scope="module")
def program(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("program") / "probe"
    sysroot = f"--sysroot={kit.sysroot(Architecture.AARCH64)}"
    compiler = kit.program("aarch64-linux-gnu-g++")
    argv: list[str | Path] = [compiler, sysroot, "-xc", "-std=gnu11", "-O1", SOURCE, "-o", place]
    tools.run_checked(argv, timeout_s=60)
    return place


@pytest.fixture(autouse=True)
def nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert list(folder.iterdir()) == []
    assert emulators() == []


def emulators() -> list[int]:
    """Return the machines that this process has switched on, by the number of the process."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(") ")[2].split()[1])
            command = status.with_name("cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended in the meantime
            continue
        # What runs only to say its version is no machine.
        if parent == os.getpid() and b"-kernel" in command:
            found.append(int(status.parent.name))
    return found


def run(
    kit: Kit,
    program: Path,
    *arguments: str,
    watch: Watch = Watch.NOTHING,
    limit_bytes: int | None = 32 * MIB,
    timeout_s: float = TIMEOUT_S,
) -> Ran:
    device = QemuSystem("cortex-a53", kit, ram_bytes=RAM_BYTES, memory_limit_bytes=limit_bytes)
    with device:
        device.put(program, "probe")
        return device.run(["./probe", *arguments], timeout_s=timeout_s, watch=watch)


def failure(kit: Kit, program: Path, *arguments: str, timeout_s: float = TIMEOUT_S) -> str:
    with pytest.raises(DeviceError) as caught:
        run(kit, program, *arguments, timeout_s=timeout_s)
    return str(caught.value)


def test_all_that_a_program_does_comes_back_and_it_reaches_nothing(
    kit: Kit, program: Path, tmp_path: Path
) -> None:
    given, back = tmp_path / "given.txt", tmp_path / "back.bin"
    given.write_text("as it was")
    with QemuSystem("cortex-a53", kit, ram_bytes=RAM_BYTES, memory_limit_bytes=32 * MIB) as device:
        device.put(program, "probe")
        device.put(given, "given.txt")
        argv = ["./probe", "report", "a b", "", "$(reboot) 'x' \"y\" \\", "--", "-v", "späße"]
        ran = device.run(argv, timeout_s=TIMEOUT_S, watch=Watch.SYSTEM_CALLS)
        device.get("made file.bin", back)
        assert device.description.startswith("Cortex-A53, emulated by qemu-system-aarch64 ")
        assert device.description.endswith(f"may use {32 * MIB} bytes, no network card")
        with pytest.raises(DeviceError, match=r"there is no file 'made\.txt' in its folder"):
            device.get("made.txt", tmp_path / "nothing")
    assert ran.stdout.decode().splitlines() == [
        *(f"[{argument}]" for argument in argv[2:]),
        "127.0.0.1: Network is unreachable",
        "192.0.2.1: Network is unreachable",
        "/boot/key: Permission denied",
        "/dev/ttyS0: Permission denied",
        "/made.txt: Read-only file system",
        "given.txt: opened",
        "given.txt: Permission denied",
    ]
    # The kernel of the machine saw both attempts: 2 is AF_INET, -101 is ENETUNREACH.
    assert ran.calls is not None
    creates, connects = ran.calls.network
    assert creates == "socket(2, 1, 0) = 3"
    assert connects.startswith("connect(3, ")
    assert connects.endswith(", 16) = -101")
    counts = dict(ran.calls.counts)
    assert (counts["socket"], counts["connect"], counts["exit_group"]) == (2, 2, 1)
    assert "setuid" not in counts, "what starts the program is not the program's"
    assert ran.stderr == b"\0\x1b[31m\r\n\xff"
    assert back.read_bytes() == b"\0\n\r\xff"
    assert (ran.returncode, ran.network_devices) == (7, ("lo",))
    assert (ran.out_of_memory, ran.memory_limit_bytes) == (False, 32 * MIB)


def test_program_that_is_not_there_is_named(kit: Kit, program: Path) -> None:
    with QemuSystem("cortex-a53", kit, ram_bytes=RAM_BYTES, memory_limit_bytes=None) as device:
        device.put(program, "probe")
        for name in ("./other", "probe", "/payload/probe"):
            with pytest.raises(DeviceError) as caught:
                device.run([name], timeout_s=TIMEOUT_S)
            assert str(caught.value) == (
                f"qemu-system:cortex-a53: {name!r} is no program in its folder. "
                "Put it there, and call it ./NAME."
            )
        with pytest.raises(DeviceError, match=r"'a\\nb' has a line break, and cannot be passed on"):
            device.run(["./probe", "a\nb"], timeout_s=TIMEOUT_S)


def test_processor_that_is_not_known_is_refused(kit: Kit) -> None:
    with pytest.raises(ConfigError, match=r"Did you mean 'cortex-a53'\?"):
        QemuSystem("cortex-a530", kit, ram_bytes=RAM_BYTES, memory_limit_bytes=None)


def test_processor_that_another_one_plays_calls_itself_by_its_own_name(
    kit: Kit, program: Path, tmp_path: Path
) -> None:
    wanted = tmp_path / "cpuinfo"
    with QemuSystem("cortex-a55", kit, ram_bytes=RAM_BYTES, memory_limit_bytes=None) as device:
        device.put(program, "probe")
        ran = device.run(["./probe", "copy", "/proc/cpuinfo", "seen"], timeout_s=TIMEOUT_S)
        device.get("seen", wanted)
    assert ran.returncode == 0
    assert "CPU part\t: 0xd05\n" in wanted.read_text()


def test_counts_and_memory_repeat_to_the_digit(kit: Kit, program: Path) -> None:
    first, second = (run(kit, program, "loop", watch=Watch.INSTRUCTIONS) for _ in range(2))
    assert first == second
    took_ns = int(first.stdout.split()[-2])
    # Six instructions a turn; the kernel's timer takes less than one in a hundred.
    assert 120_000_000 < took_ns < 121_200_000


def test_memory_of_a_program_is_its_own_and_its_limit_holds(kit: Kit, program: Path) -> None:
    small = run(kit, program, "fill", str(8 * MIB))
    assert small.stdout == b"filled 8388608 bytes, the last is 1\n"
    assert small.peak_memory_bytes is not None
    assert 8 * MIB < small.peak_memory_bytes < 9 * MIB
    # It asks for more at once than the machine has.
    large = run(kit, program, "fill", str(500 * MIB), limit_bytes=8 * MIB)
    assert large == Ran(
        returncode=-signal.SIGKILL,
        stdout=b"",
        stderr=b"",
        peak_memory_bytes=8 * MIB,
        memory_limit_bytes=8 * MIB,
        out_of_memory=True,
        network_devices=("lo",),
    )


def test_crash_is_no_want_of_memory(kit: Kit, program: Path) -> None:
    ran = run(kit, program, "crash")
    assert (ran.returncode, ran.out_of_memory) == (-signal.SIGABRT, False)


def test_program_that_hangs_is_ended_in_time(kit: Kit, program: Path) -> None:
    begin = time.monotonic()
    message = failure(kit, program, "hang", timeout_s=6)
    assert time.monotonic() - begin < 12
    # A busy computer may take all of the time to boot.
    assert message.startswith("qemu-system:cortex-a53: the emulator did not end within 6 s, and ")


def when_it_is_on(act: Callable[[int], None]) -> threading.Thread:
    """Do something to the emulator as soon as it runs."""

    def wait() -> None:
        give_up = time.monotonic() + TIMEOUT_S
        while not (running := emulators()) and time.monotonic() < give_up:
            time.sleep(0.01)
        for process in running:
            act(process)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_emulator_that_is_killed_is_named(kit: Kit, program: Path) -> None:
    killer = when_it_is_on(lambda process: os.kill(process, signal.SIGKILL))
    message = failure(kit, program, "hang")
    killer.join()
    assert message.startswith(
        "qemu-system:cortex-a53: the emulator was killed by SIGKILL (it printed: nothing), "
    )


def test_interrupted_run_leaves_no_emulator(kit: Kit, program: Path) -> None:
    def interrupt(_: int) -> None:
        time.sleep(0.2)  # until `tools.run` waits for it
        os.kill(os.getpid(), signal.SIGINT)

    killer = when_it_is_on(interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(kit, program, "hang")
    killer.join()


def test_machine_that_is_too_small_to_boot_is_named(
    kit: Kit, program: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(qemu_system, "KERNEL_BYTES", 24 * MIB)
    large = tmp_path / "large"
    large.write_bytes(bytes(30 * MIB))
    with QemuSystem("cortex-a53", kit, ram_bytes=RAM_BYTES, memory_limit_bytes=None) as device:
        device.put(program, "probe")
        device.put(large, "large")
        with pytest.raises(DeviceError) as caught:
            device.run(["./probe", "loop"], timeout_s=TIMEOUT_S)
    assert str(caught.value) == (
        "qemu-system:cortex-a53: the machine stopped: Kernel panic - not syncing: System is "
        "deadlocked on memory. Give it more memory, or put fewer files there."
    )
