"""What every target must satisfy. A new folder under targets/ is picked up by itself."""

import json
import tomllib

import pytest
from jsonschema import Draft202012Validator

from packager import target
from packager.artifacts import Precision, Runtime
from packager.devices import cpus
from packager.schema import Document, json_schema
from packager.target import PROFILE, Target

ROOT = target.default_root()
NAMES = sorted(path.name for path in ROOT.iterdir())
INT8 = [name for name in NAMES if target.load(name, ROOT).precision is Precision.INT8]
TWIN_SUFFIX = "-float32"


def load(name: str) -> Target:
    return target.load(name, ROOT)


def test_no_target_is_overlooked() -> None:
    assert list(target.find_profiles(ROOT)) == NAMES
    assert INT8


@pytest.mark.parametrize("name", NAMES)
def test_profile_is_valid(name: str) -> None:
    assert load(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_folder_holds_data_only(name: str) -> None:
    code = [path.name for path in (ROOT / name).rglob("*") if path.suffix in {".py", ".sh"}]
    assert code == []


@pytest.mark.parametrize("name", NAMES)
def test_editor_accepts_the_profile(name: str) -> None:
    schema = json_schema(Document.TARGET)
    Draft202012Validator.check_schema(schema)
    profile = tomllib.loads((ROOT / name / PROFILE).read_text("utf-8"))
    mistakes = Draft202012Validator(schema).iter_errors(json.loads(json.dumps(profile)))
    assert [mistake.message for mistake in mistakes] == []


@pytest.mark.parametrize("name", NAMES)
def test_editor_marks_a_mistyped_key(name: str) -> None:
    profile = tomllib.loads((ROOT / name / PROFILE).read_text("utf-8"))
    profile["memory"]["ram_byte"] = profile["memory"].pop("ram_bytes")
    mistakes = Draft202012Validator(json_schema(Document.TARGET)).iter_errors(profile)
    assert sorted(mistake.message for mistake in mistakes) == [
        "'ram_bytes' is a required property",
        "Additional properties are not allowed ('ram_byte' was unexpected)",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_limits_are_those_of_a_device_that_exists(name: str) -> None:
    profile = load(name)
    # From the smallest microcontrollers that run TensorFlow Lite Micro to large phones.
    assert 16 * 2**10 <= profile.memory.ram_bytes <= 16 * 2**30
    assert 16 * 2**10 <= profile.memory.flash_bytes <= 2 * 2**30
    assert any(character.isdigit() for character in profile.source), "a source names a document"
    assert profile.kernels.channel_multiple in {1, 2, 4, 8, 16, 32, 64}


@pytest.mark.parametrize("name", NAMES)
def test_summary_says_what_a_person_chooses_by(name: str) -> None:
    profile = load(name)
    assert profile.precision in profile.summary
    assert len(profile.summary) <= 140
    assert not profile.summary.endswith(".")


@pytest.mark.parametrize("name", INT8)
def test_int8_target_has_a_float32_twin_that_differs_in_nothing_else(name: str) -> None:
    profile, twin = load(name), load(name + TWIN_SUFFIX)
    assert (twin.precision, twin.io.dtype) == (Precision.FLOAT32, Precision.FLOAT32)
    assert (twin.runtime, twin.io.layout) == (profile.runtime, profile.io.layout)
    assert (twin.kernels, twin.memory, twin.device, twin.source) == (
        profile.kernels,
        profile.memory,
        profile.device,
        profile.source,
    )


@pytest.mark.parametrize("name", [name for name in NAMES if name not in INT8])
def test_float32_target_is_the_twin_of_another(name: str) -> None:
    assert name.removesuffix(TWIN_SUFFIX) in INT8


@pytest.mark.parametrize("name", NAMES)
def test_a_target_that_is_no_microcontroller_names_a_core_that_is_emulated(name: str) -> None:
    profile = load(name)
    if profile.runtime is Runtime.TFLITE_MICRO:
        assert profile.device is None
        return
    assert profile.device is not None
    assert profile.device.cpu in cpus.PROFILES
    assert profile.device.max_inference_instructions < profile.device.max_startup_instructions
