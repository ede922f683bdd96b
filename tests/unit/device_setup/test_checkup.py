import shutil
from pathlib import Path

import pytest

from packager.device_setup import checkup
from packager.devices.kit import FOLDER_VARIABLE, PROGRAMS
from packager.doctor import Tool
from tests.unit.devices import kit_example


def row(name: str, user: str, found: Path | None, remedy: str) -> Tool:
    return Tool(
        name=name,
        needed_for=(user,),
        wanted="",
        found=str(found) if found else None,
        usable=found is not None,
        remedy=remedy,
    )


def test_a_kit_and_its_programs_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kit_example.write(tmp_path)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    kit, *others = checkup.examine()
    assert kit == row("device kit", "emulated devices", tmp_path, "")
    assert others[: len(PROGRAMS)] == [
        row(name, "emulated devices", tmp_path / "host/run" / name, "") for name in PROGRAMS
    ]


def test_what_is_missing_is_listed_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    remedy = "packager setup-device qemu"
    assert checkup.examine() == (
        row("device kit", "emulated devices", None, remedy),
        *(row(name, "emulated devices", None, remedy) for name in PROGRAMS),
        row("adb", "adb devices", None, "apt-get install adb"),
        row("scp", "ssh devices", None, "apt-get install openssh-client"),
        row("ssh", "ssh devices", None, "apt-get install openssh-client"),
    )
