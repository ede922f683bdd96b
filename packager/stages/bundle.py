"""Put all that ships for one target into one archive."""

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from packager import bundles
from packager.artifacts import Bundle, Converted, File, Runtime
from packager.built import Networks, TargetResult
from packager.bundles import (
    BundledFile,
    IoContract,
    Manifest,
    MeasuredRecord,
    OperatorRecord,
    ParityRecord,
)
from packager.cache import encode, step
from packager.contract import Contract, decisions, dequantise, prepare, to_device
from packager.distributions import Distribution, built_with
from packager.parity.answers import read_arrays
from packager.recipe import Recipe
from packager.runtimes import open_session

MIN_GOLDEN_SAMPLES = 16
MAX_GOLDEN_SAMPLES = 64
# The earliest moment that a zip archive can state: the true one would change the bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)
DEFLATE_LEVEL = 9
PLAIN_FILE = 0o100644 << 16
UNIX = 3
LINE_WIDTH = 88


SIMULATED = "\nThese samples are simulated: they prove the conversion, and nothing about patients."

README_TEXT = """\
{recipe} for {target}
{summary}

The program decides as the original does on {agreement} of {samples} evaluation samples,
run by {runtime}.
{samples_from}{simulated}
{costs}

What is inside
  {model}
      the program
  contract.json
      how a frame becomes the program's input, and its output one of: {labels}
  golden.safetensors
      samples to check a device with, one a row:
      samples    which evaluation samples they are, int64
      labels     the truth, index of a label, int64
      frames     the raw frames, before anything is done to them
      inputs     the program's input for each frame, as contract.json says
      outputs    what the program gave, in its own type
      decisions  the label that follows, index of a label, int64
  parity.json
      comparison with the original: errors, decisions, accuracy, verdicts
  measured.json
      memory that the program takes; size of the network before and after pruning
  operators.json
      what the program computes, what runs outside the fast path, what was found before
  manifest.json
      SHA-256 of every other file here, and the exact versions of all that built it

How to check
  This archive:  packager inspect {target}.zip
  Your app:      turn each of `frames` into an input; it must equal `inputs`, byte for byte.
                 Run the program on it; the result must give the same one of `decisions`.
"""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a bundle is made from.

    Attributes:
        target: Its name.
        summary: The target in one line, for people.
        recipe: Name of the model.
        evaluation: The split that golden samples are taken from.
        built_with: Software that the build rests on.
    """

    target: str
    summary: str
    recipe: str
    converted: Converted
    evaluation: File
    contract: Contract
    parity: ParityRecord
    measured: MeasuredRecord
    operators: OperatorRecord
    built_with: tuple[Distribution, ...]

    @classmethod
    def of(cls, result: TargetResult, recipe: Recipe, networks: Networks) -> "Contents":
        """Take what ships out of a target's results.

        Args:
            result: Of a target that passed its gates.
            recipe: Names the model.
            networks: What the target shares with the others.

        Raises:
            MissingToolError: This program runs from a folder without having been installed.
        """
        assert result.converted, "a bundle has a program"
        assert result.measured, "a program that passed its gates was measured"
        return cls(
            target=result.target.name,
            summary=result.target.summary,
            recipe=recipe.name,
            converted=result.converted,
            evaluation=networks.dataset.evaluation,
            contract=networks.contract,
            parity=_parity_record(result, networks),
            measured=MeasuredRecord(
                program=result.measured,
                original=networks.pruned.before,
                pruned=networks.pruned.after,
            ),
            operators=OperatorRecord(
                operators=result.converted.operators,
                fallbacks=result.converted.fallbacks,
                findings=result.findings,
            ),
            built_with=built_with(result.target.runtime),
        )


@step(version=1, tools=("numpy", "safetensors"))
def bundle(out: Path, contents: Contents) -> Bundle:
    """Write `<target>.zip`: the same contents give the same bytes.

    Raises:
        MissingToolError: The target's runtime, which makes the golden vectors, is not
            installed.
    """
    converted = contents.converted
    io = IoContract(contract=contents.contract, input=converted.input, output=converted.output)
    files = {
        model_name(converted.runtime): converted.program.path.read_bytes(),
        bundles.CONTRACT: _json(io),
        bundles.PARITY: _json(contents.parity),
        bundles.MEASURED: _json(contents.measured),
        bundles.OPERATORS: _json(contents.operators),
        bundles.GOLDEN: _golden(contents),
        bundles.README: _readme(contents).encode(),
    }
    files[bundles.MANIFEST] = _json(_manifest(contents, files))
    archive = out / f"{contents.target}.zip"
    _write_zip(archive, files)
    return Bundle(archive=File.of(archive))


def model_name(runtime: Runtime) -> str:
    """Return what the program is called inside a bundle."""
    match runtime:
        case Runtime.EXECUTORCH:
            return "model.pte"
        case Runtime.LITERT | Runtime.TFLITE_MICRO:
            return "model.tflite"
        case _:
            assert_never(runtime)


def golden_samples(labels: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
    """Return the indices of `wanted` samples, or of all if there are fewer, ascending.

    Labels take turns, so that each occurs as long as there is room:
    for labels (0, 0, 0, 1, 2) and 3 wanted: (0, 3, 4).
    """
    turn = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        of_label = np.flatnonzero(labels == label)
        turn[of_label] = np.arange(len(of_label))
    order = np.lexsort((labels, turn))
    return np.sort(order[:wanted]).astype(np.int64)


def _parity_record(result: TargetResult, networks: Networks) -> ParityRecord:
    assert result.parity, "a program that passed its gates was compared"
    return ParityRecord(
        runtime=result.parity.runtime,
        reference_runtime=networks.reference.runtime,
        origin=networks.dataset.origin,
        simulated=networks.dataset.simulated,
        pruning=result.parity.pruning,
        conversion=result.parity.conversion,
        whole=result.parity.whole,
        verdicts=result.verdicts,
    )


def _manifest(contents: Contents, files: dict[str, bytes]) -> Manifest:
    versions = {distribution.name: distribution.version for distribution in contents.built_with}
    return Manifest(
        packager=versions["packager"],
        target=contents.target,
        recipe=contents.recipe,
        runtime=contents.converted.runtime,
        precision=contents.converted.precision,
        model=model_name(contents.converted.runtime),
        files=tuple(
            BundledFile(name=name, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
            for name, data in sorted(files.items())
        ),
        built_with=contents.built_with,
    )


def _golden(contents: Contents) -> bytes:
    """Run a few evaluation samples through the program, and keep every step of the way."""
    from safetensors.numpy import save

    evaluation = read_arrays(contents.evaluation)
    labels = evaluation["labels"].astype(np.int64)
    # One of each label, as long as the archive stays small.
    wanted = max(MIN_GOLDEN_SAMPLES, min(len(contents.contract.labels), MAX_GOLDEN_SAMPLES))
    samples = golden_samples(labels, wanted)
    frames = evaluation["frames"][samples]
    inputs = to_device(prepare(frames, contents.contract), contents.converted.input)
    outputs = open_session(contents.converted).run(inputs)
    logits = dequantise(outputs, contents.converted.output).reshape(len(samples), -1)
    arrays = {
        "samples": samples,
        "labels": labels[samples],
        "frames": frames,
        "inputs": inputs,
        "outputs": outputs,
        "decisions": decisions(logits, contents.contract.activation),
    }
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def _json(value: object) -> bytes:
    text = json.dumps(encode(value), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def _write_zip(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = UNIX
            entry.external_attr = PLAIN_FILE
            archive.writestr(entry, data, compresslevel=DEFLATE_LEVEL)


def _readme(contents: Contents) -> str:
    whole, measured = contents.parity.whole, contents.measured.program
    memory = measured.ram_source
    if measured.ram_bytes is not None:
        memory = f"{measured.ram_bytes:,} bytes ({measured.ram_source})"
    costs = f"Program: {measured.flash_bytes:,} bytes. Working memory: {memory}."
    return README_TEXT.format(
        recipe=contents.recipe,
        target=contents.target,
        summary=contents.summary,
        model=model_name(contents.converted.runtime),
        agreement=f"{whole.agreement.estimate:.1%}",
        samples=whole.samples,
        runtime=contents.parity.runtime,
        samples_from=fill(f"Samples: {contents.parity.origin}", LINE_WIDTH),
        simulated=SIMULATED if contents.parity.simulated else "",
        costs=fill(costs, LINE_WIDTH),
        labels=", ".join(contents.contract.labels),
    )
