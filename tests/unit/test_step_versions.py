"""A step whose code changed must say whether its results did, or stale ones would be served."""

import hashlib
import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any

import pytest

import packager.stages
from packager.cache import Step
from tests.conftest import REPOSITORY
from tests.first_party import closure, imports_at_once, imports_of, source_of

GOLDEN = REPOSITORY / "tests" / "golden" / "step_versions.json"
FRAMEWORKS = {
    "ai_edge_litert", "ai_edge_quantizer", "executorch", "jax", "litert_torch", "matplotlib",
    "pooch", "scipy", "sklearn", "tflite_micro", "torch", "torch_pruning", "torchao",
}  # fmt: skip
# What carries values, keeps or words them, and computes none: a result cannot depend on it.
NEUTRAL = {
    f"packager{name}"
    for name in (
        "", ".artifacts", ".built", ".cache", ".doctor", ".errors", ".progress", ".recipe",
        ".storage", ".strict_toml", ".target", ".verdicts", ".workers",
    )
}  # fmt: skip


def steps() -> dict[str, Step[Any, Any]]:
    """Return the steps of every module of packager.stages, by the module's name."""
    names = [info.name for info in pkgutil.iter_modules(packager.stages.__path__)]
    found: dict[str, Step[Any, Any]] = {}
    for name in names:
        module = importlib.import_module(f"packager.stages.{name}")
        (found[name],) = [value for value in vars(module).values() if isinstance(value, Step)]
    return found


def rests_on(step: Step[Any, Any]) -> dict[str, str]:
    """Return the digest of each module that the step's result may depend on."""
    modules = closure({step.run.__module__}, lambda m: imports_of(m) - NEUTRAL)
    sources = {module: source_of(module) for module in sorted(modules)}
    return {module: _digest(source) for module, source in sources.items() if source}


def _digest(source: Path) -> str:
    return hashlib.sha256(source.read_bytes()).hexdigest()[:16]


def test_changed_step_says_whether_its_results_did(request: pytest.FixtureRequest) -> None:
    now = {
        name: {"version": step.version, "rests_on": rests_on(step)}
        for name, step in steps().items()
    }
    if request.config.getoption("--update-goldens"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(now, indent=2) + "\n")
    known = json.loads(GOLDEN.read_text())
    changed = sorted(name for name in {*now, *known} if now.get(name) != known.get(name))
    assert not changed, (
        f"The code behind the steps {changed} changed. Where the same inputs may now give "
        "another result, raise the step's version; then run pytest --update-goldens."
    )


def test_step_rests_on_what_it_imports_inside_functions() -> None:
    # The conversion of one format is imported when it is needed, and still counts.
    found = rests_on(steps()["parity"])
    assert {"packager.stages.parity", "packager.parity.statistics", "packager.contract"} <= set(
        found
    )
    assert {"packager.runtimes.litert", "packager.runtimes.tflite_micro"} <= set(found)
    assert not NEUTRAL & set(found)


def test_every_step_is_named_after_its_stage() -> None:
    assert {name: step.name for name, step in steps().items()} == {n: n for n in steps()}


def test_every_step_returns_a_value_that_can_be_kept() -> None:
    for name, step in steps().items():
        assert step.result_type.__module__ == "packager.artifacts", name


@pytest.mark.parametrize("start", ["packager", "packager.cli", "packager.pipeline"])
def test_a_build_that_finds_all_in_the_cache_imports_no_framework(start: str) -> None:
    reached = closure({start}, imports_at_once)
    heavy = {
        module: FRAMEWORKS & {name.partition(".")[0] for name in imports_at_once(module)}
        for module in reached
    }
    assert {module: names for module, names in heavy.items() if names} == {}
