"""Run the converted program on its own runtime, and hold it against the float networks."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from packager.artifacts import Comparison, Converted, Dataset, Parity, Reference
from packager.cache import step
from packager.contract import Contract
from packager.contract.tensors import dequantise, to_device
from packager.parity.answers import answers, read_arrays, write_arrays
from packager.parity.decisions import agreement, changed, most_moved
from packager.parity.statistics import metric_drops
from packager.parity.tensors import compare, require_finite
from packager.runtimes import Session, open_session

SHOWN_SAMPLES = 12


@dataclass(frozen=True, kw_only=True)
class Answered:
    """The logits (n, outputs) of one program, under the name that the report gives it."""

    name: str
    logits: NDArray[np.float32]


@step(version=2, tools=("ai-edge-litert", "executorch", "numpy", "scipy", "tflite-micro"))
def check_parity(
    out: Path, converted: Converted, reference: Reference, dataset: Dataset, contract: Contract
) -> Parity:
    """Compare the written program with the float networks on every evaluation sample.

    The program is loaded from its file by the runtime that the target has, so that what
    is compared is what ships.

    Raises:
        ParityError: The program answers NaN or infinity.
        MissingToolError: The runtime is not installed.
    """
    scores, frames = read_arrays(reference.scores), read_arrays(dataset.evaluation)["frames"]
    session = open_session(converted)
    logits = _logits(session, converted, frames, contract)
    require_finite(logits, f"{converted.program.path.name} on {session.name}")
    labels = scores["labels"].astype(np.int64)
    original = Answered(name="original", logits=scores["original"].astype(np.float32))
    tuned = Answered(name="pruned and tuned", logits=scores["tuned"].astype(np.float32))
    device = Answered(name=f"{session.name}, {converted.precision}", logits=logits)
    shown = most_moved(original.logits, logits, contract=contract, limit=SHOWN_SAMPLES)
    evidence = scores | {"converted": logits, "shown": shown, "frames": frames[shown]}
    return Parity(
        runtime=session.name,
        scores=write_arrays(out / "scores.npz", evidence),
        pruning=_comparison(original, tuned, labels, contract),
        conversion=_comparison(tuned, device, labels, contract),
        whole=_comparison(original, device, labels, contract),
    )


def _logits(
    session: Session, converted: Converted, frames: NDArray[np.generic], contract: Contract
) -> NDArray[np.float32]:
    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        raw = session.run(to_device(batch, converted.input))
        return dequantise(raw, converted.output).reshape(len(batch), -1)

    return answers(frames, contract, run).astype(np.float32)


def _comparison(
    reference: Answered, candidate: Answered, labels: NDArray[np.int64], contract: Contract
) -> Comparison:
    changes = changed(reference.logits, candidate.logits, contract)
    return Comparison(
        reference=reference.name,
        candidate=candidate.name,
        samples=len(labels),
        decisions_changed=int(changes.sum()),
        agreement=agreement(changes),
        tensors=compare(reference.logits, candidate.logits),
        metrics=metric_drops(labels, reference.logits, candidate.logits, contract),
    )
