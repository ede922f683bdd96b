import pytest

from packager.devices import system_calls
from packager.errors import ToolError

SOURCE = "strace 6.1"

# Recorded: the lines of each tool for one program, and what became of them.
STRACE = """\
execve("./net", ["./net"], 0x7ffe4bd43bc8 /* 35 vars */) = 0
brk(NULL)                               = 0x55d3a0426000
access("/etc/ld.so.preload", R_OK)      = -1 ENOENT (No such file or directory)
socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0) = 3
connect(3, {sa_family=AF_UNIX, sun_path="/nonexistent/x"}, 110) = -1 ENOENT (No such file)
socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE) = 4
bind(4, {sa_family=AF_NETLINK, nl_pid=0, nl_groups=00000000}, 12) = 0
socketpair(AF_UNIX, SOCK_STREAM, 0, [5, 6]) = 0
sendto(5, "hi", 2, 0, NULL, 0)          = 2
recvfrom(6, "hi", 2, 0, NULL, NULL)     = 2
openat(AT_FDCWD, "/etc/new\\nline", O_RDONLY) = -1 ENOENT (No such file or directory)
syscall_0x3e7(0x1, 0x5606d25c4, 0x1c, 0x7, 0x5606d25c4600, 0x7fddde4186c0) = -1 ENOSYS (Function)
--- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=21662, si_uid=0, si_status=3} ---
exit_group(7)                           = ?
+++ exited with 7 +++
"""
EMULATOR = """\
11313 brk(NULL) = 0x00000000004a8000
11313 set_robust_list(4882656,24,4882656,1,0,4882704) = -1 errno=38 (Function not implemented)
11313 Unknown syscall 293
11313 readlinkat(AT_FDCWD,"/proc/self/exe",0x00000055007ff700,4096) = 16
11313 socket(PF_UNIX,SOCK_STREAM|SOCK_CLOEXEC,IPPROTO_IP) = 4
11313 connect(4,0x800630,110) = -1 errno=2 (No such file or directory)
11313 socket(PF_NETLINK,SOCK_RAW,NETLINK_ROUTE) = 5
11313 bind(5,{nl_family=AF_NETLINK,nl_pid=0,nl_groups=0}, 12) = 0
--- SIGPIPE {si_signo=SIGPIPE, si_code=SI_USER, si_pid=11313, si_uid=0} ---
11313 exit_group(7)
"""


def network(*lines: str) -> tuple[str, ...]:
    record = "".join(f"{line}\n" for line in lines).encode()
    return system_calls.trace([record], source=SOURCE).network


def test_calls_are_counted_by_name() -> None:
    found = system_calls.trace([EMULATOR.encode()], source=SOURCE)

    assert found.source == SOURCE
    assert found.raw == EMULATOR.encode()
    assert found.counts == (
        ("bind", 1), ("brk", 1), ("connect", 1), ("exit_group", 1), ("readlinkat", 1),
        ("set_robust_list", 1), ("socket", 2), ("unknown 293", 1),
    )  # fmt: skip


@pytest.mark.parametrize("record", [STRACE, EMULATOR])
def test_sockets_that_stay_on_the_machine_are_no_network(record: str) -> None:
    assert system_calls.trace([record.encode()], source=SOURCE).network == ()


def test_all_threads_are_counted_together() -> None:
    found = system_calls.trace([b"getppid() = 1\n", b"getppid() = 1\n+++ exited with 0 +++\n"],
                               source=SOURCE)  # fmt: skip

    assert found.counts == (("getppid", 2),)


@pytest.mark.parametrize(
    "line",
    [
        "socket(AF_INET, SOCK_STREAM, IPPROTO_IP) = 9",
        "socket(AF_INET6, SOCK_DGRAM, IPPROTO_IP) = -1 EPERM (Operation not permitted)",
        "socket(AF_PACKET, SOCK_RAW, htons(0 /* ETH_P_??? */)) = 7",
        "socket(AF_VSOCK, SOCK_STREAM, 0)        = 8",
        "socket(0x2d /* AF_??? */, SOCK_RAW, 0)  = 8",
        "11313 socket(PF_INET,SOCK_STREAM,IPPROTO_IP) = 11",
        "11313 socket(10,SOCK_DGRAM,IPPROTO_IP) = 15",
        "11313 socket(PF_PACKET,SOCK_RAW,0) = 8",
        "11313 socket(39,SOCK_RAW,IPPROTO_IP) = -1 errno=97 (Address family not supported)",
        "io_uring_setup(1, NULL)                 = -1 EFAULT (Bad address)",
        "socketpair(AF_TIPC, SOCK_STREAM, 0, [5, 6]) = 0",
    ],
)
def test_a_socket_of_any_other_family_is_network(line: str) -> None:
    assert network("brk(NULL) = 0x1", line) == (line,)


@pytest.mark.parametrize(
    "use", ["connect(3, 0x80, 16) = 0", 'sendto(3, "x", 1, 0, NULL, 0) = 1', "accept(3) = 4"]
)
def test_a_socket_that_the_program_did_not_make_is_network(use: str) -> None:
    assert network(use) == (use,)
    assert network("socket(AF_UNIX, SOCK_STREAM, 0) = 4", use) == (use,)
    assert network("socket(AF_UNIX, SOCK_STREAM, 0) = -1 EMFILE (Too many)", use) == (use,)
    assert network("socket(AF_UNIX, SOCK_STREAM, 0) = 3", use) == ()


def test_a_pair_whose_numbers_are_not_recorded_is_taken_for_network() -> None:
    use = "11313 sendto(6,4593880,2,0,0,0) = 2"

    assert network("11313 socketpair(1,1,0,365080610328,365080610464,5) = 0", use) == (use,)


def test_the_call_of_a_child_that_follows_in_the_same_line_is_seen() -> None:
    line = "21639 wait4(-1,0,0,0,0,48)21644 socket(PF_INET,SOCK_DGRAM,IPPROTO_IP) = 15"

    found = system_calls.trace([f"{line}\n = 21644\n".encode()], source=SOURCE)

    assert found.counts == (("socket", 1), ("wait4", 1))
    assert found.network == (line,)


def test_a_line_that_is_not_understood_is_an_error() -> None:
    with pytest.raises(ToolError) as caught:
        network('21639 openat(AT_FDCWD,"/etc/new', 'line",O_RDONLY) = -1')

    problem = "recorded a line that is not understood"
    assert str(caught.value) == f'{SOURCE} {problem}. It printed: line",O_RDONLY) = -1'
