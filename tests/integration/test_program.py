"""Networks survive the trip to a program and back, and a hostile program does not run."""

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from packager import program
from packager.artifacts import File
from packager.errors import ModelError
from tests.networks import INPUT_SHAPES, Flattened, Recurrent, Residual, seeded

# The LSTM's flat weights are reassigned while it is traced; PyTorch warns of its own doing.
pytestmark = pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")
every_network = pytest.mark.parametrize("kind", INPUT_SHAPES, ids=lambda kind: kind.__name__)


@every_network
def test_loaded_network_answers_as_the_saved_one(kind: type[nn.Module], tmp_path: Path) -> None:
    network, shape = seeded(kind), INPUT_SHAPES[kind]
    loaded = program.load(program.save(network, tmp_path / "n.pt2", shape))
    samples = torch.randn(5, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(loaded(samples), network(samples))


@every_network
def test_same_network_gives_the_same_bytes(kind: type[nn.Module], tmp_path: Path) -> None:
    shape = INPUT_SHAPES[kind]
    first = program.save(seeded(kind), tmp_path / "a.pt2", shape)
    (tmp_path / "elsewhere").mkdir()
    second = program.save(seeded(kind), tmp_path / "elsewhere" / "b.pt2", shape)
    assert first.sha256 == second.sha256


def test_program_holds_no_source_path(tmp_path: Path) -> None:
    saved = program.save(seeded(Residual), tmp_path / "n.pt2", (1, 28, 28))
    content = saved.path.read_bytes()
    assert b"networks.py" not in content
    assert str(Path(__file__).parent.parent).encode() not in content


def test_layers_get_their_modules_and_names_back(tmp_path: Path) -> None:
    loaded = program.load(program.save(seeded(Residual), tmp_path / "n.pt2", (1, 28, 28)))
    assert {name: type(layer).__name__ for name, layer in loaded.named_children()} == {
        "stem": "Conv2d",
        "norm0": "BatchNorm2d",
        "conv1": "Conv2d",
        "norm1": "BatchNorm2d",
        "conv2": "Conv2d",
        "norm2": "BatchNorm2d",
        "head": "Linear",
    }


def test_batch_norm_learns_again_in_train_mode(tmp_path: Path) -> None:
    loaded = program.load(program.save(seeded(Residual), tmp_path / "n.pt2", (1, 28, 28)))
    before = loaded.get_buffer("norm0.running_mean").clone()
    loaded.train()(torch.ones(4, 1, 28, 28))
    assert not torch.equal(loaded.get_buffer("norm0.running_mean"), before)


def test_view_with_a_baked_size_becomes_a_flatten(tmp_path: Path) -> None:
    loaded = program.load(program.save(seeded(Flattened), tmp_path / "n.pt2", (3, 32, 32)))
    targets = [node.target for node in loaded.graph.nodes if node.op == "call_function"]
    assert torch.ops.aten.flatten.using_ints in targets
    assert torch.ops.aten.view.default not in targets


def test_shared_weights_stay_shared(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.layer(self.layer(x)))

    loaded = program.load(program.save(Twice().eval(), tmp_path / "n.pt2", (4,)))
    assert [name for name, _ in loaded.named_children()] == ["layer"]


def test_cost_of_a_convolution_is_counted_by_hand() -> None:
    # 8 x 8 outputs x 4 channels x 3 x 3 kernel x 2 input channels, then 4 x 3 for the head.
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    counted = program.cost(network, (2, 8, 8))
    assert (counted.macs, counted.parameters) == (64 * 4 * 18 + 12, 72 + 15)
    assert counted.sparsity_ratio == 0.0


def test_operators_name_the_line_of_the_users_code() -> None:
    used = program.operators(program.export(seeded(Residual), (1, 28, 28)))
    source = (Path(__file__).parent.parent / "networks.py").read_text().splitlines()
    line = next(i for i, text in enumerate(source, 1) if "self.norm0(self.stem(x))" in text)
    assert [(u.operator, u.where, u.dims) for u in used[:2]] == [
        ("aten.conv2d.default", f"networks.py:{line}", 4),
        ("aten.batch_norm.default", f"networks.py:{line}", 4),
    ]


def test_nan_weight_is_named() -> None:
    network = seeded(Residual)
    network.get_parameter("conv1.weight").data[0, 0, 0, 0] = float("nan")
    with pytest.raises(ModelError) as caught:
        program.require_finite(network)
    assert str(caught.value).startswith("model.conv1.weight: 1 of 2304 values are NaN or infinite.")


def test_several_outputs_are_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + 1, x + 2

    with pytest.raises(ModelError, match="has 2 outputs"):
        program.to_module(program.export(Two(), (4,)))


class Harm:
    """Pickles to a call that creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self.path),))


@pytest.fixture
def honest(tmp_path: Path) -> Path:
    return program.save(seeded(Recurrent), tmp_path / "honest.pt2", (20, 8)).path


def rewritten(honest: Path, member: str, content: bytes) -> File:
    """Return a copy of an archive with one member replaced or added."""
    hostile = honest.with_name("hostile.pt2")
    with zipfile.ZipFile(honest) as old, zipfile.ZipFile(hostile, "w") as new:
        names = [n for n in old.namelist() if n.partition("/")[2] != member]
        for name in names:
            new.writestr(name, old.read(name))
        new.writestr(f"{names[0].partition('/')[0]}/{member}", content)
    return File.of(hostile)


def edited(honest: Path, member: str, old: str, new: str) -> File:
    """Return a copy of an archive with a text replaced in one of its descriptions."""
    with zipfile.ZipFile(honest) as archive:
        name = next(n for n in archive.namelist() if n.endswith(member))
        text = archive.read(name).decode()
    assert old in text
    return rewritten(honest, member, text.replace(old, new).encode())


def test_pickled_weights_are_refused_unread(honest: Path, tmp_path: Path) -> None:
    harmed = tmp_path / "harmed"
    config = "data/weights/model_weights_config.json"
    with zipfile.ZipFile(honest) as archive:
        name = next(n for n in archive.namelist() if n.endswith(config))
        table = json.loads(archive.read(name))
    entry = next(iter(table["config"].values()))
    entry["use_pickle"] = True
    hostile = rewritten(honest, config, json.dumps(table).encode())
    hostile = rewritten(
        hostile.path.rename(tmp_path / "x.pt2"), "data/weights/weight_0", pickle.dumps(Harm(harmed))
    )
    with pytest.raises(ModelError, match="holds pickled values"):
        program.load(hostile)
    assert not harmed.exists()


def test_pickled_example_inputs_are_refused_unread(honest: Path, tmp_path: Path) -> None:
    harmed = tmp_path / "harmed"
    buffer = io.BytesIO()
    torch.save(((Harm(harmed),), {}), buffer)
    with pytest.raises(ModelError, match="example inputs"):
        program.load(rewritten(honest, "data/sample_inputs/model.pt", buffer.getvalue()))
    assert not harmed.exists()


def test_compiled_library_is_refused(honest: Path) -> None:
    with pytest.raises(ModelError, match="which a plain exported program does not need"):
        program.load(rewritten(honest, "data/aotinductor/model/x.so", b"\x7fELF"))


@pytest.mark.parametrize(
    "target", ["torch.os.system", "torch.ops.evil.run.default", "_operator.call", "builtins.eval"]
)
def test_operator_outside_aten_is_refused(honest: Path, target: str) -> None:
    hostile = edited(honest, "models/model.json", "torch.ops.aten.linear.default", target)
    with pytest.raises(ModelError, match="which is no ATen operator"):
        program.load(hostile)


def test_expression_that_could_run_code_is_refused(honest: Path) -> None:
    hostile = edited(honest, "models/model.json", "Integer(16)", "__import__('os').mkdir('harmed')")
    with pytest.raises(ModelError, match="holds the expression"):
        program.load(hostile)


def test_damaged_program_is_one_readable_message(honest: Path) -> None:
    cut = honest.with_name("cut.pt2")
    cut.write_bytes(honest.read_bytes()[:-200])
    with pytest.raises(ModelError, match="is not a readable"):
        program.load(File.of(cut))
