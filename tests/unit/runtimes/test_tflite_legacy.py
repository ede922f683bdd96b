import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import require_package

require_package("ai_edge_litert", "litert")

from packager import environments, tools
from packager.artifacts import Converted, File, Layout, Precision, Runtime
from packager.converters import flatbuffer
from packager.environments import TFLITE_LEGACY
from packager.errors import ConversionError, ToolError, UnsupportedOperatorError
from packager.runtimes import machine, tflite_legacy
from packager.tflite_file import parse
from packager.tools import Finished
from tests.tflite_programs import chain, serialise

Ends = Callable[..., None]
PYTHON = Path("/environments/legacy/bin/python")


@pytest.fixture
def converted(tmp_path: Path) -> Converted:
    path = tmp_path / "model.tflite"
    path.write_bytes(serialise(chain(["float32", "float32"], ["RELU"])))
    model = parse(path.read_bytes(), path.name)
    return Converted(
        program=File.of(path),
        runtime=Runtime.TFLITE_LEGACY,
        precision=Precision.FLOAT32,
        input=flatbuffer.input_of(model, Layout.CHANNELS_LAST),
        output=flatbuffer.output_of(model),
        operators=(),
        fallbacks=(),
    )


@pytest.fixture
def worker_ends(monkeypatch: pytest.MonkeyPatch) -> Ends:
    """Return what sets how the next worker ends; it doubles what it is given."""
    monkeypatch.setattr(environments, "interpreter", lambda _: PYTHON)

    def set_end(
        returncode: int = 0, stderr: str = "", versions: dict[str, str] | None = None
    ) -> None:
        said = json.dumps(versions or TFLITE_LEGACY.versions()).encode()

        def end(argv: list[str | Path], **_: object) -> Finished:
            assert argv[:3] == [PYTHON, "-I", tflite_legacy.WORKER]
            if len(argv) == 6:
                inputs, outputs = (Path(part) for part in argv[4:])
                np.save(outputs, 2 * np.load(inputs))
            return Finished(returncode=returncode, stdout=said, stderr=stderr.encode())

        monkeypatch.setattr(tools, "run", end)

    return set_end


def refusal(converted: Converted) -> str:
    with pytest.raises(ConversionError) as caught:
        tflite_legacy.open_session(converted)
    return str(caught.value)


def test_samples_go_to_the_worker_and_answers_come_back(
    converted: Converted, worker_ends: Ends
) -> None:
    worker_ends()
    session = tflite_legacy.open_session(converted)
    inputs = np.arange(6, dtype=np.float32).reshape(3, 2)
    answers = session.run(inputs)
    np.testing.assert_array_equal(answers, 2 * inputs)
    assert answers.dtype == np.float32
    assert session.name == f"tflite-runtime 2.14.0 on {machine()}"


def test_missing_operator_is_named_with_its_version(
    converted: Converted, worker_ends: Ends
) -> None:
    said = (
        "Didn't find op for builtin opcode 'RESIZE_BILINEAR' version '5'. An older version of this "
        "builtin might be supported. Are you using an old TFLite binary with a newer model?\n"
        "Registration failed.\n"
    )
    worker_ends(3, said)
    with pytest.raises(UnsupportedOperatorError) as caught:
        tflite_legacy.open_session(converted)
    assert str(caught.value) == (
        "model.tflite: tflite-runtime 2.14.0 has no RESIZE_BILINEAR of version 5. Replace it in "
        "the model, or leave out the targets for 32-bit handhelds."
    )


def test_refusal_is_told_in_the_runtimes_own_words(converted: Converted, worker_ends: Ends) -> None:
    worker_ends(3, "tensorflow/lite/kernels/reshape.cc:92 num_input != num_output (4 != 3)\nNode 1")
    assert refusal(converted) == (
        "model.tflite: tflite-runtime 2.14.0 refuses the program: "
        "tensorflow/lite/kernels/reshape.cc:92 num_input != num_output (4 != 3)."
    )


def test_crash_is_a_refusal(converted: Converted, worker_ends: Ends) -> None:
    worker_ends(-11)
    assert refusal(converted) == (
        "model.tflite: tflite-runtime 2.14.0 refuses the program: it was killed by SIGSEGV."
    )


def test_broken_environment_is_no_fault_of_the_program(
    converted: Converted, worker_ends: Ends
) -> None:
    worker_ends(1, "ImportError: libstdc++.so.6: cannot open shared object file")
    with pytest.raises(ToolError) as caught:
        tflite_legacy.open_session(converted)
    assert str(caught.value) == (
        "tflite_legacy_worker.py ended with exit code 1 in the environment /environments/legacy. "
        "It printed: ImportError: libstdc++.so.6: cannot open shared object file"
    )


def test_worker_of_another_version_is_refused(converted: Converted, worker_ends: Ends) -> None:
    worker_ends(versions={"tflite-runtime": "2.13.0", "numpy": "1.26.4"})
    with pytest.raises(ToolError) as caught:
        tflite_legacy.open_session(converted)
    assert str(caught.value) == (
        "tflite_legacy_worker.py ran {'tflite-runtime': '2.13.0', 'numpy': '1.26.4'}, and "
        "{'tflite-runtime': '2.14.0', 'numpy': '1.26.4'} were asked for. "
        "Remove /environments/legacy. It printed nothing."
    )


def test_damaged_file_is_refused_before_any_worker(converted: Converted) -> None:
    path = converted.program.path
    path.write_bytes(path.read_bytes()[:200])
    assert "The file is damaged or truncated" in refusal(converted)


def test_nothing_is_left_of_a_run(
    converted: Converted, worker_ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    worker_ends()
    session = tflite_legacy.open_session(converted)
    session.run(np.zeros((1, 2), np.float32))
    worker_ends(3, "Input tensor is broken")
    with pytest.raises(ConversionError):
        session.run(np.zeros((1, 2), np.float32))
    assert [path.name for path in tmp_path.iterdir()] == ["model.tflite"]
