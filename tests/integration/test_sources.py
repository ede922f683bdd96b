"""A user's model comes in, and each thing that can be wrong with it is named."""

import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch

from packager import program, sources
from packager.artifacts import Model
from packager.cache import Cache, by_content
from packager.contract import Activation, Contract
from packager.errors import ConfigError, ExportError, ModelError
from packager.recipe import ModelSource
from packager.sources import torch_module
from packager.stages.model import import_model
from tests.conftest import real_data
from tests.contracts import GRAY
from tests.networks import Residual, seeded

CONTRACT = Contract(
    input_shape=(1, 8, 8),
    source=GRAY,
    full_scale=255.0,
    mean=(0.0,),
    std=(1.0,),
    activation=Activation.SOFTMAX,
    labels=("no", "yes"),
)
GOOD = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 2)
    def forward(self, x):
        return self.head(x.flatten(1))

def create():
    return Net()
"""


def bring_in(folder: Path, source: ModelSource, contract: Contract = CONTRACT) -> Model:
    files = sources.resolve(source, folder)
    return Cache(folder / "cache").run(import_model, files, contract, 0).model


def write(folder: Path, code: str) -> ModelSource:
    (folder / "net.py").write_text(code)
    return ModelSource(factory="net:create")


def test_factory_with_safetensors_keeps_the_weights(tmp_path: Path) -> None:
    source = write(tmp_path, GOOD)
    weights = {"head.weight": torch.full((2, 64), 0.5), "head.bias": torch.zeros(2)}
    safetensors.torch.save_file(weights, tmp_path / "w.safetensors")
    source = source.model_copy(update={"checkpoint": tmp_path / "w.safetensors"})
    model = bring_in(tmp_path, source)
    with torch.no_grad():
        answer = program.load(model.program)(torch.ones(1, 1, 8, 8))
    assert answer.tolist() == [[32.0, 32.0]]
    assert (model.cost.parameters, model.cost.macs) == (130, 128)


def test_same_seed_gives_the_same_untrained_network(tmp_path: Path) -> None:
    source = write(tmp_path, GOOD)
    files = sources.resolve(source, tmp_path)
    first = torch_module.load(files, seed=3).state_dict()
    second = torch_module.load(files, seed=3).state_dict()
    other = torch_module.load(files, seed=4).state_dict()
    assert torch.equal(first["head.weight"], second["head.weight"])
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_two_recipes_may_both_call_their_module_net(tmp_path: Path) -> None:
    for name, size in (("a", 2), ("b", 3)):
        (tmp_path / name).mkdir()
        write(tmp_path / name, GOOD.replace("64, 2", f"64, {size}"))
    source = ModelSource(factory="net:create")
    loaded = [torch_module.load(sources.resolve(source, tmp_path / n), seed=0) for n in "ab"]
    assert [network.get_submodule("head").out_features for network in loaded] == [2, 3]


def test_changed_module_beside_the_factory_is_another_model(tmp_path: Path) -> None:
    source = write(tmp_path, "from parts import Net\n\ndef create():\n    return Net()\n")
    (tmp_path / "parts.py").write_text(GOOD)
    before = sources.resolve(source, tmp_path)
    (tmp_path / "parts.py").write_text(GOOD + "\n# changed\n")
    assert sources.resolve(source, tmp_path) != before


def test_published_checkpoint_in_the_old_format_is_read() -> None:
    folder = real_data("cifar10-resnets")
    state = torch_module.read_checkpoint(folder / "resnet20-12fca82f.th")
    assert state["conv1.weight"].shape == (16, 3, 3, 3)


def test_pickled_module_is_refused_and_not_run(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.mkdir, (tmp_path / "harmed",))  # type: ignore[return-value]

    (tmp_path / "w.pt").write_bytes(pickle.dumps({"state_dict": Harm()}, protocol=2))
    source = write(tmp_path, GOOD).model_copy(update={"checkpoint": tmp_path / "w.pt"})
    with pytest.raises(ModelError, match="damaged or holds more than tensors"):
        bring_in(tmp_path, source)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"head.weight": torch.zeros(2, 64)}, "has no tensor 'head.bias' (1 are missing)."),
        (
            {"head.weight": torch.zeros(2, 63), "head.bias": torch.zeros(2)},
            "head.weight is (2, 63), the network's is (2, 64).",
        ),
        (
            {"head.weight": torch.zeros(2, 64), "head.bias": torch.zeros(2), "x": torch.zeros(1)},
            "has a tensor 'x' that the network does not (1 in all).",
        ),
    ],
)
def test_checkpoint_that_does_not_fit_names_the_tensor(
    tmp_path: Path, weights: dict[str, torch.Tensor], message: str
) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(weights, path)
    source = write(tmp_path, GOOD).model_copy(update={"checkpoint": path})
    with pytest.raises(ModelError) as caught:
        bring_in(tmp_path, source)
    assert str(caught.value) == f"{path}: {message}"


def test_nan_in_the_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    weights = {"head.weight": torch.zeros(2, 64), "head.bias": torch.tensor([0.0, float("nan")])}
    safetensors.torch.save_file(weights, path)
    source = write(tmp_path, GOOD).model_copy(update={"checkpoint": path})
    with pytest.raises(ModelError, match=r"model.head.bias: 1 of 2 values are NaN"):
        bring_in(tmp_path, source)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def create(:\n", "net.py:1: cannot be imported: SyntaxError"),
        ("import nothing_of_the_kind\n", "net.py:1: cannot be imported: ModuleNotFoundError"),
        ("def creat():\n    pass\n", "net.py has no function 'create'. Did you mean 'creat'?"),
        ("def create():\n    return 1\n", "net:create returned int, not an nn.Module."),
        ("def create():\n    return [][1]\n", "net.py:2: net:create failed: IndexError"),
    ],
)
def test_broken_factory_names_the_line(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        bring_in(tmp_path, write(tmp_path, code))
    assert message in str(caught.value)


def test_missing_module_suggests_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    with pytest.raises(ModelError, match=r"Did you mean 'net'\?"):
        bring_in(tmp_path, ModelSource(factory="nett:create"))


def test_factory_without_a_function_is_a_mistake_in_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="should be 'module:function'"):
        bring_in(tmp_path, ModelSource(factory="net"))


def test_value_that_depends_on_the_data_names_operator_and_line(tmp_path: Path) -> None:
    code = GOOD.replace(
        "return self.head(x.flatten(1))",
        "y = x.nonzero()\n        return self.head(x.flatten(1)) * len(y)",
    )
    with pytest.raises(ExportError) as caught:
        bring_in(tmp_path, write(tmp_path, code))
    line = code.splitlines().index("        y = x.nonzero()") + 1
    assert caught.value.where in {f"net.py:{line}", f"net.py:{line + 1}"}
    assert "cannot be exported" in str(caught.value)


def test_branch_on_the_data_names_the_line(tmp_path: Path) -> None:
    code = GOOD.replace(
        "return self.head(x.flatten(1))",
        "if x.sum() > 0:\n            x = -x\n        return self.head(x.flatten(1))",
    )
    with pytest.raises(ExportError) as caught:
        bring_in(tmp_path, write(tmp_path, code))
    line = code.splitlines().index("        if x.sum() > 0:") + 1
    assert caught.value.where == f"net.py:{line}"


def test_wrong_number_of_outputs_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"returns \(2, 3\) for 2 samples"):
        bring_in(tmp_path, write(tmp_path, GOOD.replace("64, 2", "64, 3")))


def test_program_comes_in_without_any_code(tmp_path: Path) -> None:
    contract = Contract(
        input_shape=(1, 28, 28),
        source=GRAY,
        full_scale=255.0,
        mean=(0.0,),
        std=(1.0,),
        activation=Activation.SOFTMAX,
        labels=("no", "yes"),
    )
    network = seeded(Residual)
    torch.export.save(program.export(network, (1, 28, 28)), tmp_path / "n.pt2")
    model = bring_in(tmp_path, ModelSource(program=tmp_path / "n.pt2"), contract)
    samples = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(program.load(model.program)(samples), network(samples))


def test_program_with_a_fixed_batch_says_how_to_export_it(tmp_path: Path) -> None:
    fixed = torch.export.export(torch.nn.Flatten(), (torch.zeros(1, 1, 8, 8),))
    torch.export.save(fixed, tmp_path / "n.pt2")
    with pytest.raises(ModelError, match="takes batches of exactly 1"):
        bring_in(tmp_path, ModelSource(program=tmp_path / "n.pt2"))


def test_missing_checkpoint_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").touch()
    source = write(tmp_path, GOOD).model_copy(update={"checkpoint": tmp_path / "weight.pt"})
    with pytest.raises(ModelError, match=r"Did you mean 'weights\.pt'\?"):
        bring_in(tmp_path, source)


def test_comment_in_the_code_moves_the_lines_and_nothing_else(tmp_path: Path) -> None:
    """What is trained and pruned does not depend on where a line stands."""
    source, cache = write(tmp_path, GOOD), Cache(tmp_path / "cache")
    before = cache.run(import_model, sources.resolve(source, tmp_path), CONTRACT, 0)
    write(tmp_path, "# a comment\n" + GOOD)
    after = cache.run(import_model, sources.resolve(source, tmp_path), CONTRACT, 0)
    assert [use.where for use in before.operators] != [use.where for use in after.operators]
    assert by_content(before.model) == by_content(after.model)
