"""External programs: whatever they do, they end, and nothing of them is left."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from packager import tools
from packager.errors import MissingToolError, ToolError

PYTHON = sys.executable
SPAWN = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
"""
SLEEP = "import time\ntime.sleep(60)\n"


def is_gone(process: int, *, within_s: float = 5.0) -> bool:
    """Return whether a process ends in time. Whose orphans nobody takes in, they have ended too."""
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
        time.sleep(0.02)
    return False


def children() -> list[str]:
    """Return the children of this process that have not been taken in."""
    task = Path(f"/proc/self/task/{os.getpid()}/children")
    return task.read_text().split()


def test_a_program_gives_its_outputs_and_its_exit_code() -> None:
    script = "import sys; print(sys.stdin.read()); print('to stderr', file=sys.stderr); sys.exit(3)"

    finished = tools.run([PYTHON, "-c", script], timeout_s=20, stdin=b"given")

    assert finished == tools.Finished(returncode=3, stdout=b"given\n", stderr=b"to stderr\n")


def test_a_program_reads_nothing_unless_it_is_given_something() -> None:
    finished = tools.run([PYTHON, "-c", "print(input())"], timeout_s=20)

    assert finished.returncode == 1
    assert finished.stderr.endswith(b"EOFError: EOF when reading a line\n")


def test_a_program_that_is_missing_is_named() -> None:
    with pytest.raises(MissingToolError) as caught:
        tools.run(["no-such-program"], timeout_s=20)

    assert str(caught.value) == (
        "This step needs 'no-such-program', which is not installed. "
        "`packager doctor` says how to get it."
    )


def test_a_program_that_may_not_be_started_is_named(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh")

    with pytest.raises(ToolError) as caught:
        tools.run([program], timeout_s=20)

    assert str(caught.value) == "program cannot be started: Permission denied. It printed nothing."


def test_a_file_that_is_no_program_is_named(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("touch this-must-not-be-run-by-a-shell")
    program.chmod(0o755)

    with pytest.raises(ToolError) as caught:
        tools.run([program], timeout_s=20)

    assert str(caught.value) == "program cannot be started: it is no program. It printed nothing."


def test_a_time_out_kills_grandchildren_too() -> None:
    with pytest.raises(ToolError) as caught:
        tools.run([PYTHON, "-c", SPAWN + SLEEP], timeout_s=1)

    said, _, grandchild = str(caught.value).rpartition(" ")
    assert said.endswith("did not end within 1 s, and was killed. It printed:")
    assert is_gone(int(grandchild))


def test_a_program_that_ignores_signals_is_killed_in_time() -> None:
    script = "import signal\nfor n in (signal.SIGTERM, signal.SIGINT): signal.signal(n, signal.SIG_IGN)\n"
    begin_s = time.monotonic()

    with pytest.raises(ToolError):
        tools.run([PYTHON, "-c", script + SLEEP], timeout_s=1)

    assert time.monotonic() - begin_s < 10


def test_a_child_that_a_program_leaves_behind_is_killed() -> None:
    finished = tools.run([PYTHON, "-c", SPAWN], timeout_s=20)

    assert is_gone(int(finished.stdout))


def test_a_program_that_was_killed_says_so() -> None:
    finished = tools.run(
        [PYTHON, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"], timeout_s=20
    )

    assert finished.returncode == -signal.SIGKILL
    assert tools.ended(finished) == "was killed by SIGKILL"


def test_a_signal_without_a_name_has_its_number() -> None:
    finished = tools.Finished(returncode=-40, stdout=b"", stderr=b"")

    assert tools.ended(finished) == "was killed by signal 40"


def test_a_failure_that_must_not_be_shows_what_was_printed() -> None:
    script = "import sys; print('no such model', file=sys.stderr); sys.exit(4)"

    with pytest.raises(ToolError) as caught:
        tools.run_checked([PYTHON, "-c", script], timeout_s=20)

    assert str(caught.value).endswith("ended with exit code 4. It printed: no such model")


def test_a_program_that_prints_for_ever_is_stopped_before_the_disk_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tools, "MAX_OUTPUT_BYTES", 2**20)
    begin_s = time.monotonic()

    with pytest.raises(ToolError) as caught:
        tools.run([PYTHON, "-c", "while True: print('x' * 1000)"], timeout_s=60)

    assert "printed more than 1048576 bytes, and was killed." in str(caught.value)
    assert time.monotonic() - begin_s < 10


def test_what_was_printed_too_much_is_an_error_though_the_program_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tools, "MAX_OUTPUT_BYTES", 10)

    with pytest.raises(ToolError) as caught:
        tools.run([PYTHON, "-c", "print('x' * 10)"], timeout_s=60)

    assert "printed more than 10 bytes" in str(caught.value)


def test_no_zombie_stays() -> None:
    before = children()
    tools.run([PYTHON, "-c", ""], timeout_s=20)
    with pytest.raises(ToolError):
        tools.run([PYTHON, "-c", SLEEP], timeout_s=0.2)

    assert children() == before


def test_ctrl_c_ends_the_program() -> None:
    before = children()
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        tools.run([PYTHON, "-c", SLEEP], timeout_s=60)

    assert children() == before


def test_a_program_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    note = tmp_path / "note"
    program = f"import os, pathlib\npathlib.Path({str(note)!r}).write_text(f'{{os.getpid()}}.')\n"
    script = "import sys\nfrom packager import tools\ntools.run([sys.executable, '-c', sys.argv[1]], timeout_s=60)"
    with subprocess.Popen([PYTHON, "-c", script, program + SLEEP]) as parent:
        while not note.exists() or not note.read_text().endswith("."):
            time.sleep(0.02)
        parent.kill()

    assert is_gone(int(note.read_text().rstrip(".")))
