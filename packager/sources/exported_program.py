"""A model that comes as a `.pt2` program from `torch.export.save`."""

import torch

from packager import program
from packager.artifacts import File
from packager.contract import Contract
from packager.errors import ModelError


def load(file: File, contract: Contract) -> torch.export.ExportedProgram:
    """Read the user's program and check that it takes batches of the contract's samples.

    Raises:
        ModelError: The file is damaged, could run code, has a fixed batch, or takes
            samples of another shape.
    """
    loaded = program.load_program(file.path)
    shape = _input_shape(loaded, file)
    if shape[1:] != contract.input_shape:
        problem = f"takes samples {shape[1:]}, contract.input_shape is {contract.input_shape}."
        raise ModelError(str(file.path), problem)
    if isinstance(shape[0], int):
        remedy = 'Export it with dynamic_shapes=({0: torch.export.Dim("batch")},).'
        raise ModelError(str(file.path), f"takes batches of exactly {shape[0]}. {remedy}")
    return loaded


def _input_shape(loaded: torch.export.ExportedProgram, file: File) -> tuple[object, ...]:
    names = loaded.graph_signature.user_inputs
    values = [
        n.meta["val"] for n in loaded.graph.nodes if n.op == "placeholder" and n.name in names
    ]
    if len(values) != 1:
        remedy = "packager takes networks with one input tensor and one output tensor."
        raise ModelError(str(file.path), f"has {len(values)} inputs. {remedy}")
    return tuple(values[0].shape)
