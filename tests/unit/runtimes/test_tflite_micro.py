import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import require_package

require_package("ai_edge_litert", "litert")
require_package("tflite_micro", "micro")

from packager.errors import ConversionError, MissingToolError, UnsupportedOperatorError
from packager.runtimes import tflite_micro
from tests.tflite_programs import add_constant, chain, serialise, serialise_externally

Trial = Callable[[int, str], None]

ALLOCATIONS = """\
[RecordingMicroAllocator] Arena allocation total 40112 bytes
[RecordingMicroAllocator] Arena allocation head 37632 bytes
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(serialise(chain(["int8", "int8"], ["RELU"])))
    return path


@pytest.fixture
def trial_ends(monkeypatch: pytest.MonkeyPatch) -> Trial:
    """Return what sets the exit status and the words of the next trial."""

    def set_end(returncode: int, stderr: str) -> None:
        ended = subprocess.CompletedProcess("trial", returncode, stdout="", stderr=stderr)
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)

    return set_end


def refusal(program: Path) -> str:
    with pytest.raises(ConversionError) as caught:
        tflite_micro.arena_bytes(program)
    return str(caught.value)


def test_arena_is_the_recorded_total(program: Path, trial_ends: Trial) -> None:
    trial_ends(0, ALLOCATIONS)
    assert tflite_micro.arena_bytes(program) == 40112


def test_missing_operator_is_named(program: Path, trial_ends: Trial) -> None:
    said = "Didn't find op for builtin opcode 'GELU'\nFailed to get registration from op code GELU"
    trial_ends(1, f"{said}\n \nTraceback (most recent call last):\nRuntimeError: TFLM failed")
    with pytest.raises(UnsupportedOperatorError) as caught:
        tflite_micro.arena_bytes(program)
    assert caught.value.operator == "GELU"
    assert str(caught.value).startswith("model.tflite: TensorFlow Lite Micro 0.")
    assert "has no GELU. Replace it in the model, or by a rewrite" in str(caught.value)


def test_refusal_is_told_in_the_runtimes_own_words(program: Path, trial_ends: Trial) -> None:
    said = "Node CONCATENATION (number 3) failed to prepare with status 1"
    trial_ends(1, f"{said}\nTraceback (most recent call last):\n  File\nRuntimeError: TFLM failed")
    expected = f"model.tflite: TensorFlow Lite Micro refuses the program: {said}."
    assert refusal(program) == expected


def test_crash_is_a_refusal(program: Path, trial_ends: Trial) -> None:
    trial_ends(-11, "")
    expected = "model.tflite: TensorFlow Lite Micro refuses the program: ended by SIGSEGV."
    assert refusal(program) == expected


def test_silence_is_a_refusal(program: Path, trial_ends: Trial) -> None:
    trial_ends(0, "")
    expected = "model.tflite: TensorFlow Lite Micro refuses the program: no reason given."
    assert refusal(program) == expected


def test_endless_inference_is_a_refusal(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("trial", 300)

    monkeypatch.setattr(subprocess, "run", never)
    expected = "model.tflite: one inference took more than 300 s in TensorFlow Lite Micro."
    assert refusal(program) == expected


def test_weights_outside_the_flatbuffer_are_refused_before_any_trial(
    tmp_path: Path, trial_ends: Trial
) -> None:
    model = chain(["int8", "int8"], ["RELU"])
    add_constant(model, np.arange(40, dtype=np.int8))
    path = tmp_path / "model.tflite"
    path.write_bytes(serialise_externally(model))
    trial_ends(0, ALLOCATIONS)
    assert refusal(path) == (
        "model.tflite: weights lie outside the flatbuffer (buffers: 1). TensorFlow Lite Micro would "
        "not read them, and answer at random. Convert the model again."
    )


def test_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "packager.runtimes.tflite_micro")
    monkeypatch.setitem(sys.modules, "tflite_micro", None)
    with pytest.raises(MissingToolError) as caught:
        import packager.runtimes.tflite_micro  # noqa: F401
    assert str(caught.value) == (
        "Running a TensorFlow Lite Micro program needs 'tflite-micro', which is not installed. "
        "pip install 'packager[micro]'"
    )
