"""Set single weights to zero, and keep them there while the others train."""

import torch
from torch import nn
from torch.nn.utils import prune as masks

from packager import program


def prune(network: nn.Module, sparsity_ratio: float) -> None:
    """Set the smallest weights of each convolution and linear layer to zero.

    The share is taken layer by layer: one threshold for the whole network empties its
    narrow layers, from which it does not recover.

    Args:
        network: Is changed in place.
        sparsity_ratio: Share of the weights of each layer, above 0 and below 1.
    """
    for layer in program.weighted_layers(network):
        masks.l1_unstructured(layer, "weight", amount=sparsity_ratio)
        masks.remove(layer, "weight")


def freeze_zeros(network: nn.Module) -> None:
    """Keep every weight that is zero now at zero, until `release_zeros`."""
    for layer in program.weighted_layers(network):
        masks.custom_from_mask(layer, "weight", mask=(layer.weight != 0).to(torch.float32))


def release_zeros(network: nn.Module) -> None:
    """Make the weights plain parameters again; zeros stay zero."""
    for layer in program.weighted_layers(network):
        masks.remove(layer, "weight")
