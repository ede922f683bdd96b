"""Networks learn, the same way each time, and keep their best epoch."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from packager import program, progress
from packager.artifacts import Dataset, File, Model
from packager.cache import Cache
from packager.compression import distill, training
from packager.compression.training import Lesson, Split
from packager.contract import Activation, Contract
from packager.errors import ConfigError, ModelError
from packager.recipe import (
    Augmentation,
    Blending,
    Compute,
    Device,
    Distillation,
    FinetuneTable,
    StructuredPruning,
    TrainTable,
    UnstructuredPruning,
)
from packager.stages.finetune import Student, finetune
from packager.stages.prune import prune
from packager.stages.train import train
from tests.contracts import GRAY

COMPUTE = Compute(seed=5, threads=1)
TABLE = TrainTable(
    epochs=6, patience_epochs=6, batch_size=32, learning_rate=0.01, augmentation=Augmentation.NONE
)
CONTRACT = Contract(
    input_shape=(1, 8, 8),
    source=GRAY,
    full_scale=255.0,
    mean=(0.5,),
    std=(0.25,),
    activation=Activation.SOFTMAX,
    labels=("dark", "bright"),
)


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 2),
    )


def write_split(path: Path, samples: int, seed: int) -> File:
    """Write frames whose mean brightness tells their label, with noise over it."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % 2
    frames = rng.normal(110 + 40 * labels[:, None, None], 40, (samples, 8, 8)).clip(0, 255)
    np.savez(path, frames=frames.astype(np.uint8), labels=labels.astype(np.int64))
    return File.of(path)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    names = ("finetune", "validation", "calibration", "evaluation", "golden")
    files = {n: write_split(tmp_path / f"{n}.npz", 128, i) for i, n in enumerate(names)}
    return Dataset(**files, origin="drawn by the test", simulated=True)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    network = program.to_module(program.export(small(), (1, 8, 8)))
    return Model(
        program=program.save(network, tmp_path / "m.pt2", (1, 8, 8)),
        input_shape=(1, 8, 8),
        cost=program.cost(network, (1, 8, 8)),
    )


def test_training_learns_and_the_same_seed_learns_the_same(
    model: Model, dataset: Dataset, tmp_path: Path
) -> None:
    runs = [
        Cache(tmp_path / name).run(train, model, dataset, CONTRACT, TABLE, COMPUTE) for name in "ab"
    ]
    assert runs[0].program.sha256 == runs[1].program.sha256
    assert runs[0].history == runs[1].history
    assert runs[0].history[runs[0].best_epoch].validation_accuracy_score > 0.95


