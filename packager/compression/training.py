"""The loop in which a network learns: seeded, with early stop, the best epoch kept."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from packager import progress
from packager.artifacts import Dataset, Epoch, File
from packager.contract import Activation, Contract
from packager.contract.tensors import normalise
from packager.errors import ConfigError, ModelError
from packager.recipe import Augmentation, Compute, Device, FinetuneTable, TrainTable

# Of a frame's longer side: how far a sample is shifted at most, 2 of 28 pixels.
SHIFT_RATIO = 0.07
EVALUATION_BATCH = 256

# (network, inputs, labels) -> mean loss of the batch
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Prepared inputs, float32 (n, channels, ...), and labels, int64 (n,)."""

    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a network is to learn.

    Attributes:
        task: What the progress bar says.
        loss: Of a batch; also what the best epoch on `validation` is chosen by.
    """

    task: str
    samples: Split
    validation: Split
    loss: Loss
    activation: Activation


@dataclass(frozen=True, kw_only=True)
class Blend:
    """Samples mixed with others of their batch.

    Attributes:
        inputs: (n, channels, ...), each between a sample and its partner.
        partners: int64 (n,): which sample of the batch was mixed in.
        shares: float32 (n,): how much of each is its partner's, 0 (none) to 1 (all).
    """

    inputs: Tensor
    partners: Tensor
    shares: Tensor


@dataclass(frozen=True, kw_only=True)
class Learned:
    """How the network came to its weights; `best_epoch` counts from 0."""

    history: tuple[Epoch, ...]
    best_epoch: int


def read_split(file: File, contract: Contract, device: Device) -> Split:
    """Load and prepare one split of a data set."""
    with np.load(file.path, allow_pickle=False) as arrays:
        inputs = torch.from_numpy(normalise(arrays["frames"], contract))
        labels = torch.from_numpy(arrays["labels"])
    return Split(inputs=inputs.to(device.value), labels=labels.to(device.value))


def read_lesson(task: str, dataset: Dataset, contract: Contract, device: Device) -> Lesson:
    """Return the lesson of learning a data set's labels."""
    return Lesson(
        task=task,
        samples=read_split(dataset.finetune, contract, device),
        validation=read_split(dataset.validation, contract, device),
        loss=lambda network, inputs, labels: label_loss(
            network(inputs), labels, contract.activation
        ),
        activation=contract.activation,
    )


def label_loss(outputs: Tensor, labels: Tensor, activation: Activation) -> Tensor:
    """Return the mean cross entropy of logits (n, outputs) and labels (n,)."""
    return functional.cross_entropy(class_logits(outputs, activation), labels)


