"""What the report shows, drawn from a build: values only, in the order of the page."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from packager.artifacts import File, Tuned, Visit
from packager.built import Built, TargetResult, pruning_note
from packager.contract import Contract
from packager.errors import ParityError
from packager.recipe import NoPruning, Recipe, StructuredPruning, UnstructuredPruning
from packager.report import charts, evidence, wording
from packager.report.charts import Chart
from packager.report.evidence import Confusion, Evidence, Moved
from packager.report.variants import (
    NamedChart,
    Panel,
    Variant,
    drops_charts,
    variant_charts,
    variants_of,
)
from packager.verdicts import Outcome

# A point is some 60 bytes of SVG, and this many fill the square.
MOST_POINTS = 2000
# A larger matrix is wider than a phone; its most frequent mistakes are listed instead.
LARGEST_MATRIX = 6
MOST_CONFUSIONS = 12


class State(StrEnum):
    """What became of a target, in words."""

    READY = "Ready to ship"
    ACCEPTED = "Ready; some limits are undecided"
    UNDECIDED = "Not enough samples to decide"
    BREACHED = "Limit breached"
    FAILED = "Not built"

    @property
    def tone(self) -> str:
        """The class of the page's style that gives colour and icon."""
        match self:
            case State.READY:
                return "good"
            case State.ACCEPTED | State.UNDECIDED:
                return "unsure"
            case State.BREACHED | State.FAILED:
                return "bad"


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Counts of samples by truth (row) and decision (column)."""

    name: str
    rows: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """How a target's program answered, sample by sample.

    Attributes:
        drawn: Number of samples in the chart.
        subject: The label whose probability is drawn; empty where it differs by sample.
        matrices: Of the original and of the target; empty where there are many labels.
        worst: In place of matrices, the most frequent mistakes.
    """

    scatter: Chart
    drawn: int
    subject: str
    matrices: tuple[Matrix, ...]
    worst: tuple[Confusion, ...]
    gallery: tuple[Moved, ...]


@dataclass(frozen=True, kw_only=True)
class TargetView:
    """All that the page shows of one target.

    Attributes:
        pruning_note: What it does not gain by pruning; empty if it gains.
    """

    result: TargetResult
    state: State
    pruning_note: str
    answers: Answers | None


@dataclass(frozen=True, kw_only=True)
class History:
    """How a network was trained."""

    title: str
    tuned: Tuned
    chart: Chart


@dataclass(frozen=True, kw_only=True)
class StepGroup:
    """The steps of one target, or of all."""

    name: str
    visits: tuple[Visit, ...]


@dataclass(frozen=True, kw_only=True)
class NamedFile:
    """A file, and what it is."""

    role: str
    file: File


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the template is given.

    Attributes:
        ready: Number of targets that have a bundle.
        samples: Number of evaluation samples; 0 where nothing could be compared.
        pruning: How the recipe prunes, in words.
        reused: Number of steps, of those `visited`, whose result was already here.
    """

    built: Built
    targets: tuple[TargetView, ...]
    ready: int
    samples: int
    pruning: str
    variants: tuple[Variant, ...]
    panels: tuple[Panel, ...]
    drops: tuple[NamedChart, ...]
    reused: int
    visited: int
    histories: tuple[History, ...]
    steps: tuple[StepGroup, ...]
    files: tuple[NamedFile, ...]


def page_of(built: Built, folder: Path) -> Page:
    """Gather the page of a build whose files lie relative to `folder`.

    Raises:
        BundleError: A target's evidence is missing, or is not what the build wrote.
    """
    variants, steps = variants_of(built), _steps(built)
    compared = [result.parity.whole.samples for result in built.targets if result.parity]
    return Page(
        built=built,
        targets=tuple(
            _target_view(result, built, folder, f"scatter{index}")
            for index, result in enumerate(built.targets)
        ),
        ready=sum(result.bundle is not None for result in built.targets),
        samples=max(compared, default=0),
        pruning=pruning_words(built.recipe),
        variants=variants,
        panels=variant_charts(variants),
        drops=drops_charts(built),
        histories=_histories(built),
        steps=steps,
        reused=sum(visit.reused for group in steps for visit in group.visits),
        visited=sum(len(group.visits) for group in steps),
        files=_files(built),
    )


