from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from packager import strict_toml
from packager.errors import ConfigError
from packager.recipe import Recipe
from packager.strict_toml import Strict
from tests.recipe_example import RECIPE, tables

NOTHING = object()
PASSES = "Meaning: At most this many passes over the fine-tuning split."
KEPT = "Meaning: Share of the multiply-accumulates to keep."
SHAPE = "Meaning: Of one sample: [channels, height, width], or [channels, length] for a signal."


def changed(key: str, value: object) -> dict[str, Any]:
    """Return the recipe's tables with one key set, or removed."""
    *path, last = key.split(".")
    table = whole = tables()
    for name in path:
        table = table[name]
    if value is NOTHING:
        del table[last]
    else:
        table[last] = value
    return whole


def mistake(table: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        strict_toml.validate(Recipe, table, "packager.toml")
    return str(caught.value)


def test_recipe_without_mistakes_is_read() -> None:
    recipe = strict_toml.validate(Recipe, tables(), "packager.toml")
    assert recipe.contract.input_shape == (1, 48, 48)
    assert recipe.model.checkpoint == Path("weights.safetensors")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("targts", ["a"], "targts: unknown key. Did you mean 'targets'?"),
        ("prune.remove_rato", 0.5, "prune.remove_rato: unknown key. Known: macs_ratio, method."),
        ("data.orign", "x", "data.orign: unknown key. Did you mean 'origin'?"),
        ("convert", {"rewrite": []}, "convert.rewrite: unknown key. Did you mean 'rewrites'?"),
        ("limits", NOTHING, "limits: required table is missing."),
        ("data", NOTHING, "data: required table is missing."),
        ("prune.macs_ratio", NOTHING, f"prune.macs_ratio: required key is missing. {KEPT}"),
        ("prune.method", NOTHING, "prune.method: required key is missing."),
        (
            "prune.method",
            "structred",
            "prune.method: 'structred' is not known. Did you mean 'structured'?",
        ),
        (
            "data.source",
            3,
            (
                "data.source: '3' is not known. Known: arrays, images, medmnist:breastmnist, "
                "medmnist:pneumoniamnist, phantom."
            ),
        ),
        (
            "contract.activation",
            "softmx",
            "contract.activation: 'softmx' is not known. Did you mean 'softmax'?",
        ),
        ("compute", {"device": "gpu"}, "compute.device: 'gpu' is not known. Known: cpu, cuda."),
        (
            "convert",
            {"rewrites": ["fold-batchnorm"]},
            "convert.rewrites[0]: 'fold-batchnorm' is not known. Did you mean 'fold-batchnorm1d'?",
        ),
        ("finetune.epochs", "3", f"finetune.epochs: must be a whole number, not '3'. {PASSES}"),
        ("finetune.epochs", True, f"finetune.epochs: must be a whole number, not true. {PASSES}"),
        ("finetune.epochs", 3.0, f"finetune.epochs: must be a whole number, not 3.0. {PASSES}"),
        ("finetune.epochs", 2.5, f"finetune.epochs: must be a whole number, not 2.5. {PASSES}"),
        ("finetune.epochs", 0, f"finetune.epochs: must be at least 1, not 0. {PASSES}"),
        ("prune.macs_ratio", "0.5", f"prune.macs_ratio: must be a number, not '0.5'. {KEPT}"),
        ("prune.macs_ratio", True, f"prune.macs_ratio: must be a number, not true. {KEPT}"),
        ("prune.macs_ratio", 0, f"prune.macs_ratio: must be above 0, not 0. {KEPT}"),
        ("prune.macs_ratio", 1.5, f"prune.macs_ratio: must be at most 1, not 1.5. {KEPT}"),
        (
            "prune.macs_ratio",
            float("nan"),
            f"prune.macs_ratio: must be a finite number, not nan. {KEPT}",
        ),
        (
            "prune",
            {"method": "unstructured", "sparsity_ratio": 1.0},
            (
                "prune.sparsity_ratio: must be below 1, not 1.0. "
                "Meaning: Share of the weights of each layer to set to zero."
            ),
        ),
        (
            "compute",
            {"seed": 2**31},
            (
                "compute.seed: must be below 2147483648, not 2147483648. "
                "Meaning: Of everything that is drawn at random."
            ),
        ),
        (
            "data.simulated",
            "yes",
            (
                "data.simulated: must be true or false, not 'yes'. "
                "Meaning: True where no patient or device produced them."
            ),
        ),
        (
            "data.origin",
            5,
            (
                "data.origin: must be text in quotes, not 5. Meaning: Where the "
                "samples come from, with licence: it goes into report and bundle."
            ),
        ),
        ("data.finetune", ["a", "b"], "data.finetune: must be text in quotes, not a list of 2."),
        (
            "targets",
            "cortex-m4-tflm",
            (
                "targets: must be a list in brackets, not 'cortex-m4-tflm'. "
                "Meaning: Names from `packager targets`."
            ),
        ),
        ("targets", [1], "targets[0]: must be text in quotes, not 1."),
        (
            "targets",
            [],
            (
                "targets: must be a list of at least 1, not a list of 0. "
                "Meaning: Names from `packager targets`."
            ),
        ),
        (
            "contract.input_shape",
            [1, 48, 48, 3],
            f"contract.input_shape: must be a list of at most 3, not a list of 4. {SHAPE}",
        ),
        (
            "contract.input_shape",
            [1, 48, "x"],
            "contract.input_shape[2]: must be a whole number, not 'x'.",
        ),
        ("limits", 3, "limits: must be a table, not 3."),
        ("prune", "none", "prune: must be a table, not 'none'."),
        (
            "model",
            {"factory": {}},
            (
                "model.factory: must be text in quotes, not a table. Meaning: "
                "`module:function` that takes no argument and returns an `nn.Module`; the module is "
                "looked for beside the recipe first."
            ),
        ),
        (
            "name",
            "My Model",
            (
                "name: must match ^[a-z0-9][a-z0-9-]*$, not 'My Model'. "
                "Meaning: Of the model, in lower case: it names the files in the bundle."
            ),
        ),
        (
            "name",
            "M" * 80,
            (
                f"name: must match ^[a-z0-9][a-z0-9-]*$, not '{'M' * 60}...'. "
                "Meaning: Of the model, in lower case: it names the files in the bundle."
            ),
        ),
    ],
)
def test_mistake_is_named_with_its_remedy(key: str, value: object, message: str) -> None:
    assert mistake(changed(key, value)) == f"packager.toml.{message}"