def blended_label_loss(activation: Activation) -> Loss:
    """Return the loss of answering between two labels as the sample lies between two samples.

    Blending is for the network that trains; in eval mode it is the plain label loss. A
    network trained so changes evenly between its samples (Zhang et al., 2018,
    arXiv:1710.09412): fewer of them lie close to a decision boundary, and a smaller
    network can follow it.
    """

    def loss(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        if not network.training:
            return label_loss(network(inputs), labels, activation)
        shown = blend(inputs)
        logits = class_logits(network(shown.inputs), activation)
        own = functional.cross_entropy(logits, labels, reduction="none")
        others = functional.cross_entropy(logits, labels[shown.partners], reduction="none")
        return torch.lerp(own, others, shown.shares).mean()

    return loss


def blend(inputs: Tensor) -> Blend:
    """Return each sample (n, channels, ...) mixed with another, in a share drawn from 0 to 1."""
    shares = torch.rand(len(inputs), device=inputs.device)
    partners = torch.randperm(len(inputs), device=inputs.device)
    each = shares.reshape(-1, *[1] * (inputs.dim() - 1))
    mixed = torch.lerp(inputs, inputs[partners], each)
    return Blend(inputs=mixed, partners=partners, shares=shares)


def class_logits(outputs: Tensor, activation: Activation) -> Tensor:
    """Return one logit for each label: a sigmoid's are zero and its one output."""
    if activation is Activation.SIGMOID:
        return torch.cat([torch.zeros_like(outputs), outputs], dim=1)
    return outputs


def fit(
    network: nn.Module, lesson: Lesson, settings: TrainTable | FinetuneTable, compute: Compute
) -> Learned:
    """Train `network` in place, by AdamW on a one-cycle schedule; keep its best epoch.

    Where the settings average, an epoch's weights are the running average at its end.

    Returns:
        The history up to the early stop; the network has the weights of `best_epoch` and
        is in eval mode.

    Raises:
        ConfigError: CUDA is asked for and is not there.
        ModelError: The loss is no longer a number.
    """
    network.to(require_device(compute.device).value).requires_grad_(requires_grad=True)
    history: list[Epoch] = []
    best, best_state = 0, copy.deepcopy(network.state_dict())
    with deterministic(compute), progress.track(lesson.task, settings.epochs) as advance:
        average = _Average(settings.averaging_epochs * len(_starts(lesson, settings)))
        passes = _passes(network, average, lesson, settings)
        for epoch, train_loss in enumerate(passes):
            with average.worn_by(network):
                history.append(_evaluate(network, lesson, train_loss))
            error = history[-1].validation_loss_error
            if epoch == 0 or error < history[best].validation_loss_error:
                best, best_state = epoch, copy.deepcopy(average.state)
            advance(f"validation loss {error:.3f}")
            if epoch - best >= settings.patience_epochs:
                break
    network.load_state_dict(best_state)
    network.cpu().eval()
    return Learned(history=tuple(history), best_epoch=best)


class _Average:
    """A running average of a network's weights and of its batch norms' statistics.

    PyTorch's own copies the module, which a network with masked weights does not allow.
    """

    def __init__(self, steps: float) -> None:
        self.share = 1.0 / max(1.0, steps)
        self.state: dict[str, Tensor] = {}

    def update(self, network: nn.Module) -> None:
        """Move towards the network's state; the first call takes it over."""
        for name, tensor in network.state_dict().items():
            if name in self.state and tensor.is_floating_point():
                self.state[name].lerp_(tensor, self.share)
            else:
                self.state[name] = tensor.clone()

    @contextmanager
    def worn_by(self, network: nn.Module) -> Iterator[None]:
        """Let the network have the average, and then its own state again."""
        own = copy.deepcopy(network.state_dict())
        network.load_state_dict(self.state)
        try:
            yield
        finally:
            network.load_state_dict(own)


def _starts(lesson: Lesson, settings: TrainTable | FinetuneTable) -> list[int]:
    """Return where each batch of a pass begins."""
    count = len(lesson.samples.labels)
    # A last batch of one sample has no variance to normalise by.
    return [s for s in range(0, count, settings.batch_size) if count - s > 1 or count == 1]


def _passes(
    network: nn.Module,
    average: _Average,
    lesson: Lesson,
    settings: TrainTable | FinetuneTable,
) -> Iterator[float]:
    """Yield the mean loss of one pass over the samples after the other."""
    count, starts = len(lesson.samples.labels), _starts(lesson, settings)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.epochs * len(starts)
    )
    for _ in range(settings.epochs):
        network.train()
        order = torch.randperm(count, device=lesson.samples.labels.device)
        total = 0.0
        for start in starts:
            batch = order[start : start + settings.batch_size]
            inputs = augment(lesson.samples.inputs[batch], settings.augmentation)
            loss = lesson.loss(network, inputs, lesson.samples.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update(network)
            total += float(loss.detach()) * len(batch)
        if not np.isfinite(total):
            remedy = "Lower learning_rate, or look for broken samples."
            raise ModelError(lesson.task, f"the loss is no longer a number. {remedy}")
        yield total / count


def _evaluate(network: nn.Module, lesson: Lesson, train_loss: float) -> Epoch:
    network.eval()
    split, count = lesson.validation, len(lesson.validation.labels)
    error, hits = 0.0, 0
    with torch.no_grad():
        for start in range(0, count, EVALUATION_BATCH):
            inputs = split.inputs[start : start + EVALUATION_BATCH]
            labels = split.labels[start : start + EVALUATION_BATCH]
            decided = class_logits(network(inputs), lesson.activation).argmax(dim=1)
            error += float(lesson.loss(network, inputs, labels)) * len(labels)
            hits += int((decided == labels).sum())
    return Epoch(
        train_loss_error=train_loss,
        validation_loss_error=error / count,
        validation_accuracy_score=hits / count,
    )


def augment(inputs: Tensor, augmentation: Augmentation) -> Tensor:
    """Return each sample mirrored at random, and shifted by a few pixels.

    Args:
        inputs: float32 (n, channels, height, width); or (n, channels, length), which is
            shifted but not mirrored.
        augmentation: `none` returns the inputs as they are.
    """
    if augmentation is Augmentation.NONE:
        return inputs
    for axis in range(2, inputs.dim()):
        inputs = _shift(inputs, axis)
    if inputs.dim() == 4:
        mirrored = torch.rand(len(inputs), device=inputs.device) < 0.5
        inputs = torch.where(mirrored[:, None, None, None], inputs.flip(3), inputs)
    return inputs


def _shift(inputs: Tensor, axis: int) -> Tensor:
    """Shift each sample along one axis; what enters at the border repeats it."""
    size = inputs.shape[axis]
    most = max(1, round(size * SHIFT_RATIO))
    offsets = torch.randint(-most, most + 1, (len(inputs), 1), device=inputs.device)
    index = (torch.arange(size, device=inputs.device) + offsets).clamp(0, size - 1)
    shape = [len(inputs)] + [1] * (inputs.dim() - 1)
    shape[axis] = size
    return inputs.gather(axis, index.reshape(shape).expand_as(inputs))


def require_device(device: Device) -> Device:
    """Fail unless the device is here.

    Raises:
        ConfigError: CUDA is asked for and is not there.
    """
    if device is Device.CUDA and not torch.cuda.is_available():
        problem = "no CUDA device is here. Write device = 'cpu', or install its driver."
        raise ConfigError("compute.device", problem)
    return device


@contextmanager
def deterministic(compute: Compute) -> Iterator[None]:
    """Seed PyTorch, fix its threads and its algorithms, and set all back afterwards."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    chosen = torch.are_deterministic_algorithms_enabled()
    torch.manual_seed(compute.seed)
    torch.set_num_threads(compute.threads)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=chosen)
        torch.set_num_threads(threads)
        torch.set_rng_state(state)
