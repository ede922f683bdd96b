"""The main job, whole: from a recipe to bundles and a report, with the real frameworks."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from packager import pipeline, target
from packager.built import Built
from packager.errors import BudgetError, ConfigError, ParityError
from packager.recipe import Recipe, load
from tests.conftest import require_package

RECIPE = """
name = "small"
targets = ["android-arm64-executorch", "cortex-m4-tflm", "ultrasound-handheld-arm64"]

[model]
factory = "net:create"

[contract]
input_shape = [1, 16, 16]
source = { kind = "image", colour = "gray", bits = 8 }
full_scale = 255.0
mean = [0.3]
std = [0.2]
activation = "softmax"
labels = ["cyst", "solid"]

[data]
source = "phantom"
finetune_samples = 96
validation_samples = 32
calibration_samples = 8
evaluation_samples = 64

[train]
epochs = 4
patience_epochs = 4
batch_size = 16
learning_rate = 0.01

[prune]
method = "structured"
macs_ratio = 0.7

[finetune]
epochs = 4
patience_epochs = 4
batch_size = 16
learning_rate = 0.01

[limits]
min_agreement_ratio = 0.5
max_accuracy_drop = 0.5
max_auroc_drop = 0.5
min_sqnr_db = 5.0
undecided = "accept"
"""
NETWORK = """
from torch import nn

def create():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2),
    )
"""
BUNDLES = ["android-arm64-executorch.zip", "cortex-m4-tflm.zip", "ultrasound-handheld-arm64.zip"]


@dataclass(frozen=True, kw_only=True)
class Project:
    """A user's folder, built once for all tests of this module."""

    folder: Path
    recipe: Recipe
    built: Built

    def rebuild(self, out: str, recipe: Recipe) -> Built:
        return pipeline.build(recipe, out=self.folder / out, cache_root=self.folder / "cache")


def write_project(folder: Path) -> Recipe:
    folder.mkdir(exist_ok=True)
    (folder / "packager.toml").write_text(RECIPE)
    (folder / "net.py").write_text(NETWORK)
    return load(folder / "packager.toml")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    for module, extra in (
        ("executorch", "android"),
        ("litert_torch", "litert"),
        ("tflite_micro", "micro"),
    ):
        require_package(module, extra)
    folder = tmp_path_factory.mktemp("project")
    recipe = write_project(folder)
    built = pipeline.build(recipe, out=folder / "out", cache_root=folder / "cache")
    return Project(folder=folder, recipe=recipe, built=built)


def test_each_target_gets_a_bundle_and_the_build_a_report(project: Project) -> None:
    names = sorted(path.name for path in (project.folder / "out").iterdir())
    assert names == sorted([*BUNDLES, "build.json", "evidence", "report.html"])
    assert [result.failure for result in project.built.targets] == [None, None, None]


def test_each_program_runs_on_its_own_runtime(project: Project) -> None:
    runtimes = [
        r.parity.runtime.partition(" 0.")[0].partition(" 1.")[0].partition(" 2.")[0]
        for r in project.built.targets
        if r.parity
    ]
    assert runtimes == ["ExecuTorch", "TensorFlow Lite Micro", "LiteRT"]


def test_second_build_reuses_every_step(project: Project) -> None:
    again = project.rebuild("out", project.recipe)
    visits = [*again.visits, *(v for result in again.targets for v in result.visits)]
    assert [v for v in visits if not v.reused] == []
    assert len(visits) == 6 + 3 * 5


