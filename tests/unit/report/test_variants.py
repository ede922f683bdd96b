from dataclasses import replace
from pathlib import Path

import pytest

from packager.built import Built
from packager.report.charts import Ink
from packager.report.variants import Panel, drops_charts, variant_charts, variants_of
from tests.built_example import BREACHED, READY, REFERENCE_RUNTIME, UNCONVERTED, example_built


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return example_built(tmp_path_factory.mktemp("built"))


def titles(panels: tuple[Panel, ...]) -> list[list[str]]:
    return [[named.title for named in panel.charts] for panel in panels]


def test_variants_go_from_the_original_to_each_target(built: Built) -> None:
    variants = variants_of(built)

    assert [variant.name for variant in variants] == [
        "Original",
        "Pruned and fine-tuned",
        READY,
        BREACHED,
        UNCONVERTED,
    ]
    assert [variant.ink for variant in variants[:3]] == [Ink.ORIGINAL, Ink.PRUNED, Ink.DEVICE]


def test_scores_come_from_the_comparisons(built: Built) -> None:
    original, tuned, ready, *_ = variants_of(built)
    parity = built.targets[0].parity
    assert parity is not None
    accuracy, auroc = parity.whole.metrics

    assert (original.accuracy_score, original.auroc_score) == (
        accuracy.reference_score,
        auroc.reference_score,
    )
    assert tuned.accuracy_score == parity.pruning.metrics[0].candidate_score
    assert (ready.accuracy_score, ready.agreement) == (
        accuracy.candidate_score,
        parity.whole.agreement,
    )
    assert (original.runtime, ready.runtime) == (REFERENCE_RUNTIME, parity.runtime)


def test_target_that_never_converted_has_no_figure(built: Built) -> None:
    last = variants_of(built)[-1]

    assert (last.size_bytes, last.accuracy_score, last.agreement, last.runtime) == (
        None,
        None,
        None,
        "",
    )


def test_charts_show_size_cost_and_scores(built: Built) -> None:
    panels = variant_charts(variants_of(built))

    assert titles(panels) == [
        ["Program file"],
        ["Multiply-accumulates", "Parameters"],
        ["Accuracy"],
        ["AUROC"],
    ]
    sizes = panels[0].charts[0].chart
    assert sizes.description == (
        f"Program file: Original 422 KiB, Pruned and fine-tuned 210 KiB, {READY} 59.5 KiB, "
        f"{BREACHED} 56.1 KiB."
    )


def test_scores_that_nobody_measured_are_not_drawn(built: Built) -> None:
    nothing = replace(built, targets=built.targets[2:])

    assert titles(variant_charts(variants_of(nothing))) == [
        ["Program file"],
        ["Multiply-accumulates", "Parameters"],
    ]
    assert drops_charts(nothing) == ()


def test_drops_are_drawn_against_the_recipes_limits(built: Built) -> None:
    accuracy, auroc = drops_charts(built)

    assert (accuracy.title, auroc.title) == (
        "Accuracy drop, limit 0.020",
        "AUROC drop, limit 0.020",
    )
    assert accuracy.chart.description == (
        f"Accuracy drop from the original, limit 0.020: {READY} −0.0025, {BREACHED} +0.0475."  # noqa: RUF001
    )


def test_example_keeps_the_figures_that_it_is_named_for(built: Built, tmp_path: Path) -> None:
    assert replace(example_built(tmp_path)) == built