def test_another_seed_gives_another_network(model: Model, dataset: Dataset, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    other = COMPUTE.model_copy(update={"seed": 6})
    first = cache.run(train, model, dataset, CONTRACT, TABLE, COMPUTE)
    second = cache.run(train, model, dataset, CONTRACT, TABLE, other)
    assert first.program.sha256 != second.program.sha256


def test_best_epoch_is_kept_and_patience_ends_the_training(
    model: Model, dataset: Dataset, tmp_path: Path
) -> None:
    # A rate this high makes the loss rise at once, so that patience must end it.
    wild = TABLE.model_copy(update={"epochs": 40, "patience_epochs": 2, "learning_rate": 3.0})
    tuned = Cache(tmp_path / "c").run(train, model, dataset, CONTRACT, wild, COMPUTE)
    losses = [epoch.validation_loss_error for epoch in tuned.history]
    assert tuned.best_epoch == losses.index(min(losses))
    assert len(losses) == tuned.best_epoch + 3 < 40
    network = program.load(tuned.program)
    split = training.read_split(dataset.validation, CONTRACT, Device.CPU)
    with torch.no_grad():
        loss = training.label_loss(network(split.inputs), split.labels, CONTRACT.activation)
    # The same samples in one batch: float32 sums in the same order.
    assert math.isclose(float(loss), min(losses), rel_tol=1e-5)


def test_pruned_network_learns_from_its_teacher(
    model: Model, dataset: Dataset, tmp_path: Path
) -> None:
    cache = Cache(tmp_path / "cache")
    taught = cache.run(train, model, dataset, CONTRACT, TABLE, COMPUTE)
    original = replace(model, program=taught.program)
    half = StructuredPruning(method="structured", macs_ratio=0.6)
    pruned = cache.run(prune, original, half, 4)
    table = FinetuneTable(**TABLE.model_dump(exclude={"blending"}))
    assert table.distillation is Distillation.TEACHER
    tuned = cache.run(
        finetune, Student(pruned=pruned, teacher=original), dataset, CONTRACT, table, COMPUTE
    )
    split = training.read_split(dataset.evaluation, CONTRACT, Device.CPU)
    networks = [program.load(f) for f in (original.program, pruned.program, tuned.program)]
    with torch.no_grad():
        answers = [network(split.inputs).argmax(1) for network in networks]
    agreement = [float((answer == answers[0]).float().mean()) for answer in answers]
    assert agreement[2] >= max(agreement[1], 0.95)


def test_network_that_lost_channels_is_close_to_its_teacher_before_it_trains(
    model: Model, dataset: Dataset, tmp_path: Path
) -> None:
    cache = Cache(tmp_path / "cache")
    half = StructuredPruning(method="structured", macs_ratio=0.6)
    student = Student(pruned=cache.run(prune, model, half, 4), teacher=model)
    split = training.read_split(dataset.evaluation, CONTRACT, Device.CPU)
    errors = []
    for source in (Distillation.LABELS, Distillation.TEACHER):
        # A rate this low leaves the weights as they were before.
        still = {"epochs": 1, "learning_rate": 1e-9, "distillation": source}
        table = FinetuneTable(**TABLE.model_dump(exclude={"blending"}) | still)
        tuned = cache.run(finetune, student, dataset, CONTRACT, table, COMPUTE)
        networks = [program.load(f) for f in (tuned.program, model.program)]
        with torch.no_grad():
            answers = [network(split.inputs) for network in networks]
        errors.append(float(nn.functional.mse_loss(*answers)))
    assert errors[1] < 0.2 * errors[0]


def test_fine_tuning_keeps_the_zeros_of_unstructured_pruning(
    model: Model, dataset: Dataset, tmp_path: Path
) -> None:
    cache = Cache(tmp_path / "cache")
    settings = UnstructuredPruning(method="unstructured", sparsity_ratio=0.5)
    pruned = cache.run(prune, model, settings, 1)
    table = FinetuneTable(**TABLE.model_dump(exclude={"blending"}) | {"averaging_epochs": 2.0})
    tuned = cache.run(
        finetune, Student(pruned=pruned, teacher=model), dataset, CONTRACT, table, COMPUTE
    )
    assert program.cost(program.load(tuned.program), (1, 8, 8)).sparsity_ratio == 0.5


def test_teacher_finds_no_fault_with_itself_and_some_with_another() -> None:
    teacher, other = small().eval(), small().eval()
    with torch.no_grad():
        other.get_parameter("5.bias").add_(2.0)
    inputs = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    loss = distill.teacher_loss(teacher)
    labels = torch.zeros(8, dtype=torch.int64)
    with torch.no_grad():
        assert float(loss(teacher, inputs, labels)) == 0.0
        # Each logit is off by two, up to float32 rounding.
        assert math.isclose(float(loss(other, inputs, labels)), 4.0, rel_tol=1e-5)


def test_blended_samples_lie_between_two() -> None:
    torch.manual_seed(0)
    inputs = torch.arange(16.0).reshape(16, 1, 1, 1).expand(16, 1, 2, 2)
    blended = training.blend(inputs)
    values = inputs[:, 0, 0, 0]
    wanted = torch.lerp(values, values[blended.partners], blended.shares)
    assert blended.inputs.shape == (16, 1, 2, 2)
    assert torch.equal(blended.inputs, wanted.reshape(16, 1, 1, 1).expand(16, 1, 2, 2))
    assert sorted(blended.partners.tolist()) == list(range(16))
    assert 0 <= float(blended.shares.min()) < 0.2
    assert 0.8 < float(blended.shares.max()) <= 1


def test_labels_are_blended_as_the_samples_are() -> None:
    network, labels = small().train(), torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])
    inputs = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    loss = training.blended_label_loss(Activation.SOFTMAX)(network, inputs, labels)
    torch.manual_seed(1)
    shown = training.blend(inputs)
    one_hot = nn.functional.one_hot(labels, 2).float()
    wanted = torch.lerp(one_hot, one_hot[shown.partners], shown.shares[:, None])
    expected = nn.functional.cross_entropy(network(shown.inputs), wanted)
    # The same sums in another order.
    assert math.isclose(float(loss.detach()), float(expected.detach()), rel_tol=1e-6)


def test_blending_is_for_training_alone() -> None:
    network, labels = small().eval(), torch.tensor([0, 1, 1, 0])
    inputs = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    blended = training.blended_label_loss(Activation.SOFTMAX)(network, inputs, labels)
    plain = training.label_loss(network(inputs), labels, Activation.SOFTMAX)
    assert torch.equal(blended, plain)


