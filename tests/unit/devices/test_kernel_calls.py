import pytest
from hypothesis import given
from hypothesis import strategies as st

from packager.devices import CallTrace, kernel_calls
from packager.errors import ToolError

SOURCE = "Linux 6.1.0-56-arm64"
HEADER = "# tracer: nop\n#\n#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION\n"
LAUNCH = (
    "sys_write -> 0x3",
    "sys_execve(filename: 585bc2, argv: 3018b2f0, envp: 3018b500)",
    "sys_execve -> 0x0",
    "sys_socket(family: 2, type: 1, protocol: 0)",
    "sys_socket -> 0x3",
    "sys_setuid(uid: fffe)",
    "sys_setuid -> 0x0",
    "sys_execve(filename: ffffffffffbe, argv: fffffffffde8, envp: fffffffffe00)",
    "sys_execve -> 0x0",
)
"""What the shell and those that start the program do, which is not the program's."""


def line(text: str, process: int = 91) -> str:
    return f"           <...>-{process}      [000] .....     2.548498: {text}\n"


def record(*texts: str) -> bytes:
    return (HEADER + "".join(line(text) for text in (*LAUNCH, *texts))).encode()


def read(*texts: str) -> CallTrace:
    return kernel_calls.read(record(*texts), source=SOURCE)


def refusal(raw: bytes) -> str:
    with pytest.raises(ToolError) as caught:
        kernel_calls.read(raw, source=SOURCE)
    return str(caught.value)


def test_calls_are_counted_from_the_start_of_the_program() -> None:
    texts = (
        "sys_brk(brk: 0)",
        "sys_brk -> 0xaaaaaaac1000",
        "sys_getuid()",
        "sys_getuid -> 0xfffe",
        "sys_brk(brk: aaaaaaae2000)",
        "sys_brk -> 0xaaaaaaae2000",
        "sys_exit_group(error_code: 7)",
    )
    assert read(*texts) == CallTrace(
        source=SOURCE,
        counts=(("brk", 2), ("exit_group", 1), ("getuid", 1)),
        network=(),
        raw=record(*texts),
    )


def test_network_calls_are_named_with_decimal_numbers() -> None:
    trace = read(
        "sys_socket(family: 2, type: 80001, protocol: 0)",
        "sys_socket -> 0xa",
        "sys_connect(fd: a, uservaddr: fffffffffc98, addrlen: 10)",
        "sys_connect -> 0xffffffffffffff9b",
    )
    assert trace.network == (
        "socket(2, 524289, 0) = 10",
        "connect(10, 281474976709784, 16) = -101",
    )


@pytest.mark.parametrize("family", ["1", "10"])
def test_socket_that_stays_on_the_machine_is_no_network(family: str) -> None:
    # 10 is 16, AF_NETLINK, as the kernel writes it; AF_INET6 is its a.
    trace = read(
        f"sys_socket(family: {family}, type: 1, protocol: 0)",
        "sys_socket -> 0x3",
        "sys_connect(fd: 3, uservaddr: fffffffffc98, addrlen: 10)",
        "sys_connect -> 0x0",
    )
    assert trace.network == ()


@pytest.mark.parametrize("family", ["0", "2", "a", "11", "16", "28"])
def test_socket_of_any_other_family_is_network(family: str) -> None:
    trace = read(f"sys_socket(family: {family}, type: 1, protocol: 0)", "sys_socket -> 0x3")
    assert len(trace.network) == 1


def test_call_that_the_end_cut_off_is_counted() -> None:
    trace = read("sys_socket(family: 2, type: 1, protocol: 0)")
    assert trace.network == ("socket(2, 1, 0) = ?",)


def test_calls_of_threads_are_kept_apart() -> None:
    raw = (
        record("sys_clone(clone_flags: 3d0f00, newsp: fffff7, parent_tidptr: 0)")
        + "".join(
            line(text, process)
            for process, text in [
                (92, "sys_clone -> 0x0"),
                (92, "sys_socket(family: 2, type: 1, protocol: 0)"),
                (91, "sys_clone -> 0x5c"),
                (91, "sys_getpid()"),
                (92, "sys_socket -> 0x3"),
                (91, "sys_getpid -> 0x5b"),
            ]
        ).encode()
    )
    trace = kernel_calls.read(raw, source=SOURCE)
    assert trace.counts == (("clone", 1), ("getpid", 1), ("socket", 1))
    assert trace.network == ("socket(2, 1, 0) = 3",)


@pytest.mark.parametrize(
    "text",
    [
        "CPU:0 [LOST 12 EVENTS]",
        line("sys_socket(family: 2"),
        line("sys_socket -> 3"),
        line("sys_socket(family: 2, type: 1, protocol: 0) sys_getuid()"),
        line("sched_switch: prev_comm=scan"),
        "            scan-91      [000] .....     2.548498: sys_getuid()",
    ],
)
def test_line_that_is_not_understood_is_no_missing_call(text: str) -> None:
    said = refusal(record() + text.encode())
    assert said == (f"{SOURCE} recorded a line that is not understood. It printed: {text.rstrip()}")


def test_program_that_never_started_has_no_record() -> None:
    raw = "".join(line(text) for text in LAUNCH[:-1]).encode()
    assert refusal(raw).startswith(f"{SOURCE} recorded no start of the program. It printed: ")
    assert refusal(b"") == f"{SOURCE} recorded no start of the program. It printed nothing."


def test_start_that_failed_is_no_start() -> None:
    raw = record().replace(b"sys_execve -> 0x0", b"sys_execve -> 0xfffffffffffffffe")
    assert refusal(raw).startswith(f"{SOURCE} recorded no start of the program.")


@given(raw=st.binary(max_size=200))
def test_noise_is_refused(raw: bytes) -> None:
    refusal(raw)
