"""Stands in for adb in tests: a folder and a shell play the phone.

The folder `PHONE` names holds `devices`, what `adb devices` lists; `features`; `bin`, all the
programs that the phone has; and `tmp`, its /data/local/tmp. As on a phone, what a shell command
has started runs on when adb is killed. The loader that is pushed is emulated.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

PHONE = Path(os.environ["PHONE"])
LOADER = "ld-linux-aarch64.so.1"
EMULATED = '#!/bin/sh\nexec {emulator} -cpu cortex-a53 -L {empty} "{program}" "$@"\n'


def shell(command: str) -> int:
    there = command.replace("/data/local/tmp", str(PHONE / "tmp"))
    environment = {"PATH": str(PHONE / "bin")}
    started = subprocess.Popen(["/bin/sh", "-c", there], env=environment, start_new_session=True)
    return started.wait()


def push(source: Path, destination: Path) -> int:
    if destination.name != LOADER:
        shutil.copyfile(source, destination)
        return 0
    program = destination.with_name("real-loader")
    shutil.copyfile(source, program)
    program.chmod(0o755)
    emulator, empty = os.environ["EMULATOR"], PHONE / "empty"
    destination.write_text(EMULATED.format(emulator=emulator, empty=empty, program=program))
    return 0


def main(words: list[str]) -> int:
    match words:
        case ["devices"]:
            sys.stdout.write((PHONE / "devices").read_text())
            return 0
        case ["-s", _, "features"]:
            sys.stdout.write((PHONE / "features").read_text())
            return 0
        case ["-s", _, "shell", "-T", command]:
            return shell(command)
        case ["-s", _, "push", source, destination]:
            return push(Path(source), Path(destination))
        case ["-s", _, "pull", source, destination]:
            shutil.copyfile(source, destination)
            return 0
        case _:
            sys.stderr.write(f"adb: unknown command {words}\n")
            return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