def state_of(result: TargetResult) -> State:
    """Return what became of a target."""
    outcomes = {verdict.outcome for verdict in result.verdicts}
    if result.failure is None and result.bundle is not None:
        return State.ACCEPTED if Outcome.UNDECIDED in outcomes else State.READY
    if Outcome.BREACHED in outcomes:
        return State.BREACHED
    stopped_by = result.failure.exit_code if result.failure else None
    if Outcome.UNDECIDED in outcomes and stopped_by == ParityError.exit_code:
        return State.UNDECIDED
    return State.FAILED


def pruning_words(recipe: Recipe) -> str:
    """Return how the recipe prunes, in a few words."""
    match recipe.prune:
        case NoPruning():
            return "not pruned"
        case StructuredPruning(macs_ratio=ratio):
            return f"channels removed, aiming at {wording.percent(ratio)} of the MACs"
        case UnstructuredPruning(sparsity_ratio=ratio):
            return f"{wording.percent(ratio)} of the weights of each layer set to zero"


def _target_view(result: TargetResult, built: Built, folder: Path, key: str) -> TargetView:
    contract = built.networks.contract
    answers = None
    if result.parity:
        read = evidence.read(result.parity.scores, folder, contract)
        answers = _answers(read, contract, result.target.name, key=key)
    return TargetView(
        result=result,
        state=state_of(result),
        pruning_note=pruning_note(built.recipe, result.target),
        answers=answers,
    )


def _answers(read: Evidence, contract: Contract, target: str, *, key: str) -> Answers:
    classes = len(contract.labels)
    small = classes <= LARGEST_MATRIX
    drawn = evidence.thin(read, MOST_POINTS)
    return Answers(
        scatter=charts.scatter(
            key,
            f"Probability from the original across and on {target} upwards; "
            f"{int(read.changed.sum())} of {len(read.labels)} decisions changed.",
            original=read.original_probability[drawn],
            converted=read.converted_probability[drawn],
            changed=read.changed[drawn],
            boundary=0.5 if classes == 2 else None,
        ),
        drawn=len(drawn),
        subject=contract.labels[1] if classes == 2 else "",
        matrices=_matrices(read, target, classes) if small else (),
        worst=() if small else evidence.worst_confusions(read, contract.labels, MOST_CONFUSIONS),
        gallery=evidence.gallery(read, contract),
    )


def _matrices(read: Evidence, target: str, classes: int) -> tuple[Matrix, ...]:
    both = (("Original", read.original), (target, read.converted))
    return tuple(
        Matrix(name=name, rows=evidence.confusion_counts(read.labels, decided, classes))
        for name, decided in both
    )


def _histories(built: Built) -> tuple[History, ...]:
    networks = built.networks
    runs = [("Fine-tuning of the pruned network", "tuning", networks.tuned)]
    if networks.training:
        runs.insert(0, ("Training of the original", "training", networks.training))
    return tuple(_history(title, key, tuned) for title, key, tuned in runs if tuned.history)


def _history(title: str, key: str, tuned: Tuned) -> History:
    best = tuned.history[tuned.best_epoch]
    description = (
        f"{title}: losses over {len(tuned.history)} epochs; epoch {tuned.best_epoch + 1} was kept, "
        f"with a validation loss of {best.validation_loss_error:.3f}."
    )
    return History(title=title, tuned=tuned, chart=charts.history(key, description, tuned))


def _steps(built: Built) -> tuple[StepGroup, ...]:
    groups = [StepGroup(name="All targets", visits=built.visits)]
    groups += [StepGroup(name=r.target.name, visits=r.visits) for r in built.targets]
    return tuple(group for group in groups if group.visits)


def _files(built: Built) -> tuple[NamedFile, ...]:
    networks, data = built.networks, built.networks.dataset
    shared = {
        "Original network": networks.original.program,
        "Pruned and fine-tuned network": networks.tuned.program,
        "Fine-tuning samples": data.finetune,
        "Validation samples": data.validation,
        "Calibration samples": data.calibration,
        "Evaluation samples": data.evaluation,
    }
    named = [NamedFile(role=role, file=file) for role, file in shared.items()]
    for result in built.targets:
        if result.converted:
            role = f"Program for {result.target.name}"
            named.append(NamedFile(role=role, file=result.converted.program))
        if result.bundle:
            role = f"Bundle for {result.target.name}"
            named.append(NamedFile(role=role, file=result.bundle.archive))
    return tuple(named)
