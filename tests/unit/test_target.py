from pathlib import Path

import pytest

from packager import shipped
from packager import target as targets
from packager.artifacts import Layout, Precision, Runtime
from packager.errors import ConfigError
from packager.target import Io, Kernels, Memory, Target
from tests.conftest import REPOSITORY

PROFILE = """\
name = "watch"
summary = "A watch"
source = "its datasheet"
runtime = "tflite-micro"
precision = "int8"

[io]
layout = "channels-last"
dtype = "int8"

[kernels]
channel_multiple = 4
gain_from_zeros = false

[memory]
flash_bytes = 65_536
ram_bytes = 32_768
"""


def write(root: Path, text: str = PROFILE, *, folder: str = "watch") -> Path:
    path = root / folder / "target.toml"
    path.parent.mkdir()
    path.write_text(text)
    return path


def test_profile_is_read_as_it_stands(tmp_path: Path) -> None:
    write(tmp_path)
    assert targets.load("watch", tmp_path) == Target(
        name="watch",
        summary="A watch",
        source="its datasheet",
        runtime=Runtime.TFLITE_MICRO,
        precision=Precision.INT8,
        io=Io(layout=Layout.CHANNELS_LAST, dtype=Precision.INT8),
        kernels=Kernels(channel_multiple=4, gain_from_zeros=False),
        memory=Memory(flash_bytes=65_536, ram_bytes=32_768),
    )


def test_new_folder_is_a_new_target(tmp_path: Path) -> None:
    first = write(tmp_path)
    second = write(tmp_path, folder="ring")
    (tmp_path / "no-profile").mkdir()
    assert targets.find_profiles(tmp_path) == {"ring": second, "watch": first}


def test_mistyped_target_gets_a_suggestion(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ConfigError) as caught:
        targets.load("wotch", tmp_path)
    assert str(caught.value) == "targets: no target 'wotch'. Did you mean 'watch'?"


def test_name_must_be_that_of_the_folder(tmp_path: Path) -> None:
    path = write(tmp_path, folder="ring")
    with pytest.raises(ConfigError) as caught:
        targets.load("ring", tmp_path)
    assert str(caught.value) == f"{path}.name: 'watch' differs from its folder 'ring'."


def test_float_program_takes_no_integers(tmp_path: Path) -> None:
    path = write(tmp_path, PROFILE.replace('precision = "int8"', 'precision = "float32"'))
    with pytest.raises(ConfigError) as caught:
        targets.load("watch", tmp_path)
    assert str(caught.value) == (
        f"{path}.io.dtype: a float32 program has float32 inputs and outputs."
    )


@pytest.mark.parametrize(
    ("line", "wrong", "message"),
    [
        (
            "ram_bytes = 32_768",
            "",
            (
                "memory.ram_bytes: required key is missing. "
                "Meaning: For the working memory of one inference."
            ),
        ),
        (
            "ram_bytes = 32_768",
            "ram_bytes = 32",
            (
                "memory.ram_bytes: must be at least 1024, not 32. "
                "Meaning: For the working memory of one inference."
            ),
        ),
        (
            "ram_bytes = 32_768",
            'ram_bytes = "32 KB"',
            (
                "memory.ram_bytes: must be a whole number, not '32 KB'. "
                "Meaning: For the working memory of one inference."
            ),
        ),
        (
            'runtime = "tflite-micro"',
            'runtime = "tflite"',
            "runtime: 'tflite' is not known. Known: executorch, litert, tflite-micro, tflite-runtime.",
        ),
        (
            "channel_multiple = 4",
            "channel_multiple = 4\nchanel = 1",
            "kernels.chanel: unknown key. Known: channel_multiple, gain_from_zeros.",
        ),
    ],
)
def test_mistake_in_a_profile_is_named(tmp_path: Path, line: str, wrong: str, message: str) -> None:
    assert line in PROFILE
    path = write(tmp_path, PROFILE.replace(line, wrong))
    with pytest.raises(ConfigError) as caught:
        targets.load("watch", tmp_path)
    assert str(caught.value) == f"{path}.{message}"


def test_checkout_has_its_targets_at_the_top() -> None:
    assert targets.default_root() == REPOSITORY / "targets"


def test_installed_copy_has_its_targets_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "_targets").mkdir()
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "shipped.py"))
    assert targets.default_root() == tmp_path / "_targets"
