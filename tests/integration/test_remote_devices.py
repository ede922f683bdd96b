"""Devices that are reached by adb and by ssh.

By ssh this machine reaches itself, through a server with keys of its own. No phone is here: a
stand-in for adb keeps the files of one, and runs its programs in the emulator.
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from packager.devices import Architecture, Ran, Watch, remote
from packager.devices.adb import REMEDIES, open_adb
from packager.devices.kit import Kit
from packager.devices.remote import RemoteDevice
from packager.devices.ssh import address, open_ssh
from packager.errors import DeviceError
from tests.conftest import require_kit, require_program
from tests.integration.devices_for_tests import compiled, none_stays_in, processes_in

HERE = Architecture(os.uname().machine)
ADB = Path(__file__).with_name("scripted_adb.py")
TIMEOUT_S = 30
PROGRAM = "./program"
PHONE_PROGRAMS = ("cat", "chmod", "env", "mkdir", "rm", "sh")
ATTACHED = "List of devices attached\nR58M123\tdevice\n\n"


@pytest.fixture(scope="module")
def kit() -> Kit:
    return require_kit()


@pytest.fixture(scope="module")
def programs(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> dict[Architecture, Path]:
    folder = tmp_path_factory.mktemp("programs")
    return {one: compiled(kit, one, folder / one) for one in (Architecture.AARCH64, HERE)}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "REACH_TIMEOUT_S", 1)


@pytest.fixture
def phone(tmp_path: Path, kit: Kit, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a phone, and put an adb on the PATH that reaches it."""
    folder = tmp_path / "phone"
    for name in ("bin", "empty", "tmp", "host"):
        (folder / name).mkdir(parents=True)
    (folder / "devices").write_text(ATTACHED)
    (folder / "features").write_text("shell_v2\ncmd\n")
    for name in PHONE_PROGRAMS:
        (folder / "bin" / name).symlink_to(require_program(name, "It is part of every Linux."))
    uname = '[ "$1" = -m ] && echo aarch64 || echo Linux 5.10.101-android12'
    getprop = "case $1 in *model) echo Example 7;; *release) echo 14;; esac"
    scripts = {"bin/uname": f"#!/bin/sh\n{uname}\n", "bin/getprop": f"#!/bin/sh\n{getprop}\n"}
    scripts["host/adb"] = f"#!{sys.executable}\n{ADB.read_text()}"
    for place, text in scripts.items():
        (folder / place).write_text(text)
        (folder / place).chmod(0o755)
    monkeypatch.setenv("PHONE", str(folder))
    monkeypatch.setenv("EMULATOR", str(kit.program("qemu-aarch64")))
    monkeypatch.setenv("PATH", f"{folder / 'host'}:{os.environ['PATH']}")
    return folder


