import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from packager.artifacts import Runtime
from packager.bundles import MeasuredRecord, OperatorRecord, ParityRecord, open_bundle
from packager.cache import files_of
from packager.contract.answers import decisions, probabilities
from packager.contract.tensors import dequantise, normalise, to_device
from packager.distributions import Distribution
from packager.stages.bundle import Contents, bundle, model_name
from tests import bundle_example
from tests.built_example import READY, example_built
from tests.bundle_example import (
    CONTRACT,
    INPUT,
    OUTPUT,
    MeanSession,
    frames_and_labels,
    write_bundle,
)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_bundle(tmp_path, monkeypatch)


def files(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def test_archive_is_named_after_the_target_and_holds_all_that_ships(archive: Path) -> None:
    assert archive.name == "cortex-m4-tflm.zip"
    assert list(files(archive)) == [
        "README.txt",
        "contract.json",
        "contract.schema.json",
        "golden.safetensors",
        "manifest.json",
        "measured.json",
        "model.tflite",
        "operators.json",
        "parity.json",
    ]


def test_program_is_the_converted_one_byte_for_byte(archive: Path) -> None:
    assert files(archive)["model.tflite"] == b"TFL3" * 64


def test_same_contents_give_the_same_bytes_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = write_bundle(tmp_path / "one", monkeypatch)
    two = write_bundle(tmp_path / "another" / "place", monkeypatch)
    assert one.read_bytes() == two.read_bytes()


def test_archive_holds_no_moment_and_no_place(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        entries = opened.infolist()
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}
    for name, data in files(archive).items():
        assert str(tmp_path).encode() not in data, name


def test_manifest_lists_every_other_file_with_its_digest(archive: Path) -> None:
    found = files(archive)
    manifest = json.loads(found.pop("manifest.json"))
    assert manifest["files"] == [
        {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
        for name, data in sorted(found.items())
    ]
    del manifest["files"]
    assert manifest == {
        "format_version": 2,
        "packager": "0.1.0",
        "target": "cortex-m4-tflm",
        "recipe": "lamp",
        "runtime": "tflite-micro",
        "precision": "int8",
        "model": "model.tflite",
        "built_with": [
            {"name": "numpy", "version": "2.4.6"},
            {"name": "packager", "version": "0.1.0"},
            {"name": "python", "version": "3.11.7"},
        ],
    }


def test_golden_vectors_hold_every_step_of_the_way(archive: Path) -> None:
    golden = load(files(archive)["golden.safetensors"])
    frames, labels = frames_and_labels(16)
    inputs = to_device(normalise(frames, CONTRACT), INPUT)
    outputs = MeanSession().run(inputs)
    logits = dequantise(outputs, OUTPUT)
    expected = {
        "samples": np.arange(16),
        "labels": labels,
        **{f"frame_{place:03}": frame for place, frame in enumerate(frames)},
        "orientations": np.ones(16, np.int64),
        "inputs": inputs,
        "outputs": outputs,
        "decisions": decisions(logits, CONTRACT),
        "probabilities": probabilities(logits, CONTRACT.activation),
    }
    assert golden.keys() == expected.keys()
    for name, array in expected.items():
        assert golden[name].dtype == array.dtype, name
        np.testing.assert_array_equal(golden[name], array, err_msg=name)


def test_what_is_written_can_be_opened(archive: Path, tmp_path: Path) -> None:
    contents = bundle_example.contents(tmp_path)
    opened = open_bundle(archive)
    assert opened.parity == contents.parity
    assert opened.measured == contents.measured
    assert opened.operators == contents.operators
    assert opened.contract.contract == contents.contract
    assert (opened.contract.input, opened.contract.output) == (INPUT, OUTPUT)


def test_readme_says_what_was_shown_and_on_what(archive: Path) -> None:
    readme = files(archive)["README.txt"].decode()
    assert readme.startswith("lamp for cortex-m4-tflm\nA microcontroller\n")
    assert "97.5% of 40 evaluation samples" in readme
    assert "Samples: drawn for a test\nThese samples are simulated" in readme
    assert "Program: 256 bytes. Working memory: 2,048 bytes (counted).\n" in readme
    for name in files(archive).keys() - {"README.txt"}:
        assert f"  {name}\n" in readme


def test_readme_of_real_samples_calls_nothing_simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("packager.stages.bundle.open_session", lambda _: MeanSession())
    contents = bundle_example.contents(tmp_path)
    measured = replace(contents.measured.program, ram_bytes=None, ram_source="LiteRT is silent")
    real = replace(
        contents,
        parity=replace(contents.parity, simulated=False),
        measured=replace(contents.measured, program=measured),
    )
    readme = files(bundle.run(tmp_path, real).archive.path)["README.txt"].decode()
    assert "simulated" not in readme
    assert "Program: 256 bytes. Working memory: LiteRT is silent.\n" in readme


@pytest.mark.parametrize("runtime", Runtime)
def test_every_runtime_has_a_name_for_its_program(runtime: Runtime) -> None:
    assert model_name(runtime).startswith("model.")


def test_contents_are_what_ships_of_a_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = example_built(tmp_path)
    result = next(r for r in built.targets if r.target.name == READY)
    software = (Distribution(name="packager", version="0.1.0"),)
    monkeypatch.setattr("packager.stages.bundle.built_with", lambda _runtime: software)
    contents = Contents.of(result, built.recipe, built.networks)
    assert result.converted
    assert result.parity
    assert result.measured
    assert contents == Contents(
        target=READY,
        summary=result.target.summary,
        recipe="breast-phantom",
        converted=result.converted,
        golden=built.networks.dataset.golden,
        contract=built.networks.contract,
        parity=ParityRecord(
            runtime=result.parity.runtime,
            reference_runtime=built.networks.reference.runtime,
            origin=built.networks.dataset.origin,
            simulated=True,
            pruning=result.parity.pruning,
            conversion=result.parity.conversion,
            whole=result.parity.whole,
            verdicts=result.verdicts,
        ),
        measured=MeasuredRecord(
            program=result.measured,
            original=built.networks.pruned.before,
            pruned=built.networks.pruned.after,
        ),
        operators=OperatorRecord(
            operators=result.converted.operators,
            fallbacks=result.converted.fallbacks,
            findings=result.findings,
        ),
        built_with=software,
    )
    # The evidence is for the report: scores of patients' samples do not ship.
    assert files_of(contents) == [result.converted.program, contents.golden]
