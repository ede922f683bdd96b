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
from packager.artifacts import Parity, Precision
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
        (
            "| seed | AUROC original | MACs kept | target | AUROC | agreement with original "
            "| with its own float32 network | runtime |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    int8 = []
    for seed in SEEDS:
        built = build_with(seed, Path(data) if data else None)
        rows += table_rows(seed, built)
        int8 += [parity_of(r) for r in built.targets if r.target.precision is Precision.INT8]
    print("\n".join(rows))
    whole = min(parity.whole.agreement.estimate for parity in int8)
    conversion = min(parity.conversion.agreement.estimate for parity in int8)
    print(f"lowest agreement of an int8 bundle with the unpruned original: {whole:.4f}")
    print(f"lowest agreement with the float32 network it was converted from: {conversion:.4f}")
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
        parity = parity_of(result)
        auroc = next(m for m in parity.whole.metrics if m.metric == "auroc")
        rows.append(
            f"| {seed} | {auroc.reference_score:.3f} | {macs:.2f} | {result.target.name} "
            f"| {auroc.candidate_score:.3f} | {parity.whole.agreement.estimate:.3f} "
            f"| {parity.conversion.agreement.estimate:.3f} | {parity.runtime} |"
        )
    return rows


def parity_of(result: TargetResult) -> Parity:
    """Return the parity of a target, which every build without failure has."""
    assert result.parity is not None, "a build without failure has parity for every target"
    return result.parity


def write_readme(table: str) -> None:
    """Replace what stands between the two marks."""
    text = README.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}{table}{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
