import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import require_package

require_package("ai_edge_litert", "litert")

from packager.artifacts import Converted, File, Layout, Precision, Runtime
from packager.converters import flatbuffer
from packager.errors import ConversionError, MissingToolError
from packager.runtimes import litert
from packager.tflite_file import parse
from tests.tflite_programs import chain, serialise


def write(path: Path, operator: str) -> Converted:
    path.write_bytes(serialise(chain(["float32", "float32"], [operator])))
    model = parse(path.read_bytes(), path.name)
    return Converted(
        program=File.of(path),
        runtime=Runtime.LITERT,
        precision=Precision.FLOAT32,
        input=flatbuffer.input_of(model, Layout.CHANNELS_LAST),
        output=flatbuffer.output_of(model),
        operators=(),
        fallbacks=(),
    )


def test_samples_are_run_one_by_one(tmp_path: Path) -> None:
    session = litert.open_session(write(tmp_path / "model.tflite", "RELU"))
    inputs = np.array([[-1, 2, 3, -4], [5, -6, 7, 8]], np.float32)
    expected = np.array([[0, 2, 3, 0], [5, 0, 7, 8]], np.float32)
    np.testing.assert_array_equal(session.run(inputs), expected)


def test_session_says_what_runs_the_program(tmp_path: Path) -> None:
    name = litert.open_session(write(tmp_path / "model.tflite", "RELU")).name
    assert name.startswith("LiteRT 2.")
    assert " (XNNPACK) on " in name


def test_unknown_operator_is_refused(tmp_path: Path) -> None:
    converted = write(tmp_path / "model.tflite", "CUSTOM")
    with pytest.raises(ConversionError) as caught:
        litert.open_session(converted)
    assert str(caught.value).startswith("model.tflite: LiteRT refuses the program: ")


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    converted = write(tmp_path / "model.tflite", "RELU")
    converted.program.path.write_bytes(converted.program.path.read_bytes()[:200])
    with pytest.raises(ConversionError, match="The file is damaged or truncated"):
        litert.open_session(converted)


def test_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "packager.runtimes.litert")
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingToolError) as caught:
        import packager.runtimes.litert  # noqa: F401
    assert str(caught.value) == (
        "Running a LiteRT program needs 'ai-edge-litert', which is not installed. "
        "pip install 'packager[litert]'"
    )
