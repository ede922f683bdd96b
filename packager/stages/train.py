"""Train the user's network from scratch, where the recipe brings no weights."""

from dataclasses import replace
from pathlib import Path

from packager.artifacts import Dataset, Model, Tuned
from packager.cache import step
from packager.contract import Contract
from packager.recipe import Blending, Compute, TrainTable


@step(version=2, tools=("torch", "numpy"))
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
    if settings.blending is Blending.PAIRS:
        lesson = replace(lesson, loss=training.blended_label_loss(contract.activation))
    learned = training.fit(network, lesson, settings, compute)
    return Tuned(
        program=program.save(network, out / "trained.pt2", model.input_shape),
        history=learned.history,
        best_epoch=learned.best_epoch,
    )
