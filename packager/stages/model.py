"""Bring the user's network in, as a program that needs none of the user's code."""

from pathlib import Path

from packager.artifacts import Imported, Model, ModelFiles
from packager.cache import step
from packager.contract import Contract


@step(version=1, tools=("torch", "safetensors"))
def import_model(out: Path, files: ModelFiles, contract: Contract, seed: int) -> Imported:
    """Load, check and export the user's network.

    Raises:
        ModelError: It cannot be loaded, holds NaN, or does not fit the contract.
        ExportError: It cannot be captured; names the operator and the user's line.
    """
    from packager import program
    from packager.sources import exported_program, torch_module

    if files.program is not None:
        captured = exported_program.load(files.program, contract)
    else:
        network = torch_module.load(files, seed=seed)
        captured = torch_module.export(network, files, contract)
    operators = program.operators(captured)
    layers = program.to_module(captured)
    program.require_finite(layers)
    program.require_outputs(layers, contract.input_shape, contract.outputs)
    model = Model(
        program=program.save(layers, out / "model.pt2", contract.input_shape),
        input_shape=contract.input_shape,
        cost=program.cost(layers, contract.input_shape),
    )
    return Imported(model=model, operators=operators)