def test_recipe_decides_whether_training_blends(
    model: Model, dataset: Dataset, tmp_path: Path
) -> None:
    cache = Cache(tmp_path / "cache")
    pairs = TABLE.model_copy(update={"blending": Blending.PAIRS})
    plain, blended = (
        cache.run(train, model, dataset, CONTRACT, table, COMPUTE) for table in (TABLE, pairs)
    )
    # Between two labels no answer is sure, so the loss cannot come close to zero.
    assert blended.history[-1].train_loss_error > plain.history[-1].train_loss_error + 0.1
    assert blended.history[blended.best_epoch].validation_accuracy_score > 0.95


def test_averaged_weights_follow_slowly_and_are_the_ones_kept(
    model: Model, dataset: Dataset
) -> None:
    lesson = training.read_lesson("train", dataset, CONTRACT, Device.CPU)
    start = program.load(model.program)
    moved = []
    for epochs in (0.0, 100.0):
        network = program.load(model.program)
        table = TABLE.model_copy(update={"averaging_epochs": epochs})
        learned = training.fit(network, lesson, table, COMPUTE)
        best = learned.history[learned.best_epoch]
        with torch.no_grad():
            loss = lesson.loss(network, lesson.validation.inputs, lesson.validation.labels)
        assert math.isclose(float(loss), best.validation_loss_error, rel_tol=1e-5)
        weights = zip(network.parameters(), start.parameters(), strict=True)
        moved.append(sum(float((new - old).norm().detach()) for new, old in weights))
    assert 0 < moved[1] < 0.2 * moved[0]


def test_sigmoid_and_softmax_agree_on_two_labels() -> None:
    logits = torch.tensor([[0.3], [-2.0]])
    both = torch.cat([torch.zeros_like(logits), logits], dim=1)
    labels = torch.tensor([1, 0])
    sigmoid = training.label_loss(logits, labels, Activation.SIGMOID)
    assert torch.equal(sigmoid, training.label_loss(both, labels, Activation.SOFTMAX))
    assert math.isclose(
        float(sigmoid),
        float(nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels.float())),
        rel_tol=1e-6,
    )


def test_augmentation_moves_pixels_and_invents_none() -> None:
    torch.manual_seed(0)
    frames = torch.arange(28 * 28, dtype=torch.float32).reshape(1, 1, 28, 28).repeat(16, 1, 1, 1)
    moved = training.augment(frames, Augmentation.FLIP_SHIFT)
    assert moved.shape == frames.shape
    assert len({tuple(sample.flatten().tolist()) for sample in moved}) > 8
    assert set(moved.unique().tolist()) <= set(frames.unique().tolist())


def test_signals_are_shifted_but_never_mirrored() -> None:
    torch.manual_seed(0)
    ramp = torch.arange(100, dtype=torch.float32).reshape(1, 1, 100).repeat(32, 1, 1)
    moved = training.augment(ramp, Augmentation.FLIP_SHIFT)
    assert bool((moved.diff(dim=2) >= 0).all())


def test_no_augmentation_is_the_same_tensor() -> None:
    frames = torch.zeros(2, 1, 4, 4)
    assert training.augment(frames, Augmentation.NONE) is frames


def test_diverging_training_is_one_readable_error() -> None:
    split = Split(inputs=torch.full((4, 1, 8, 8), 1e30), labels=torch.tensor([0, 1, 0, 1]))
    lesson = Lesson(
        task="train",
        samples=split,
        validation=split,
        loss=lambda network, inputs, _labels: (network(inputs) * float("inf")).sum(),
        activation=Activation.SOFTMAX,
    )
    with pytest.raises(ModelError, match="the loss is no longer a number"):
        training.fit(small(), lesson, TABLE, COMPUTE)


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for what is not there")
def test_missing_gpu_is_a_mistake_in_the_recipe() -> None:
    with pytest.raises(ConfigError, match=r"compute\.device: no CUDA device is here"):
        training.require_device(Device.CUDA)


def test_training_restores_threads_and_random_state() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with training.deterministic(Compute(seed=1, threads=threads + 1)):
        torch.rand(1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_progress_counts_every_epoch(model: Model, dataset: Dataset, tmp_path: Path) -> None:
    class Listener:
        def __init__(self) -> None:
            self.heard: list[str] = []

        def start(self, task: str, total: int) -> None:
            self.heard.append(f"{task} {total}")

        def advance(self, task: str, note: str) -> None:
            self.heard.append(f"{task} {note.split(maxsplit=1)[0]}")

        def finish(self, task: str) -> None:
            self.heard.append(f"{task} done")

    listener = Listener()
    with progress.listening(listener):
        Cache(tmp_path / "c").run(train, model, dataset, CONTRACT, TABLE, COMPUTE)
    assert listener.heard == ["train 6", *["train validation"] * 6, "train done"]
