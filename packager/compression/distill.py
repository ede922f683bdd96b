"""Let a pruned network learn from the one that it was pruned from."""

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from packager.compression import repair
from packager.compression.training import Lesson, Loss, augment, blend, deterministic
from packager.recipe import Compute, FinetuneTable


def teacher_loss(teacher: nn.Module) -> Loss:
    """Return the loss of answering otherwise than `teacher` does on the same inputs.

    It is the mean squared difference of the logits (Ba and Caruana, 2014,
    arXiv:1312.6184), to which soft targets tend at a high temperature. A teacher answers
    any input, so while the network trains, each sample is blended with another one: few
    samples then show far more of how the teacher decides (Beyer et al., 2022,
    arXiv:2106.05237).

    Args:
        teacher: In eval mode; is not changed.
    """

    def loss(network: nn.Module, inputs: Tensor, _labels: Tensor) -> Tensor:
        shown = blend(inputs).inputs if network.training else inputs
        with torch.no_grad():
            wanted = teacher(shown)
        return functional.mse_loss(network(shown), wanted)

    return loss


def start(
    network: fx.GraphModule,
    teacher: fx.GraphModule,
    lesson: Lesson,
    settings: FinetuneTable,
    compute: Compute,
) -> tuple[str, ...]:
    """Bring a network that lost channels close to its teacher, in place, before it trains.

    Few samples teach little to a network that pruning has thrown far off; see
    `repair.repair`. It sees samples like those that `teacher_loss` shows.

    Returns:
        The names of the layers that stay as pruning left them.
    """
    inputs = lesson.samples.inputs
    network.to(inputs.device)
    with deterministic(compute):
        chosen = inputs[torch.randperm(len(inputs), device=inputs.device)[: repair.SAMPLES]]
        passes = -(-repair.SAMPLES // len(chosen))
        views = [blend(augment(chosen, settings.augmentation)).inputs for _ in range(passes)]
        return repair.repair(network, teacher, torch.cat(views)[: repair.SAMPLES])
