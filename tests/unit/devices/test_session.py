import pytest

from packager.devices.guest import Report
from packager.devices.session import End, Session, plain, report
from packager.errors import DeviceError
from tests.unit.devices.test_serial import KEY, sent

DEVICE = "qemu-system:cortex-a53"
INSTALL = "Run `packager setup-device qemu`."
FACTS = b"status 0\npeak_memory_bytes 3305472\nkilled_for_memory 0\nnetwork_devices lo\n"
FILES = {"facts": FACTS, "stdout": b"out\n", "stderr": b"err\n"}
STARTED = f"{KEY} started\n".encode()


def session(
    *, end: End = End.BY_ITSELF, problem: str = "", console: str = "", raw: bytes = b""
) -> Session:
    return Session(end=end, problem=problem, console=console, sent=raw, key=KEY)


def of(files: dict[str, bytes]) -> Report:
    return report(session(raw=sent(files)), device=DEVICE)


def with_facts(before: str, after: str) -> dict[str, bytes]:
    changed = FACTS.replace(before.encode(), after.encode())
    assert changed != FACTS
    return {**FILES, "facts": changed}


def failure(left: Session) -> str:
    with pytest.raises(DeviceError) as caught:
        report(left, device=DEVICE)
    assert str(caught.value).startswith(f"{DEVICE}: ")
    return str(caught.value).removeprefix(f"{DEVICE}: ")


def test_run_is_reported_as_the_machine_sent_it() -> None:
    assert of({**FILES, "payload/made.txt": b"1", "payload/a b": b"2"}) == Report(
        returncode=0,
        stdout=b"out\n",
        stderr=b"err\n",
        peak_memory_bytes=3305472,
        out_of_memory=False,
        network_devices=("lo",),
        calls=None,
        files={"made.txt": b"1", "a b": b"2"},
    )


def test_record_of_system_calls_is_no_file_of_the_program() -> None:
    told = of({"calls": b"# tracer: nop\n", **FILES})
    assert (told.calls, told.files) == (b"# tracer: nop\n", {})


@pytest.mark.parametrize(
    ("status", "returncode"),
    [(5, 5), (127, 127), (128, 128), (129, -1), (137, -9), (139, -11), (192, -64), (193, 193)],
)
def test_status_of_a_program_that_a_signal_ended_is_negative(status: int, returncode: int) -> None:
    assert of(with_facts("status 0", f"status {status}")).returncode == returncode


def test_program_that_needed_more_memory_is_marked() -> None:
    files = with_facts("killed_for_memory 0", "killed_for_memory 2")
    assert of(files).out_of_memory


@pytest.mark.parametrize(("said", "names"), [("lo eth0", ("lo", "eth0")), ("", ())])
def test_each_network_interface_is_named(said: str, names: tuple[str, ...]) -> None:
    files = with_facts("network_devices lo", f"network_devices {said}")
    assert of(files).network_devices == names


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("status 0\n", ""),
        ("status 0\n", "status 0\nstatus 0\n"),
        ("status 0", "status -9"),
        ("status 0", "status"),
        ("peak_memory_bytes 3305472", "peak_memory_bytes max"),
        ("killed_for_memory 0", "killed_for_memory "),
        ("network_devices lo\n", ""),
        ("network_devices lo\n", "network_devices lo\nmore 1\n"),
    ],
)
def test_facts_that_are_not_what_the_machine_writes_are_refused(before: str, after: str) -> None:
    files = with_facts(before, after)
    wanted = "status, peak_memory_bytes, killed_for_memory, network_devices"
    assert failure(session(raw=sent(files))) == (
        "what the machine sent over its serial port is damaged: its facts are not "
        f"{wanted}: {files['facts'].decode()!r}. Run the same again. Its console said nothing."
    )


@pytest.mark.parametrize("name", ["facts", "stdout", "stderr"])
def test_file_that_is_missing_is_named(name: str) -> None:
    files = {other: data for other, data in FILES.items() if other != name}
    assert failure(session(raw=sent(files))) == (
        f"what the machine sent over its serial port is damaged: it has no file {name!r}. "
        "Run the same again. Its console said nothing."
    )


def test_results_that_are_cut_off_are_refused() -> None:
    left = session(raw=sent(FILES)[: -len(KEY) - 7], console="[    3.1] reboot: Power down")
    assert failure(left) == (
        "what the machine sent over its serial port is damaged: it does not end with the number "
        "of files. Run the same again. Its console said last: [    3.1] reboot: Power down"
    )


@pytest.mark.parametrize(
    ("console", "message"),
    [
        (
            "[ 0.6] Kernel panic - not syncing: System is deadlocked on memory\n[ 0.7] panic+0x1",
            (
                "the machine stopped: Kernel panic - not syncing: System is deadlocked on memory. "
                "Give it more memory, or put fewer files there."
            ),
        ),
        (
            "[    0.558005] Initramfs unpacking failed: write error",
            (
                "the machine stopped: Initramfs unpacking failed: write error. "
                "Give it more memory, or put fewer files there."
            ),
        ),
        (
            "packager: there is no cgroup2 file system",
            (
                "the machine stopped: packager: there is no cgroup2 file system. "
                f"Look at the device kit: {INSTALL}"
            ),
        ),
    ],
)
def test_machine_that_could_not_work_is_no_result_whatever_it_sent(
    console: str, message: str
) -> None:
    assert failure(session(raw=sent(FILES), console=console)) == message


def test_machine_that_switched_itself_off_before_the_program_ran_is_named() -> None:
    assert failure(session(raw=b"\xff\xfe")) == (
        "the machine switched itself off before the program ran. "
        f"{INSTALL} Its console said nothing."
    )


@pytest.mark.parametrize(
    ("left", "message"),
    [
        (
            session(
                end=End.TOO_LATE, problem="did not end within 9 s, and was killed", raw=STARTED
            ),
            (
                "the emulator did not end within 9 s, and was killed, while the program ran. "
                "Give it more time, or look for what the program waits for. Its console said nothing."
            ),
        ),
        (
            session(end=End.TOO_LATE, problem="did not end within 9 s, and was killed"),
            (
                "the emulator did not end within 9 s, and was killed, before the program ran. "
                f"Give it more time; if that does not help: {INSTALL} Its console said nothing."
            ),
        ),
        (
            session(end=End.KILLED, problem="was killed by SIGKILL", raw=STARTED, console="up"),
            (
                "the emulator was killed by SIGKILL, while the program ran. Look whether this computer "
                "has too little memory, then run the same again. Its console said last: up"
            ),
        ),
        (
            session(end=End.FAILED, problem="ended with exit code 1 (it printed: no such cpu)"),
            (
                "the emulator ended with exit code 1 (it printed: no such cpu), before the program "
                "ran. `packager doctor` checks the emulator. Its console said nothing."
            ),
        ),
    ],
)
def test_bad_end_of_the_emulator_is_named(left: Session, message: str) -> None:
    assert failure(left) == message


def test_emulator_that_failed_has_no_result_even_if_all_was_sent() -> None:
    left = session(end=End.KILLED, problem="was killed by SIGKILL", raw=sent(FILES))
    assert failure(left).startswith("the emulator was killed by SIGKILL, while the program ran. ")


def test_console_cannot_steer_a_terminal() -> None:
    assert plain(b"\x1b[31mred\x07\r\nnext\xff\x00 line\n") == "[31mred\nnext\ufffd line"
