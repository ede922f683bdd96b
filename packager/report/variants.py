"""The networks of a build side by side: original, pruned, and each target's program."""

from dataclasses import dataclass

from packager.artifacts import Comparison, Cost, Interval
from packager.built import Built, TargetResult
from packager.report import charts, wording
from packager.report.charts import Bar, Chart, Drop, Ink


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One network, or one program; what was not measured is None.

    Attributes:
        runtime: What produced the scores; empty where there are none.
        agreement: Share of samples on which it decides as the original does.
    """

    name: str
    ink: Ink
    runtime: str
    cost: Cost | None
    size_bytes: int | None
    accuracy_score: float | None
    auroc_score: float | None
    agreement: Interval | None


@dataclass(frozen=True, kw_only=True)
class NamedChart:
    """A chart with its heading."""

    title: str
    chart: Chart


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Charts that stand in one frame."""

    charts: tuple[NamedChart, ...]


def variants_of(built: Built) -> tuple[Variant, ...]:
    """Return the original, the pruned network, and one variant for each target."""
    networks = built.networks
    parities = [result.parity for result in built.targets if result.parity]
    # Every target compares the same two float networks, on the same samples.
    pruning = parities[0].pruning if parities else None
    before, after = _reference_scores(pruning), _candidate_scores(pruning)
    original = Variant(
        name="Original",
        ink=Ink.ORIGINAL,
        runtime=networks.reference.runtime,
        cost=networks.original.cost,
        size_bytes=networks.original.program.size_bytes,
        accuracy_score=before.get("accuracy"),
        auroc_score=before.get("auroc"),
        agreement=None,
    )
    tuned = Variant(
        name="Pruned and fine-tuned",
        ink=Ink.PRUNED,
        runtime=networks.reference.runtime,
        cost=networks.pruned.after,
        size_bytes=networks.tuned.program.size_bytes,
        accuracy_score=after.get("accuracy"),
        auroc_score=after.get("auroc"),
        agreement=pruning.agreement if pruning else None,
    )
    return (original, tuned, *(_converted(result) for result in built.targets))


def _converted(result: TargetResult) -> Variant:
    whole = result.parity.whole if result.parity else None
    scores = _candidate_scores(whole)
    return Variant(
        name=result.target.name,
        ink=Ink.DEVICE,
        runtime=result.parity.runtime if result.parity else "",
        cost=None,
        size_bytes=result.converted.program.size_bytes if result.converted else None,
        accuracy_score=scores.get("accuracy"),
        auroc_score=scores.get("auroc"),
        agreement=whole.agreement if whole else None,
    )


def _reference_scores(comparison: Comparison | None) -> dict[str, float]:
    return {m.metric: m.reference_score for m in comparison.metrics} if comparison else {}


def _candidate_scores(comparison: Comparison | None) -> dict[str, float]:
    return {m.metric: m.candidate_score for m in comparison.metrics} if comparison else {}


def variant_charts(variants: tuple[Variant, ...]) -> tuple[Panel, ...]:
    """Return bar charts of size, cost and scores; one with nothing to draw is left out."""
    costed = [(v, v.cost) for v in variants if v.cost]
    sizes = tuple(
        _bar(v, v.size_bytes, wording.size(v.size_bytes)) for v in variants if v.size_bytes
    )
    macs = tuple(_bar(v, cost.macs, wording.rounded(cost.macs)) for v, cost in costed)
    weights = tuple(
        _bar(v, cost.parameters, wording.rounded(cost.parameters)) for v, cost in costed
    )
    accuracies = _score_bars(variants, [v.accuracy_score for v in variants])
    areas = _score_bars(variants, [v.auroc_score for v in variants])
    panels = (
        _bar_charts({"Program file": sizes}),
        _bar_charts({"Multiply-accumulates": macs, "Parameters": weights}),
        _bar_charts({"Accuracy": accuracies}),
        _bar_charts({"AUROC": areas}),
    )
    return tuple(panel for panel in panels if panel.charts)


def _bar_charts(figures: dict[str, tuple[Bar, ...]]) -> Panel:
    return Panel(
        charts=tuple(
            NamedChart(title=title, chart=_bar_chart(title, rows))
            for title, rows in figures.items()
            if rows
        )
    )


def _bar(variant: Variant, value: float, text: str) -> Bar:
    return Bar(name=variant.name, value=value, text=text, ink=variant.ink)


def _score_bars(variants: tuple[Variant, ...], scores: list[float | None]) -> tuple[Bar, ...]:
    pairs = zip(variants, scores, strict=True)
    return tuple(_bar(v, score, wording.score(score)) for v, score in pairs if score is not None)


def _bar_chart(title: str, rows: tuple[Bar, ...]) -> Chart:
    values = ", ".join(f"{row.name} {row.text}" for row in rows)
    # Scores fill the width at 1; anything else at its largest value.
    full = max(1.0, *(row.value for row in rows))
    return charts.bars(
        f"bars-{title.replace(' ', '-').lower()}", f"{title}: {values}.", rows, full=full
    )


def drops_charts(built: Built) -> tuple[NamedChart, ...]:
    """Return a chart for each metric: its loss on each target, with the limit."""
    limits = built.recipe.limits
    allowed = {"accuracy": limits.max_accuracy_drop, "auroc": limits.max_auroc_drop}
    charted = [(metric, _drops(built, metric), limit) for metric, limit in allowed.items()]
    return tuple(_drop_chart(metric, rows, limit) for metric, rows, limit in charted if rows)


def _drops(built: Built, metric: str) -> tuple[Drop, ...]:
    return tuple(
        Drop(
            name=result.target.name,
            drop=found.drop,
            text=wording.typeset(f"{found.drop.estimate:+.4f}"),
        )
        for result in built.targets
        for found in (result.parity.whole.metrics if result.parity else ())
        if found.metric == metric
    )


def _drop_chart(metric: str, rows: tuple[Drop, ...], limit: float) -> NamedChart:
    title = wording.sentence(wording.typeset(f"{metric} drop")).rstrip(".")
    losses = ", ".join(f"{row.name} {row.text}" for row in rows)
    description = f"{title} from the original, limit {limit:.3f}: {losses}."
    chart = charts.drops(f"drop-{metric}", description, rows, limit=limit)
    return NamedChart(title=f"{title}, limit {limit:.3f}", chart=chart)