def test_mistyped_key_is_named_rather_than_what_it_leaves_missing() -> None:
    table = changed("prune.macs_ratio", NOTHING)
    table["prune"]["macs_rato"] = 0.5
    assert mistake(table) == (
        "packager.toml.prune.macs_rato: unknown key. Did you mean 'macs_ratio'?"
    )


def test_whole_number_is_a_number() -> None:
    recipe = strict_toml.validate(Recipe, changed("limits.min_sqnr_db", 15), "packager.toml")
    assert recipe.limits.min_sqnr_db == 15.0


def test_date_is_refused_even_where_text_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "packager.toml"
    path.write_text(RECIPE.replace('"drawn for a test"', "2024-02-29"))
    with pytest.raises(ConfigError) as caught:
        strict_toml.load(Recipe, path)
    assert str(caught.value) == (
        f"{path}.data.origin: 2024-02-29 is a date, which no key takes. Text goes in quotes."
    )


def test_date_in_a_list_is_found(tmp_path: Path) -> None:
    path = tmp_path / "packager.toml"
    path.write_text(RECIPE.replace('["cyst", "solid"]', '["cyst", 10:00:00]'))
    with pytest.raises(ConfigError) as caught:
        strict_toml.load(Recipe, path)
    assert str(caught.value) == (
        f"{path}.contract.labels[1]: 10:00:00 is a date, which no key takes. Text goes in quotes."
    )


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        strict_toml.load(Recipe, tmp_path / "packager.toml")
    assert str(caught.value) == (
        f"{tmp_path}/packager.toml: no such file. `packager new` writes a recipe."
    )


def test_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: .*Is a directory"):
        strict_toml.load(Recipe, tmp_path)


def test_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "packager.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read: 'utf-8' codec can't decode"):
        strict_toml.load(Recipe, tmp_path / "packager.toml")


def test_file_that_is_no_toml_says_where(tmp_path: Path) -> None:
    path = tmp_path / "packager.toml"
    path.write_text('name = "demo"\ntargets = [')
    with pytest.raises(ConfigError) as caught:
        strict_toml.load(Recipe, path)
    assert str(caught.value) == (f"{path}: is not valid TOML: Invalid value (at end of document).")


def test_value_cannot_be_changed_afterwards() -> None:
    recipe = strict_toml.validate(Recipe, tables(), "packager.toml")
    with pytest.raises(ValueError, match="frozen"):
        recipe.name = "other"


def test_mistake_that_has_no_words_of_its_own_keeps_the_librarys() -> None:
    class Box(Strict):
        width_px: int = Field(multiple_of=8)

    with pytest.raises(ConfigError) as caught:
        strict_toml.validate(Box, {"width_px": 9}, "box.toml")
    assert str(caught.value) == ("box.toml.width_px: Input should be a multiple of 8, not 9.")
