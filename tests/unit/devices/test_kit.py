import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from packager.artifacts import Runtime
from packager.cache import encode
from packager.device_setup import trial
from packager.devices import Architecture
from packager.devices.kit import (
    FOLDER_VARIABLE,
    RECORD,
    SOURCES,
    Kit,
    default_root,
    open_kit,
    source_digest,
)
from packager.errors import MissingToolError
from packager.kit_record import Record
from tests.unit.devices import kit_example

ABSENT = (
    "An emulated device needs 'device kit', which is not installed. "
    "Run `packager setup-device qemu`."
)


def refused(root: Path) -> str:
    with pytest.raises(MissingToolError) as caught:
        open_kit(root)
    return str(caught.value)


def rewrite(root: Path, record: Record) -> None:
    (root / RECORD).write_text(json.dumps(encode(record)))


def test_the_kit_lies_in_the_cache_unless_a_variable_names_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_root() == tmp_path / "packager/device-kit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_root() == Path.home() / ".cache/packager/device-kit"
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "mine"))
    assert default_root() == tmp_path / "mine"


def test_a_whole_kit_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = kit_example.write(tmp_path)
    kit = Kit(root=tmp_path, record=record)
    assert open_kit(tmp_path) == kit
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert open_kit() == kit


def test_the_places_in_a_kit(tmp_path: Path) -> None:
    kit_example.write(tmp_path)
    kit = open_kit(tmp_path)
    assert kit.program("qemu-arm") == tmp_path / "host/run/qemu-arm"
    assert kit.sysroot(Architecture.AARCH64) == tmp_path / "sysroot/aarch64"
    runtime = kit.runtime(Runtime.EXECUTORCH, Architecture.X86_64)
    assert runtime == tmp_path / "runtime/executorch/x86_64"
    assert kit.kernel == tmp_path / "kernel"
    assert kit.plugin == tmp_path / "plugin/count.so"


def test_a_program_that_has_gone_is_missed_by_name(tmp_path: Path) -> None:
    kit_example.write(tmp_path)
    kit = open_kit(tmp_path)
    (tmp_path / "host/run/strace").unlink()
    with pytest.raises(MissingToolError) as caught:
        kit.program("strace")
    assert str(caught.value) == ABSENT.replace("device kit", "strace")


def test_no_kit_is_refused_with_the_remedy(tmp_path: Path) -> None:
    assert refused(tmp_path) == ABSENT


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1}', '"kit"', "\0"])
def test_a_damaged_record_is_no_kit(tmp_path: Path, text: str) -> None:
    kit_example.write(tmp_path)
    (tmp_path / RECORD).write_text(text)
    assert refused(tmp_path) == ABSENT


def test_a_kit_of_another_format_is_refused(tmp_path: Path) -> None:
    rewrite(tmp_path, replace(kit_example.write(tmp_path), format=2))
    assert refused(tmp_path) == ABSENT


def test_a_kit_that_another_version_made_is_refused(tmp_path: Path) -> None:
    rewrite(tmp_path, replace(kit_example.write(tmp_path), source_sha256="0" * 64))
    assert refused(tmp_path) == ABSENT


def test_a_kit_is_made_by_files_that_are_there() -> None:
    assert re.fullmatch("[0-9a-f]{64}", source_digest())
    folder = "device_setup/probe/"
    probe = {f"{folder}{path.name}" for path in trial.PROBE.iterdir() if path.is_file()}
    assert probe - {f"{folder}__init__.py"} == {name for name in SOURCES if name.startswith(folder)}


def test_a_kit_that_lacks_a_folder_is_refused(tmp_path: Path) -> None:
    kit_example.write(tmp_path)
    shutil.rmtree(tmp_path / "sysroot")
    assert refused(tmp_path) == ABSENT
