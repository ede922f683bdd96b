from pathlib import Path
from typing import Any

import pytest

from packager import recipe as recipes
from packager.contract import Activation, Contract
from packager.errors import ConfigError
from packager.recipe import ArrayData, Recipe
from packager.strict_toml import validate
from tests.contracts import GRAY
from tests.recipe_example import RECIPE, tables


def write(folder: Path, text: str) -> Path:
    path = folder / "packager.toml"
    path.write_text(text)
    return path


def mistake(table: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(Recipe, table, "packager.toml")
    return str(caught.value)


def test_relative_paths_start_at_the_recipe(tmp_path: Path) -> None:
    recipe = recipes.load(write(tmp_path, RECIPE))
    assert recipe.folder == tmp_path
    assert recipe.model.checkpoint == tmp_path / "weights.safetensors"
    assert isinstance(recipe.data, ArrayData)
    assert recipe.data.evaluation == tmp_path / "evaluation.npz"


def test_absolute_path_stays(tmp_path: Path) -> None:
    text = RECIPE.replace("weights.safetensors", "/models/weights.safetensors")
    assert recipes.load(write(tmp_path, text)).model.checkpoint == Path(
        "/models/weights.safetensors"
    )


def test_home_in_a_path_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    text = RECIPE.replace("weights.safetensors", "~/weights.safetensors")
    assert recipes.load(write(tmp_path, text)).model.checkpoint == Path(
        "/home/someone/weights.safetensors"
    )


def test_folder_moves_where_paths_start(tmp_path: Path) -> None:
    recipe = recipes.load(write(tmp_path, f'folder = "models"\n{RECIPE}'))
    assert recipe.folder == tmp_path / "models"
    assert recipe.model.checkpoint == tmp_path / "models" / "weights.safetensors"


def test_taste_has_defaults() -> None:
    recipe = validate(Recipe, tables(), "packager.toml")
    assert (recipe.compute.seed, recipe.compute.threads, recipe.compute.device) == (0, 1, "cpu")
    assert recipe.convert.rewrites == ()
    assert recipe.finetune.distillation == "teacher"
    assert recipe.limits.allowed_fallbacks == ()


def test_table_describes_the_contract() -> None:
    recipe = validate(Recipe, tables(), "packager.toml")
    assert recipe.contract == Contract(
        input_shape=(1, 48, 48),
        source=GRAY,
        full_scale=255.0,
        mean=(0.5,),
        std=(0.25,),
        activation=Activation.SOFTMAX,
        labels=("cyst", "solid"),
    )


def test_same_target_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, RECIPE.replace("android-arm64-executorch", "cortex-m4-tflm"))
    with pytest.raises(ConfigError) as caught:
        recipes.load(path)
    assert str(caught.value) == f"{path}.targets: 'cortex-m4-tflm' is listed twice."


TRAIN = {"epochs": 1, "patience_epochs": 1, "batch_size": 1, "learning_rate": 0.1}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"model": {}},
            "packager.toml.model: give either 'factory' or 'program'.",
        ),
        (
            {"model": {"factory": "a:b", "program": "a.pt2"}},
            "packager.toml.model: give either 'factory' or 'program'.",
        ),
        (
            {"model": {"program": "a.pt2", "checkpoint": "a.safetensors"}},
            (
                "packager.toml.model: 'checkpoint' goes with 'factory'; a program holds its own "
                "weights."
            ),
        ),
        (
            {"model": {"factory": "a:b"}},
            "packager.toml: a factory needs either model.checkpoint or a [train] table, not both.",
        ),
        (
            {"train": TRAIN},
            "packager.toml: a factory needs either model.checkpoint or a [train] table, not both.",
        ),
    ],
)
def test_model_comes_from_one_place(table: dict[str, Any], message: str) -> None:
    assert mistake(tables() | table) == message


@pytest.mark.parametrize("model", [{"factory": "a:b"}, {"program": "a.pt2"}])
def test_program_needs_no_training_and_an_untrained_factory_does(model: dict[str, str]) -> None:
    train = {"train": TRAIN} if "factory" in model else {}
    recipe = validate(Recipe, tables() | {"model": model} | train, "packager.toml")
    assert (recipe.train is None) == ("program" in model)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"mean": [0.5, 0.5]}, "'mean' and 'std' need 1 values, one for each channel."),
        ({"std": []}, "'mean' and 'std' need 1 values, one for each channel."),
        ({"labels": ["cyst", "cyst"]}, "'labels' names one of them twice."),
        (
            {"activation": "sigmoid", "labels": ["a", "b", "c"]},
            "'sigmoid' needs exactly two labels.",
        ),
    ],
)
def test_contract_must_agree_with_itself(change: dict[str, Any], problem: str) -> None:
    table = tables()
    table["contract"] |= change
    assert mistake(table) == f"packager.toml.contract: {problem}"


@pytest.mark.parametrize(
    "key",
    ["min_agreement_ratio", "max_accuracy_drop", "max_auroc_drop", "min_sqnr_db", "undecided"],
)
def test_no_limit_has_a_default(key: str) -> None:
    table = tables()
    del table["limits"][key]
    assert mistake(table).startswith(f"packager.toml.limits.{key}: required key is missing.")
