"""What a user sees who makes a mistake: one readable message, and nothing half-written."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from packager import cli
from packager.errors import (
    ConfigError,
    DataError,
    ExportError,
    ModelError,
    StorageError,
    UnsupportedOperatorError,
)

# torch.export makes it for any network with batch statistics.
pytestmark = pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")

RECIPE = """\
name = "small"
targets = ["cortex-m4-tflm"]

[model]
factory = "net:create"
checkpoint = "weights.safetensors"

[contract]
input_shape = [1, 16, 16]
source = { kind = "image", colour = "gray", bits = 8 }
full_scale = 255
mean = [0.5]
std = [0.25]
activation = "softmax"
labels = ["cyst", "solid"]

[data]
source = "arrays"
finetune = "finetune.npz"
validation = "validation.npz"
calibration = "calibration.npz"
evaluation = "evaluation.npz"
origin = "drawn for a test"
simulated = true

[prune]
method = "none"

[finetune]
epochs = 1
patience_epochs = 1
batch_size = 8
learning_rate = 0.001

[limits]
min_agreement_ratio = 0.5
max_accuracy_drop = 0.5
max_auroc_drop = 0.5
min_sqnr_db = 5.0
undecided = "accept"
"""
NETWORK = """\
from torch import nn


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, 2)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = self.conv(x).relu()
        return self.head(x.mean((2, 3)))


def create():
    return Small()
"""
SPLITS = ("finetune", "validation", "calibration", "evaluation")
TIMEOUT_S = 180


@dataclass(frozen=True, kw_only=True)
class Project:
    """A user's folder."""

    folder: Path

    @property
    def command(self) -> list[str]:
        places = {"--out": "out", "--cache": "cache"}
        given = [
            text for option, name in places.items() for text in (option, str(self.folder / name))
        ]
        return ["build", str(self.folder / "packager.toml"), *given]

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def save(self, split: str, frames: object, labels: object) -> None:
        np.savez(
            self.folder / f"{split}.npz",
            frames=np.asarray(frames, np.uint8),
            labels=np.asarray(labels, np.int64),
        )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(folder=tmp_path)
    (tmp_path / "packager.toml").write_text(RECIPE)
    (tmp_path / "net.py").write_text(NETWORK)
    network = nn.ModuleDict({"conv": nn.Conv2d(1, 8, 3, 2), "head": nn.Linear(8, 2)})
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    rng = np.random.default_rng(0)
    for split in SPLITS:
        project.save(split, rng.integers(0, 255, (8, 16, 16)), np.arange(8) % 2)
    return project


Mistake = Callable[[Project], None]


def mistyped_key(project: Project) -> None:
    project.edit("packager.toml", "patience_epochs", "patience_epoch")


def mistyped_target(project: Project) -> None:
    project.edit("packager.toml", "cortex-m4-tflm", "cortex-m4-tfml")


def mistyped_split_file(project: Project) -> None:
    project.edit("packager.toml", "calibration.npz", "callibration.npz")


def mistyped_checkpoint(project: Project) -> None:
    project.edit("packager.toml", "weights.safetensors", "weight.safetensors")


def mistyped_module(project: Project) -> None:
    project.edit("packager.toml", "net:create", "nett:create")


def no_toml(project: Project) -> None:
    project.edit("packager.toml", "[prune]", "[prune")


def weights_of_another_network(project: Project) -> None:
    project.edit("net.py", "nn.Conv2d(1, 8, 3, 2)", "nn.Conv2d(1, 8, 5, 2)")


def nan_weight(project: Project) -> None:
    network = nn.ModuleDict({"conv": nn.Conv2d(1, 8, 3, 2), "head": nn.Linear(8, 2)})
    state = network.state_dict()
    state["conv.bias"][3] = float("nan")
    save_file(state, project.folder / "weights.safetensors")


def branch_on_data(project: Project) -> None:
    project.edit(
        "net.py", "x = self.conv(x).relu()", "x = self.conv(x)\n        if x.max() > 1: x = x * 2"
    )


