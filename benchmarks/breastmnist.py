"""BreastMNIST over three seeds: AUROC of the original, and how far the bundles agree with it.

Usage: python -m benchmarks.breastmnist [--write]

Needs the published file: PACKAGER_TEST_DATA names the folder that holds `breastmnist/`,
otherwise it is fetched. `--write` puts the table into the README.
"""

import os
import sys
import tempfile
from pathlib import Path

from packager import build, load_recipe
from packager.artifacts import Precision
from packager.built import Built, TargetResult

REPOSITORY = Path(__file__).parent.parent
RECIPE = REPOSITORY / "examples" / "breastmnist" / "packager.toml"
README = REPOSITORY / "README.md"
BEGIN, END = "<!-- breastmnist -->\n", "<!-- /breastmnist -->\n"
SEEDS = (0, 1, 2)


def main() -> None:
    """Build for each seed, print the table, and write it where asked."""
    data = os.environ.get("PACKAGER_TEST_DATA")
    rows = [
        "| seed | AUROC original | MACs kept | target | AUROC | agreement with original | runtime |"
    ]
    rows.append("|---|---|---|---|---|---|---|")
    worst = []
    for seed in SEEDS:
        built = build_with(seed, Path(data) if data else None)
        rows += table_rows(seed, built)
        worst += [agreement(r) for r in built.targets if r.target.precision is Precision.INT8]
    print("\n".join(rows))
    print(f"lowest agreement of an int8 bundle with its float original: {min(worst):.4f}")
    if "--write" in sys.argv:
        write_readme("\n".join(rows) + "\n")


def build_with(seed: int, data_dir: Path | None) -> Built:
    """Build the recipe with another seed."""
    recipe = load_recipe(RECIPE)
    compute = recipe.compute.model_copy(update={"seed": seed})
    recipe = recipe.model_copy(update={"compute": compute})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return build(recipe, out=folder / "out", cache_root=folder / "cache", data_dir=data_dir)


def table_rows(seed: int, built: Built) -> list[str]:
    """Return one row for each target."""
    macs = built.networks.pruned.after.macs / built.networks.original.cost.macs
    rows = []
    for result in built.targets:
        assert result.parity is not None, "a build without failure has parity for every target"
        auroc = next(m for m in result.parity.whole.metrics if m.metric == "auroc")
        rows.append(
            f"| {seed} | {auroc.reference_score:.3f} | {macs:.2f} | {result.target.name} "
            f"| {auroc.candidate_score:.3f} | {agreement(result):.3f} | {result.parity.runtime} |"
        )
    return rows


def agreement(result: TargetResult) -> float:
    """Return the share of test decisions that converted and original share."""
    assert result.parity is not None, "a build without failure has parity for every target"
    return result.parity.whole.agreement.estimate


def write_readme(table: str) -> None:
    """Replace what stands between the two marks."""
    text = README.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}{table}{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