def test_second_build_loads_no_framework(project: Project, tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from packager import build, load_recipe
folder = Path({str(project.folder)!r})
if __name__ == "__main__":
    build(load_recipe(folder / "packager.toml"), out=folder / "out3", cache_root=folder / "cache")
    heavy = {{"torch", "executorch", "litert_torch", "sklearn"}} & set(sys.modules)
    sys.exit(f"loaded {{heavy}}" if heavy else 0)
"""
    script = tmp_path / "again.py"
    script.write_text(code)
    subprocess.run([sys.executable, str(script)], check=True, timeout=120)


def test_same_inputs_give_the_same_bytes_in_another_folder(
    project: Project, tmp_path: Path
) -> None:
    recipe = write_project(tmp_path / "elsewhere")
    pipeline.build(recipe, out=tmp_path / "out", cache_root=tmp_path / "cache")
    for name in BUNDLES:
        first, second = project.folder / "out" / name, tmp_path / "out" / name
        assert first.read_bytes() == second.read_bytes(), name


def test_no_bundle_holds_a_path_of_this_machine(project: Project) -> None:
    import zipfile

    for name in BUNDLES:
        with zipfile.ZipFile(project.folder / "out" / name) as archive:
            content = b"".join(archive.read(member) for member in archive.namelist())
        assert str(project.folder).encode() not in content, name
        assert str(Path(sys.prefix)).encode() not in content, name


def test_one_target_can_be_built_alone(project: Project) -> None:
    out = project.folder / "one"
    built = pipeline.build(
        project.recipe, out=out, cache_root=project.folder / "cache", only=("cortex-m4-tflm",)
    )
    assert [result.target.name for result in built.targets] == ["cortex-m4-tflm"]
    assert sorted(path.name for path in out.glob("*.zip")) == ["cortex-m4-tflm.zip"]


def test_target_outside_the_recipe_is_refused(project: Project) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'cortex-m4-tflm'"):
        pipeline.build(
            project.recipe,
            out=project.folder / "no",
            cache_root=project.folder / "cache",
            only=("cortex-m5-tflm",),
        )


def test_stricter_limit_judges_again_and_runs_nothing(project: Project) -> None:
    """A breach leaves the report, and takes away the bundle that an earlier build left."""
    out = project.folder / "strict"
    project.rebuild("strict", project.recipe)
    assert len(list(out.glob("*.zip"))) == 3
    limits = project.recipe.limits.model_copy(update={"min_sqnr_db": 200.0})
    strict = project.recipe.model_copy(update={"limits": limits})
    with pytest.raises(ParityError) as caught:
        project.rebuild("strict", strict)
    assert caught.value.exit_code == 5
    assert "SQNR >= 200.0 dB: breached" in str(caught.value)
    assert list(out.glob("*.zip")) == []
    assert "200.0 dB" in (out / "report.html").read_text()
    recorded = json.loads((out / "build.json").read_text())
    visits = recorded["visits"] + [v for r in recorded["targets"] for v in r["visits"]]
    assert all(visit["reused"] for visit in visits)


def test_program_larger_than_the_flash_stops_its_bundle_only(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = (target.default_root() / "cortex-m4-tflm" / "target.toml").read_text()
    android = (target.default_root() / "android-arm64-executorch" / "target.toml").read_text()
    for name, text in (
        ("tiny", profile.replace("cortex-m4-tflm", "tiny").replace("1_048_576", "2_048")),
        ("android-arm64-executorch", android),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "target.toml").write_text(text)
    # Workers are new processes, which read the environment and not this monkeypatch; the
    # profiles are read before they start.
    monkeypatch.setattr(target, "default_root", lambda: tmp_path)
    recipe = project.recipe.model_copy(update={"targets": ("tiny", "android-arm64-executorch")})
    with pytest.raises(BudgetError, match=r"tiny: program is .* over the limit of 2,048"):
        pipeline.build(recipe, out=tmp_path / "out", cache_root=project.folder / "cache")
    assert [p.name for p in (tmp_path / "out").glob("*.zip")] == ["android-arm64-executorch.zip"]


def test_changed_setting_says_why_the_step_ran_again(project: Project) -> None:
    finetune = project.recipe.finetune.model_copy(update={"learning_rate": 0.02})
    changed = project.recipe.model_copy(update={"finetune": finetune})
    built = project.rebuild("changed", changed)
    ran = {visit.step: visit.reason for visit in built.visits if not visit.reused}
    assert set(ran) == {"finetune", "predict"}
    assert "learning_rate: 0.01 -> 0.02" in ran["finetune"]


def test_killed_build_leaves_nothing_half_written_and_the_next_one_works(tmp_path: Path) -> None:
    write_project(tmp_path / "p")
    places = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    command = [
        sys.executable,
        "-m",
        "packager",
        "build",
        str(tmp_path / "p" / "packager.toml"),
        *places,
    ]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    # Wait until the workers convert: the most that can be half-written.
    while not list((tmp_path / "cache").glob("predict-*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.zip"))
    finished = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert sorted(p.name for p in (tmp_path / "out").glob("*.zip")) == BUNDLES
    assert [p.name for p in (tmp_path / "out").iterdir() if p.name.startswith(".")] == []