def calibration_of_another_shape(project: Project) -> None:
    project.save("calibration", np.zeros((8, 20, 16)), np.arange(8) % 2)


def no_sample(project: Project) -> None:
    project.save("evaluation", np.zeros((0, 16, 16)), np.zeros(0))


def one_label_only(project: Project) -> None:
    project.save("evaluation", np.random.default_rng(7).integers(0, 255, (8, 16, 16)), np.ones(8))


def same_frames_twice(project: Project) -> None:
    (project.folder / "evaluation.npz").write_bytes((project.folder / "finetune.npz").read_bytes())


def detector(project: Project) -> None:
    boxes = (
        'boxes = { candidates = 5, form = "corners", min_score = 0.5, '
        "max_overlap_ratio = 0.5, max_boxes = 3 }"
    )
    project.edit("packager.toml", "[data]", f"{boxes}\n\n[data]")


def cache_is_a_file(project: Project) -> None:
    (project.folder / "cache").write_text("mine")


MISTAKES: list[tuple[Mistake, int, str]] = [
    (
        mistyped_key,
        ConfigError.exit_code,
        (
            "{folder}/packager.toml.finetune.patience_epoch: unknown key. "
            "Did you mean 'patience_epochs'?"
        ),
    ),
    (
        mistyped_target,
        ConfigError.exit_code,
        "targets: no target 'cortex-m4-tfml'. Did you mean 'cortex-m4-tflm'?",
    ),
    (
        mistyped_split_file,
        DataError.exit_code,
        (
            "data.calibration: {folder}/callibration.npz is not there. "
            "Did you mean 'calibration.npz'?"
        ),
    ),
    (
        mistyped_checkpoint,
        ModelError.exit_code,
        (
            "model.checkpoint: {folder}/weight.safetensors is not there. "
            "Did you mean 'weights.safetensors'?"
        ),
    ),
    (
        mistyped_module,
        ModelError.exit_code,
        (
            "model.factory: there is no module 'nett' in {folder} or among the installed packages. "
            "Did you mean 'net'?"
        ),
    ),
    (
        no_toml,
        ConfigError.exit_code,
        (
            "{folder}/packager.toml: is not valid TOML: Expected ']' at the end of a table "
            "declaration (at line 26, column 7)."
        ),
    ),
    (
        weights_of_another_network,
        ModelError.exit_code,
        (
            "{folder}/weights.safetensors: conv.weight is (8, 1, 3, 3), the network's is "
            "(8, 1, 5, 5)."
        ),
    ),
    (
        nan_weight,
        ModelError.exit_code,
        (
            "model.conv.bias: 1 of 8 values are NaN or infinite. Training diverged, or the file is "
            "damaged."
        ),
    ),
    (
        branch_on_data,
        ExportError.exit_code,
        "net.py:12: 'if x.max() > 1: x = x * 2' cannot be exported. ",
    ),
    (
        calibration_of_another_shape,
        DataError.exit_code,
        (
            "data.calibration: sample 0: the frame is 20 by 16 pixels, the contract wants 16 by 16. "
            "Give frames of that size, or add [contract.resize]."
        ),
    ),
    (
        no_sample,
        DataError.exit_code,
        "data.evaluation: has no sample. Give some, or take them from another split.",
    ),
    (
        one_label_only,
        DataError.exit_code,
        "data.evaluation: all samples are 'solid'; there is no 'cyst'. Add some.",
    ),
    (
        same_frames_twice,
        DataError.exit_code,
        (
            "data: samples in both finetune and evaluation: 8 (first: finetune[0] = evaluation[0]). "
            "Each sample has one use: remove it from all splits but one."
        ),
    ),
    (
        detector,
        ConfigError.exit_code,
        (
            "contract.boxes: answers of this kind cannot be judged by a build yet, only written as "
            "code. Take the table out and build a classifier, or use `packager.codegen`."
        ),
    ),
    (cache_is_a_file, StorageError.exit_code, "{folder}/cache: "),
]


