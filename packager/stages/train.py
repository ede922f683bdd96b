"""Train the user's network from scratch, where the recipe brings no weights."""

from pathlib import Path

from packager.artifacts import Dataset, Model, Tuned
from packager.cache import step
from packager.contract import Contract
from packager.recipe import Compute, TrainTable


@step(version=1, tools=("torch", "numpy"))
def train(
    out: Path,
    model: Model,
    dataset: Dataset,
    contract: Contract,
    settings: TrainTable,
    compute: Compute,
) -> Tuned:
    """Fit the network to the labels of the fine-tuning split.

    Raises:
        ConfigError: CUDA is asked for and is not there.
        ModelError: The loss is no longer a number.
    """
    from packager import program
    from packager.compression import training

    network = program.load(model.program)
    lesson = training.read_lesson("train", dataset, contract, compute.device)
    learned = training.fit(network, lesson, settings, compute)
    return Tuned(
        program=program.save(network, out / "trained.pt2", model.input_shape),
        history=learned.history,
        best_epoch=learned.best_epoch,
    )
