"""Let a pruned network learn from the one that it was pruned from."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from packager.compression.training import Loss, class_logits, label_loss
from packager.contract import Activation

# Hinton, Vinyals, Dean, 2015 (arXiv:1503.02531): soft targets at a temperature, and a small
# share of the plain labels.
TEMPERATURE = 4.0
LABEL_SHARE = 0.1


def teacher_loss(teacher: nn.Module, activation: Activation) -> Loss:
    """Return the loss of answering otherwise than `teacher` does on the same inputs.

    Args:
        teacher: In eval mode; is not changed.
        activation: Of the outputs of both networks.
    """

    def loss(outputs: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = class_logits(teacher(inputs), activation) / TEMPERATURE
        given = class_logits(outputs, activation) / TEMPERATURE
        divergence = functional.kl_div(
            functional.log_softmax(given, dim=1),
            functional.log_softmax(wanted, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        # The square keeps the gradients as large as those of the labels.
        soft = divergence * TEMPERATURE**2
        return (1 - LABEL_SHARE) * soft + LABEL_SHARE * label_loss(outputs, labels, activation)

    return loss
