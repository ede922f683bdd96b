import contextlib
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import require_package

require_package("ai_edge_litert", "litert")

from packager import tflite_file
from packager.errors import ConversionError, MissingToolError
from tests.tflite_programs import add_constant, chain, serialise, serialise_externally

WEIGHTS = np.arange(40, dtype=np.int8)


def weighted() -> bytes:
    model = chain(["int8", "int8"], ["RELU"])
    add_constant(model, WEIGHTS)
    return serialise(model)


def refusal(content: bytes) -> str:
    with pytest.raises(ConversionError) as caught:
        tflite_file.parse(content, "model.tflite")
    return str(caught.value)


def test_whole_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(weighted())
    graph = tflite_file.read(path).subgraphs[0]
    assert [tflite_file.tensor_type(t) for t in graph.tensors] == ["int8"] * 3
    assert [tflite_file.tensor_shape(t) for t in graph.tensors] == [(1, 4), (1, 4), (40,)]


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConversionError) as caught:
        tflite_file.read(tmp_path / "model.tflite")
    expected = f"{tmp_path / 'model.tflite'}: cannot be read (No such file or directory)."
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    "content", [b"", b"TFL3", b"PK\x03\x04" * 9], ids=["empty", "short", "zip"]
)
def test_file_of_another_kind_is_refused(content: bytes) -> None:
    expected = "model.tflite: is not a .tflite file. Convert the model again."
    assert refusal(content) == expected


def test_file_cut_short_anywhere_is_refused() -> None:
    whole = weighted()
    # The writer puts the weights last but for their table, so every cut loses something.
    for length in range(8, len(whole)):
        assert "The file is damaged or truncated" in refusal(whole[:length])


def test_any_damage_is_either_refused_or_harmless() -> None:
    whole = weighted()
    draw = np.random.default_rng(0)
    for _ in range(500):
        damaged = bytearray(whole)
        damaged[draw.integers(len(whole))] = draw.integers(256)
        with contextlib.suppress(ConversionError):
            tflite_file.parse(bytes(damaged), "model.tflite")


def test_constant_shorter_than_its_shape_is_refused() -> None:
    model = chain(["int8", "int8"], ["RELU"])
    add_constant(model, WEIGHTS)
    model.subgraphs[0].tensors[-1].shape = [41]
    remedy = "The file is damaged or truncated; convert the model again."
    expected = f"model.tflite: a constant of 41 bytes has 40 of them. {remedy}"
    assert refusal(serialise(model)) == expected


def test_operand_that_does_not_exist_is_refused() -> None:
    model = chain(["int8", "int8"], ["RELU"])
    model.subgraphs[0].operators[0].inputs = [7]
    assert "tensor 7 of 2 does not exist" in refusal(serialise(model))


def test_buffer_that_does_not_exist_is_refused() -> None:
    model = chain(["int8", "int8"], ["RELU"])
    model.subgraphs[0].tensors[1].buffer = 5
    assert "index 5 is out of bounds" in refusal(serialise(model))


def test_file_without_a_graph_is_refused() -> None:
    model = chain(["int8", "int8"], ["RELU"])
    model.subgraphs = []
    assert "the file holds no graph" in refusal(serialise(model))


def test_omitted_operand_is_no_damage() -> None:
    model = chain(["int8", "int8"], ["RELU"])
    model.subgraphs[0].operators[0].inputs = [0, -1]
    used, graph = next(tflite_file.operators(tflite_file.parse(serialise(model), "m")))
    assert tflite_file.operand_types(used.inputs, graph) == ["int8"]


def test_weights_behind_the_flatbuffer_are_counted_and_read() -> None:
    model = chain(["int8", "int8"], ["RELU"])
    add_constant(model, WEIGHTS)
    outside = serialise_externally(model)
    assert tflite_file.external_buffers(serialise(model)) == 0
    assert tflite_file.external_buffers(outside) == 1
    read = tflite_file.parse(outside, "model.tflite")
    assert bytes(read.buffers[-1].data) == WEIGHTS.tobytes()


def test_weights_that_end_behind_the_file_are_refused() -> None:
    model = chain(["int8", "int8"], ["RELU"])
    add_constant(model, WEIGHTS)
    assert "a constant of 40 bytes has 39 of them" in refusal(serialise_externally(model)[:-1])


def test_operators_have_the_names_of_the_schema() -> None:
    model = chain(["int8"] * 4, ["CONV_2D", "GELU", "CUSTOM"])
    model.operatorCodes[2].customCode = b"MyOp"
    names = [tflite_file.operator_name(used, model) for used, _ in tflite_file.operators(model)]
    # GELU has a number above 127, which the older field of the schema cannot hold.
    assert names == ["CONV_2D", "GELU", "CUSTOM:MyOp"]


def test_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "packager.tflite_file")
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(MissingToolError) as caught:
        import packager.tflite_file  # noqa: F401
    assert str(caught.value) == (
        "Reading a .tflite file needs 'ai-edge-litert', which is not installed. "
        "pip install 'packager[litert]'"
    )