@dataclass(frozen=True, kw_only=True)
class Server:
    """An ssh server for this user, on this machine.

    Attributes:
        config: For the client.
        folder: Where it makes temporary files.
    """

    port: int
    config: Path
    folder: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    program = require_program("sshd", "On Debian: apt-get install openssh-server.")
    require_program("ssh", "On Debian: apt-get install openssh-client.")
    folder = tmp_path_factory.mktemp("ssh")
    for key in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
        subprocess.run(command, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "there").mkdir()
    shutil.copyfile(folder / "user.pub", folder / "authorized")
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
        f"PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"SetEnv TMPDIR={folder}/there\n"
    )
    host_key = (folder / "host.pub").read_text()
    (folder / "known").write_text(f"[127.0.0.1]:{port} {host_key}")
    (folder / "config").write_text(
        f"IdentityFile {folder}/user\nIdentitiesOnly yes\n"
        f"UserKnownHostsFile {folder}/known\nGlobalKnownHostsFile none\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    running = subprocess.Popen(
        [program, "-D", "-e", "-f", folder / "sshd_config"], stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(port)
        yield Server(port=port, config=folder / "config", folder=folder / "there")
    finally:
        running.terminate()
        running.wait()


def _wait_for(port: int) -> None:
    end_s = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < end_s, "sshd did not start"
            time.sleep(0.05)
        else:
            return


@pytest.fixture(params=["adb", "ssh"])
def folder(request: pytest.FixtureRequest) -> Path:
    """Where the device keeps its files."""
    if request.param == "ssh":
        server = request.getfixturevalue("server")
        assert isinstance(server, Server)
        return server.folder
    phone = request.getfixturevalue("phone")
    assert isinstance(phone, Path)
    return phone / "tmp"


@pytest.fixture
def opened(
    request: pytest.FixtureRequest, folder: Path, kit: Kit, programs: dict[Architecture, Path]
) -> Iterator[RemoteDevice]:
    """A device in use, with the test program in its folder; afterwards nothing is left there."""
    if folder.parent.name == "phone":
        device = open_adb(None, kit)
    else:
        server = request.getfixturevalue("server")
        device = open_ssh(address(server.address), kit, config=server.config)
    with device:
        device.put(programs[device.architecture], "program")
        yield device
    assert list(folder.iterdir()) == []
    assert none_stays_in(folder)


def run(device: RemoteDevice, *arguments: str, watch: Watch = Watch.NOTHING) -> Ran:
    return device.run([PROGRAM, *arguments], timeout_s=TIMEOUT_S, watch=watch)


def test_arguments_go_to_a_program_as_they_are(opened: RemoteDevice) -> None:
    odd = ["two words", "", "$HOME", "a'b\"c", "-x", "*", "`id`", "umlaut ä", "back\\slash"]

    ran = run(opened, "arguments", *odd)

    stdout = "".join(f"[{word}]\n" for word in odd).encode()
    assert ran == Ran(returncode=9, stdout=stdout, stderr=b"to stderr\n")


def test_what_a_program_prints_comes_back_byte_by_byte(
    opened: RemoteDevice, tmp_path: Path
) -> None:
    content = bytes(range(256)) + b"\r\nno line end"
    (tmp_path / "given").write_bytes(content)
    opened.put(tmp_path / "given", "of all bytes")

    assert run(opened, "file", "of all bytes").stdout == content


def test_files_come_back(opened: RemoteDevice, tmp_path: Path) -> None:
    run(opened, "write", "it's made", "there\n")
    opened.get("it's made", tmp_path / "taken")

    assert (tmp_path / "taken").read_text() == "there\n"


def test_a_file_that_is_not_there_is_an_error(opened: RemoteDevice, tmp_path: Path) -> None:
    with pytest.raises(DeviceError) as caught:
        opened.get("nothing", tmp_path / "taken")

    problem = "there is no file 'nothing' in its folder. No program has made it there."
    assert str(caught.value) == f"{opened.name}: {problem}"


def test_what_is_no_program_is_not_run(opened: RemoteDevice, tmp_path: Path) -> None:
    (tmp_path / "data").touch(mode=0o644)
    opened.put(tmp_path / "data", "data")

    for name in ("./missing", "program", "./data"):
        with pytest.raises(DeviceError, match="is no program in its folder"):
            opened.run([name], timeout_s=TIMEOUT_S)


def test_a_crash_is_the_signal_that_killed_the_program(opened: RemoteDevice) -> None:
    assert run(opened, "crash").returncode == -signal.SIGSEGV


@pytest.mark.parametrize("task", ["stubborn", "parent"])
def test_a_program_that_does_not_end_is_killed_there(
    opened: RemoteDevice, folder: Path, task: str
) -> None:
    with pytest.raises(DeviceError) as caught:
        opened.run([PROGRAM, task], timeout_s=1)

    problem = f"{PROGRAM} did not end within 2 s, and was killed"
    remedy = "Look for what it waits for, or give it more time."
    assert str(caught.value) == f"{opened.name}: {problem}. {remedy}"
    assert none_stays_in(folder)


def test_ctrl_c_leaves_nothing_there(opened: RemoteDevice, folder: Path) -> None:
    def interrupt() -> None:
        while not any(b"sleeper" in command.encode() for command in processes_in(folder)):
            time.sleep(0.02)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run(opened, "sleeper")
    opened.__exit__(None, None, None)

    assert none_stays_in(folder)
    assert list(folder.iterdir()) == []


def test_a_machine_says_what_it_is(server: Server, kit: Kit) -> None:
    device = open_ssh(address(server.address), kit, config=server.config)

    kernel = f"{os.uname().sysname} {os.uname().release}"
    assert device.description == f"127.0.0.1, by ssh, {kernel} on {HERE}"
    assert (device.name, device.emulated) == (f"ssh:{server.address}", False)
    assert device.watches == {Watch.NOTHING, Watch.SYSTEM_CALLS}


def test_a_use_of_the_network_is_seen_there(
    server: Server, kit: Kit, programs: dict[Architecture, Path]
) -> None:
    with open_ssh(address(server.address), kit, config=server.config) as device:
        device.put(programs[HERE], "program")
        using = run(device, "network-in-thread", watch=Watch.SYSTEM_CALLS).calls
        local = run(device, "local", watch=Watch.SYSTEM_CALLS).calls

    assert using is not None
    assert local is not None
    assert [line.partition("(")[0] for line in using.network] == ["socket", "sendto"]
    assert local.network == ()
    assert dict(local.counts)["socket"] == 2


def test_a_machine_has_programs_of_its_own(server: Server, kit: Kit) -> None:
    with open_ssh(address(server.address), kit, config=server.config) as device:
        ran = device.run(["/bin/sh", "-c", "echo $0 $1; exit 3", "a", "b c"], timeout_s=TIMEOUT_S)

    assert ran == Ran(returncode=3, stdout=b"a b c\n", stderr=b"")


def test_a_connection_that_is_lost_is_no_result(
    server: Server, kit: Kit, programs: dict[Architecture, Path]
) -> None:
    def cut() -> None:
        while not processes_in(server.folder):
            time.sleep(0.02)
        for place in Path("/proc").glob("[0-9]*/stat"):
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended in the meantime
                name, _, fields = place.read_text().rpartition(") ")
                if name.endswith("(ssh") and int(fields.split()[1]) == os.getpid():
                    os.kill(int(place.parent.name), signal.SIGKILL)

    with open_ssh(address(server.address), kit, config=server.config) as device:
        device.put(programs[HERE], "program")
        cutter = threading.Thread(target=cut)
        cutter.start()
        with pytest.raises(DeviceError, match="the connection ended before the command did"):
            run(device, "sleeper")
        cutter.join()

    assert none_stays_in(server.folder)
    assert list(server.folder.iterdir()) == []


def test_a_machine_that_is_not_known_is_refused(server: Server, kit: Kit, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(server.config.read_text().replace("/known\n", "/unknown\n"))

    with pytest.raises(DeviceError) as caught:
        open_ssh(address(server.address), kit, config=config)

    assert "it cannot be reached. ssh says: No ED25519 host key is known" in str(caught.value)
    assert "Host key verification failed." in str(caught.value)


def test_a_key_that_is_not_allowed_is_refused(server: Server, kit: Kit, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(server.config.read_text().replace("/user\n", "/host\n"))

    with pytest.raises(DeviceError) as caught:
        open_ssh(address(f"{getpass.getuser()}@{server.address}"), kit, config=config)

    assert "Permission denied (publickey)." in str(caught.value)


def test_a_machine_that_does_not_answer_is_an_error(server: Server, kit: Kit) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        where = address(f"127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(DeviceError, match=r"ssh says: ssh: connect to host 127\.0\.0\.1"):
            open_ssh(where, kit, config=server.config)


def test_a_phone_says_what_it_is(phone: Path, kit: Kit) -> None:
    assert phone.is_dir()
    device = open_adb("R58M123", kit)

    assert device.name == "adb:R58M123"
    assert device.description == (
        "Example 7, Android 14, by adb, Linux 5.10.101-android12 on aarch64"
    )
    assert (device.architecture, device.emulated) == (Architecture.AARCH64, False)
    assert device.watches == {Watch.NOTHING}


@pytest.mark.parametrize(
    ("listing", "serial", "problem"),
    [
        ("", None, "no phone is attached. Plug one in, and allow USB debugging."),
        ("R58M123\tdevice\nemulator-5554\tdevice\n", None,
         "2 phones are attached. Name one of adb:R58M123, adb:emulator-5554."),
        ("R58M123\tunauthorized\n", None,
         f"the phone R58M123 is 'unauthorized'. {REMEDIES['unauthorized']}"),
        ("R58M123\toffline\nother\tdevice\n", "R58M123",
         f"the phone R58M123 is 'offline'. {REMEDIES['offline']}"),
        ("R58M123\tdevice\n", "R58M124",
         "no phone with this serial number is attached. Did you mean 'R58M123'?"),
    ],
)  # fmt: skip
def test_a_phone_that_cannot_be_used_is_an_error(
    phone: Path, kit: Kit, listing: str, serial: str | None, problem: str
) -> None:
    (phone / "devices").write_text(f"List of devices attached\n{listing}\n")

    with pytest.raises(DeviceError) as caught:
        open_adb(serial, kit)

    name = "adb" if serial is None else f"adb:{serial}"
    assert str(caught.value) == f"{name}: {problem}"


def test_a_phone_that_is_too_old_is_an_error(phone: Path, kit: Kit) -> None:
    (phone / "features").write_text("cmd\n")

    with pytest.raises(DeviceError) as caught:
        open_adb(None, kit)

    problem = "its Android is older than 7, which adb cannot run tests on."
    assert str(caught.value) == f"adb: {problem}"
