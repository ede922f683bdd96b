from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from packager.artifacts import File
from packager.built import Built, Failure, TargetResult
from packager.contract import Activation
from packager.recipe import NoPruning, StructuredPruning, UnstructuredPruning
from packager.report.page import (
    LARGEST_MATRIX,
    MOST_POINTS,
    Page,
    State,
    page_of,
    pruning_words,
    state_of,
)
from packager.verdicts import Outcome, Verdict
from tests.built_example import READY, SAMPLES, UNCONVERTED, example_built

UNDECIDED = Verdict(
    limit="AUROC drop", figure="0.01", outcome=Outcome.UNDECIDED, accepted=False, runtime="r"
)
MET = replace(UNDECIDED, outcome=Outcome.MET, accepted=True)
BREACH = replace(UNDECIDED, outcome=Outcome.BREACHED)
PARITY_FAILURE = Failure(error="ParityError", message="m", exit_code=5)
BUDGET_FAILURE = Failure(error="BudgetError", message="m", exit_code=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("built")


@pytest.fixture(scope="module")
def built(folder: Path) -> Built:
    return example_built(folder)


@pytest.fixture(scope="module")
def page(built: Built, folder: Path) -> Page:
    return page_of(built, folder)


def failed(built: Built, failure: Failure, *verdicts: Verdict) -> TargetResult:
    return replace(built.targets[0], bundle=None, failure=failure, verdicts=verdicts)


def test_target_with_a_bundle_is_ready(built: Built) -> None:
    assert state_of(built.targets[0]) is State.READY


def test_accepted_doubt_is_said_with_a_bundle(built: Built) -> None:
    doubtful = replace(built.targets[0], verdicts=(MET, replace(UNDECIDED, accepted=True)))

    assert state_of(doubtful) is State.ACCEPTED


def test_refused_doubt_is_its_own_state(built: Built) -> None:
    assert state_of(failed(built, PARITY_FAILURE, MET, UNDECIDED)) is State.UNDECIDED


def test_breach_outweighs_doubt(built: Built) -> None:
    assert state_of(failed(built, PARITY_FAILURE, UNDECIDED, BREACH)) is State.BREACHED


def test_program_that_does_not_fit_is_not_built(built: Built) -> None:
    assert state_of(failed(built, BUDGET_FAILURE, MET, UNDECIDED)) is State.FAILED


def test_program_that_answers_nan_is_not_a_want_of_samples(built: Built) -> None:
    assert state_of(failed(built, PARITY_FAILURE)) is State.FAILED


def test_target_without_bundle_is_never_ready(built: Built) -> None:
    assert state_of(replace(built.targets[0], bundle=None)) is State.FAILED


def test_every_state_has_a_tone() -> None:
    assert [state.tone for state in State] == ["good", "unsure", "unsure", "bad", "bad"]


def test_pruning_is_put_in_words(built: Built) -> None:
    methods = {
        "not pruned": NoPruning(method="none"),
        "channels removed, aiming at 45.0 % of the MACs": StructuredPruning(
            method="structured", macs_ratio=0.45
        ),
        "50.0 % of the weights of each layer set to zero": UnstructuredPruning(
            method="unstructured", sparsity_ratio=0.5
        ),
    }
    for text, table in methods.items():
        assert pruning_words(built.recipe.model_copy(update={"prune": table})) == text


def test_page_counts_targets_samples_and_steps(page: Page) -> None:
    assert (page.ready, page.samples, page.reused, page.visited) == (1, SAMPLES, 6, 16)
    assert [group.name for group in page.steps[:2]] == ["All targets", READY]


def test_matrices_agree_with_the_parity(page: Page) -> None:
    for view in page.targets[:2]:
        assert view.answers is not None
        assert view.result.parity is not None
        accuracy = view.result.parity.whole.metrics[0]
        right = [sum(row[i] for i, row in enumerate(m.rows)) for m in view.answers.matrices]
        assert right == [
            round(SAMPLES * accuracy.reference_score),
            round(SAMPLES * accuracy.candidate_score),
        ]


def test_note_on_pruning_stands_where_zeros_gain_nothing(built: Built, folder: Path) -> None:
    table = UnstructuredPruning(method="unstructured", sparsity_ratio=0.5)
    recipe = built.recipe.model_copy(update={"prune": table})
    dense = replace(built, targets=built.targets[2:])
    sparse = replace(dense, recipe=recipe)

    assert page_of(dense, folder).targets[0].pruning_note == ""
    note = page_of(sparse, folder).targets[0].pruning_note
    assert note.startswith(f"{UNCONVERTED} computes zeros")


def test_only_what_was_trained_has_a_history(built: Built, folder: Path) -> None:
    networks = built.networks
    built = replace(built, targets=())
    given = replace(built, networks=replace(networks, training=None))
    untuned = replace(networks.tuned, history=(), best_epoch=0)
    untouched = replace(built, networks=replace(networks, training=None, tuned=untuned))

    assert [h.title for h in page_of(built, folder).histories] == [
        "Training of the original",
        "Fine-tuning of the pruned network",
    ]
    assert [h.title for h in page_of(given, folder).histories] == [
        "Fine-tuning of the pruned network"
    ]
    assert page_of(untouched, folder).histories == ()


def with_answers(built: Built, folder: Path, *, samples: int, labels: int) -> Built:
    """Return the build with one target, and evidence of another shape."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(samples, labels)).astype(np.float32)
    place = folder / "many.npz"
    truth = np.arange(samples) % labels
    np.savez(place, labels=truth, original=logits, tuned=logits, converted=logits[:, ::-1])
    known = File.of(place)
    scores = File(path=Path(place.name), sha256=known.sha256, size_bytes=known.size_bytes)
    result = built.targets[0]
    assert result.parity is not None
    names = tuple(f"label {i}" for i in range(labels))
    update = {"activation": Activation.SOFTMAX, "labels": names}
    contract = built.networks.contract.model_copy(update=update)
    return replace(
        built,
        networks=replace(built.networks, contract=contract),
        targets=(replace(result, parity=replace(result.parity, scores=scores)),),
    )


def test_mistakes_are_listed_where_a_matrix_is_too_wide(built: Built, folder: Path) -> None:
    for labels, listed in ((LARGEST_MATRIX, False), (LARGEST_MATRIX + 1, True)):
        page = page_of(with_answers(built, folder, samples=200, labels=labels), folder)
        answers = page.targets[0].answers
        assert answers is not None
        assert bool(answers.worst) is listed
        assert bool(answers.matrices) is not listed
        assert (answers.subject, answers.gallery) == ("", ())


def test_points_of_many_samples_are_thinned(built: Built, folder: Path) -> None:
    page = page_of(with_answers(built, folder, samples=3 * MOST_POINTS, labels=2), folder)

    assert page.targets[0].answers is not None
    assert page.targets[0].answers.drawn == MOST_POINTS