@pytest.mark.parametrize(
    ("mistake", "exit_code", "message"), MISTAKES, ids=[m.__name__ for m, _, _ in MISTAKES]
)
def test_a_mistake_is_one_message_with_its_exit_code_and_writes_nothing(
    mistake: Mistake, exit_code: int, message: str, project: Project
) -> None:
    mistake(project)
    result = CliRunner().invoke(cli.app, project.command)
    assert result.stderr.startswith("error: " + message.format(folder=project.folder))
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (exit_code, "", 1)
    assert "Traceback" not in result.stderr
    assert not (project.folder / "out").exists()
    assert half_written(project.folder) == []


def half_written(folder: Path) -> list[Path]:
    """Return what only a step that did not end leaves behind."""
    return sorted(folder.rglob("*.work"))


def test_an_operator_that_the_runtime_lacks_is_named_with_its_line_and_leaves_the_report(
    project: Project,
) -> None:
    project.edit("net.py", "x = self.conv(x).relu()", "x = nn.functional.gelu(self.conv(x))")
    result = CliRunner().invoke(cli.app, project.command)
    assert result.exit_code == UnsupportedOperatorError.exit_code
    last = result.stderr.splitlines()[-1]
    assert re.match(r"error: net\.py:11: tflite-micro has no aten\.gelu\.default\. .*gelu-to", last)
    assert "no bundle: UnsupportedOperatorError" in result.stdout
    names = sorted(path.name for path in (project.folder / "out").iterdir())
    assert names == ["build.json", "report.html"]


def test_a_disk_that_takes_no_more_is_a_message_and_leaves_no_part(project: Project) -> None:
    # Python ignores the signal that comes with it, so a write past the limit just fails.
    limited = f"ulimit -f 1; exec {sys.executable} -m packager {' '.join(project.command)}"
    result = subprocess.run(
        ["bash", "-c", limited], check=False, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert result.returncode == StorageError.exit_code
    assert result.stderr == (
        f"error: {project.folder}/cache: File too large. Free some space or name another folder, "
        "then run the same command again.\n"
    )
    assert not (project.folder / "out").exists()
    assert half_written(project.folder) == []


def interrupted_during(step: str, project: Project) -> tuple[int, list[str]]:
    """Press Ctrl-C while a step is under way.

    Returns:
        The exit code, and the lines that were printed to stderr.
    """
    log = project.folder / "stderr.log"
    with log.open("w") as stream:
        # The tests may run where a shell has the signal ignored, as in the background.
        heard = ["env", "--default-signal=INT", sys.executable, "-m", "packager"]
        command = [*heard, *project.command]
        # Where the tests run in the background, their children would ignore Ctrl-C.
        attentive = ["env", "--default-signal=INT", *command]
        process = subprocess.Popen(attentive, stderr=stream, start_new_session=True)
    deadline = time.monotonic() + TIMEOUT_S
    while not list((project.folder / "cache").glob(f"*{step}-*.work")):
        assert time.monotonic() < deadline
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    # A terminal sends it to all processes that the command started.
    os.killpg(process.pid, signal.SIGINT)
    process.wait(TIMEOUT_S)
    while is_alive(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process.returncode, log.read_text().splitlines()


def is_alive(group: int) -> bool:
    """Tell whether a process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("step", ["finetune", "convert"])
def test_ctrl_c_is_one_line_and_leaves_no_process_and_no_half_of_a_result(
    step: str, project: Project
) -> None:
    if step == "finetune":
        for key in ("epochs", "patience_epochs"):
            project.edit("packager.toml", f"\n{key} = 1\n", f"\n{key} = 9999\n")
    code, lines = interrupted_during(step, project)
    assert code == cli.INTERRUPTED
    tasks = ("fine-tune: ", "targets: ")
    assert [line for line in lines if not line.startswith(tasks)] == [
        "error: stopped. Finished steps are kept; run the same command to go on."
    ]
    assert not (project.folder / "out").exists()


def test_a_reader_that_has_left_is_no_error() -> None:
    command = f"{sys.executable} -m packager targets --json | head -c 1; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("[", "")
    assert result.returncode in {0, cli.PIPE_CLOSED}
