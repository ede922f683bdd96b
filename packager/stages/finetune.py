"""Let the pruned network recover."""

from dataclasses import dataclass, replace
from pathlib import Path

from packager.artifacts import Dataset, Model, Pruned, Tuned
from packager.cache import step
from packager.contract import Contract
from packager.recipe import Compute, Distillation, FinetuneTable


@dataclass(frozen=True, kw_only=True)
class Student:
    """A pruned network, and the original that it may learn from."""

    pruned: Pruned
    teacher: Model


@step(version=4, tools=("torch", "numpy"))
def finetune(
    out: Path,
    student: Student,
    dataset: Dataset,
    contract: Contract,
    settings: FinetuneTable,
    compute: Compute,
) -> Tuned:
    """Train the pruned network, by default to answer as the original does.

    A network that lost channels and learns from the original is repaired first. Weights
    that unstructured pruning set to zero stay zero.

    Raises:
        ConfigError: CUDA is asked for and is not there.
        ModelError: The loss is no longer a number.
    """
    from packager import program
    from packager.compression import distill, training, unstructured

    pruned = student.pruned
    network = program.load(pruned.program)
    lesson = training.read_lesson("fine-tune", dataset, contract, compute.device)
    unfitted: tuple[str, ...] = ()
    if settings.distillation is Distillation.TEACHER:
        teacher = program.load(student.teacher.program).to(compute.device.value)
        lesson = replace(lesson, loss=distill.teacher_loss(teacher))
        if pruned.after.parameters < pruned.before.parameters:
            unfitted = distill.start(network, teacher, lesson, settings, compute)
    sparse = pruned.after.sparsity_ratio > pruned.before.sparsity_ratio
    if sparse:
        unstructured.freeze_zeros(network)
    learned = training.fit(network, lesson, settings, compute)
    if sparse:
        unstructured.release_zeros(network)
    return Tuned(
        program=program.save(network, out / "tuned.pt2", contract.input_shape),
        history=learned.history,
        best_epoch=learned.best_epoch,
        unfitted_layers=unfitted,
    )
