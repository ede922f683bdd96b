"""Ask both float networks, in PyTorch, about the evaluation samples."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from packager.artifacts import Dataset, File, Model, Reference, Tuned
from packager.cache import step
from packager.contract import Contract
from packager.errors import ModelError
from packager.parity.answers import answers, read_arrays, write_arrays
from packager.parity.statistics import require_every_label
from packager.parity.tensors import first_not_finite
from packager.runtimes import machine


@step(version=1, tools=("numpy", "torch"))
def predict(
    out: Path, original: Model, tuned: Tuned, dataset: Dataset, contract: Contract
) -> Reference:
    """Write what the original and the tuned network answer to the evaluation split.

    Raises:
        DataError: A label has no evaluation sample.
        ModelError: A network answers NaN or infinity.
    """
    import torch

    evaluation = read_arrays(dataset.evaluation)
    # Parity needs them all, and would say so only after every conversion.
    require_every_label(evaluation["labels"].astype(np.int64), contract)
    with _one_thread():
        scores: dict[str, NDArray[np.generic]] = {
            "labels": evaluation["labels"],
            "original": _logits(original.program, "original", evaluation["frames"], contract),
            "tuned": _logits(tuned.program, "fine-tuned", evaluation["frames"], contract),
        }
    version = torch.__version__.partition("+")[0]
    return Reference(
        scores=write_arrays(out / "scores.npz", scores),
        runtime=f"PyTorch {version} on {machine()}",
    )


def _logits(
    program: File, name: str, frames: NDArray[np.generic], contract: Contract
) -> NDArray[np.float32]:
    """Return the logits (n, outputs) of a network in eval mode, on the CPU."""
    import torch

    from packager.program import load

    network = load(program)

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            outputs: NDArray[np.float32] = network(torch.from_numpy(batch)).numpy()
        return outputs.reshape(len(batch), -1)

    logits = answers(frames, contract, run).astype(np.float32)
    sample = first_not_finite(logits)
    if sample is not None:
        problem = f"the {name} network answers {logits[sample].tolist()} to evaluation sample"
        remedy = "Training diverged: lower its learning_rate, or mend the weights."
        raise ModelError("model", f"{problem} {sample}. {remedy}")
    return logits


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sum in one order on every machine: the number of threads changes the last digits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
