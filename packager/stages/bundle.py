"""Put all that ships for one target into one archive."""

from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import assert_never

import numpy as np

from packager import bundles
from packager.archives import zip_bytes
from packager.artifacts import Bundle, Converted, File, Runtime
from packager.built import Networks, TargetResult
from packager.bundles import (
    BundledFile,
    Manifest,
    MeasuredRecord,
    OperatorRecord,
    ParityRecord,
)
from packager.cache import step
from packager.contract import Contract, IoContract, document
from packager.contract.answers import decisions, probabilities
from packager.contract.golden import golden_sample, prepare
from packager.contract.tensors import dequantise
from packager.distributions import Distribution, built_with
from packager.parity.answers import read_arrays
from packager.recipe import Recipe
from packager.runtimes import open_session

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
  contract.schema.json
      what each key of it means, for an editor or a validator
  golden.safetensors
      samples to check a device with:
      samples        which evaluation samples they are, int64
      labels         the truth, index of a label, int64
      frame_000 ...  each raw frame, before anything is done to it
      orientations   the EXIF orientation of each, 1 where it is upright, int64
      palette_000 .. its colours, where the contract's colour is a palette
      inputs         the program's input for each frame, one a row, as contract.json says
      outputs        what the program gave, in its own type
      decisions      the label that follows, index of a label, int64
      probabilities  of each label, float64
  parity.json
      comparison with the original: errors, decisions, accuracy, verdicts
  measured.json
      memory that the program takes; size of the network before and after pruning
  operators.json
      what the program computes, what runs outside the fast path, what was found before
  manifest.json
      SHA-256 of every other file here, and the exact versions of all that built it
  validation.json, and the files that it names
      where `packager validate` ran this on a device: the program that ran, what it printed,
      the system calls that it made, the figures and the verdicts

How to check
  This archive:  packager inspect {target}.zip
  Your app:      packager code {target}.zip writes the contract as code.
                 Turn each frame into an input; it must equal `inputs`, byte for byte.
                 Run the program on it; the result must give the same one of `decisions`.
"""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a bundle is made from.

    Attributes:
        target: Its name.
        summary: The target in one line, for people.
        recipe: Name of the model.
        golden: Raw samples of the evaluation split; see `Dataset.golden`.
        built_with: Software that the build rests on.
    """

    target: str
    summary: str
    recipe: str
    converted: Converted
    golden: File
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
            golden=networks.dataset.golden,
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


@step(version=3, tools=("numpy", "safetensors", "scipy"))
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
        bundles.CONTRACT: document.text(io).encode(),
        bundles.CONTRACT_SCHEMA: bundles.json_bytes(document.schema()),
        bundles.PARITY: bundles.json_bytes(contents.parity),
        bundles.MEASURED: bundles.json_bytes(contents.measured),
        bundles.OPERATORS: bundles.json_bytes(contents.operators),
        bundles.GOLDEN: _golden(contents, io),
        bundles.README: _readme(contents).encode(),
    }
    files[bundles.MANIFEST] = bundles.json_bytes(_manifest(contents, files))
    archive = out / f"{contents.target}.zip"
    archive.write_bytes(zip_bytes(files))
    return Bundle(archive=File.of(archive))


def model_name(runtime: Runtime) -> str:
    """Return what the program is called inside a bundle."""
    match runtime:
        case Runtime.EXECUTORCH:
            return "model.pte"
        case Runtime.LITERT | Runtime.TFLITE_MICRO | Runtime.TFLITE_LEGACY:
            return "model.tflite"
        case _:
            assert_never(runtime)


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
        files=tuple(BundledFile.of(name, data) for name, data in sorted(files.items())),
        built_with=contents.built_with,
    )


def _golden(contents: Contents, io: IoContract) -> bytes:
    """Take raw samples all the way to answers, and keep every step of the way."""
    from safetensors.numpy import save

    raw = read_arrays(contents.golden)
    samples = [golden_sample(raw, place, contents.contract) for place in range(len(raw["samples"]))]
    inputs = np.concatenate([prepare(sample, io) for sample in samples])
    outputs = open_session(contents.converted).run(inputs)
    logits = dequantise(outputs, io.output).reshape(len(samples), -1)
    arrays = raw | {
        "inputs": inputs,
        "outputs": outputs,
        "decisions": decisions(logits, contents.contract),
        "probabilities": probabilities(logits, contents.contract.activation),
    }
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


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
