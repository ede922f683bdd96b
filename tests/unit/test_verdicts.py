from dataclasses import replace
from pathlib import Path

import pytest

from packager.artifacts import (
    Comparison,
    Converted,
    Fallback,
    File,
    Finding,
    Interval,
    Layout,
    Measured,
    MetricDrop,
    Parity,
    Precision,
    Runtime,
    TensorErrors,
    TensorIo,
)
from packager.errors import BudgetError, FallbackError, ParityError, UnsupportedOperatorError
from packager.recipe import Limits, Undecided
from packager.target import Memory
from packager.verdicts import (
    Outcome,
    Verdict,
    judge,
    require_fit,
    require_no_fallback,
    require_parity,
    require_supported,
)

LIMITS = Limits(
    min_agreement_ratio=0.97,
    max_accuracy_drop=0.02,
    max_auroc_drop=0.01,
    min_sqnr_db=15.0,
    undecided=Undecided.REFUSE,
)
ACCEPTING = LIMITS.model_copy(update={"undecided": Undecided.ACCEPT})
RUNTIME = "LiteRT 2.3.0 on x86_64"


def interval(estimate: float, low: float, high: float) -> Interval:
    return Interval(estimate=estimate, low=low, high=high)


def drop(metric: str, estimate: float, low: float, high: float) -> MetricDrop:
    return MetricDrop(
        metric=metric,
        reference_score=0.9,
        candidate_score=0.9 - estimate,
        drop=interval(estimate, low, high),
    )


def parity(
    *,
    agreement: Interval | None = None,
    sqnr_db: float | None = 30.0,
    accuracy: MetricDrop | None = None,
) -> Parity:
    """Return a parity that meets every limit, but for what is given."""
    comparison = Comparison(
        reference="original",
        candidate="converted",
        samples=500,
        decisions_changed=5,
        agreement=agreement or interval(0.99, 0.977, 0.997),
        tensors=TensorErrors(max_abs_error=0.1, sqnr_db=99.0, cosine_score=0.999),
        metrics=(
            accuracy or drop("accuracy", 0.004, -0.004, 0.012),
            drop("auroc", 0.001, -0.001, 0.003),
        ),
    )
    tensors = TensorErrors(max_abs_error=0.1, sqnr_db=sqnr_db, cosine_score=0.999)
    return Parity(
        runtime=RUNTIME,
        scores=File(path=Path("scores.npz"), sha256="0" * 64, size_bytes=1),
        pruning=comparison,
        conversion=replace(comparison, tensors=tensors),
        whole=comparison,
    )


def verdict(limit: str, figure: str, outcome: Outcome, *, accepted: bool) -> Verdict:
    return Verdict(limit=limit, figure=figure, outcome=outcome, accepted=accepted, runtime=RUNTIME)


def test_good_parity_meets_every_limit() -> None:
    assert judge(parity(), LIMITS) == (
        verdict("agreement >= 0.970", "0.990 [0.977, 0.997]", Outcome.MET, accepted=True),
        verdict("SQNR >= 15.0 dB", "30.0 dB", Outcome.MET, accepted=True),
        verdict("accuracy drop <= 0.020", "+0.0040 [-0.0040, +0.0120]", Outcome.MET, accepted=True),
        verdict("auroc drop <= 0.010", "+0.0010 [-0.0010, +0.0030]", Outcome.MET, accepted=True),
    )


@pytest.mark.parametrize(("estimate", "outcome"), [(0.97, Outcome.MET), (0.9699, Outcome.BREACHED)])
def test_agreement_at_its_limit_is_enough(estimate: float, outcome: Outcome) -> None:
    judged = judge(parity(agreement=interval(estimate, 0.9, 1.0)), LIMITS)[0]
    assert (judged.outcome, judged.accepted) == (outcome, outcome is Outcome.MET)


@pytest.mark.parametrize(
    ("sqnr_db", "figure", "outcome"),
    [
        (15.0, "15.0 dB", Outcome.MET),
        (14.9, "14.9 dB", Outcome.BREACHED),
        (None, "identical", Outcome.MET),
    ],
)
def test_noise_is_that_of_the_conversion(
    sqnr_db: float | None, figure: str, outcome: Outcome
) -> None:
    judged = judge(parity(sqnr_db=sqnr_db), LIMITS)[1]
    assert (judged.figure, judged.outcome) == (figure, outcome)


@pytest.mark.parametrize(
    ("ends", "outcome", "refusing", "accepting"),
    [
        ((0.010, -0.010, 0.020), Outcome.MET, True, True),
        ((0.010, -0.010, 0.021), Outcome.UNDECIDED, False, True),
        # The recipe accepts doubt, not a drop that is beyond the limit as measured.
        ((0.021, -0.010, 0.050), Outcome.UNDECIDED, False, False),
        ((0.030, 0.020, 0.040), Outcome.UNDECIDED, False, False),
        ((0.030, 0.021, 0.040), Outcome.BREACHED, False, False),
        ((-0.030, -0.040, -0.020), Outcome.MET, True, True),
    ],
)
def test_drop_is_judged_by_its_whole_interval(
    ends: tuple[float, float, float], outcome: Outcome, *, refusing: bool, accepting: bool
) -> None:
    measured = parity(accuracy=drop("accuracy", *ends))
    for limits, accepted in ((LIMITS, refusing), (ACCEPTING, accepting)):
        judged = judge(measured, limits)[2]
        assert (judged.outcome, judged.accepted) == (outcome, accepted)


def test_accepted_verdicts_pass() -> None:
    require_parity("watch", judge(parity(), LIMITS))


def test_breach_names_limit_figure_and_runtime() -> None:
    with pytest.raises(ParityError) as caught:
        require_parity("watch", judge(parity(sqnr_db=3.0), LIMITS))
    assert str(caught.value) == (
        "watch: SQNR >= 15.0 dB: breached: 3.0 dB on LiteRT 2.3.0 on x86_64. "
        "No bundle was written; the report shows the samples."
    )


def test_undecided_limit_says_what_decides_it() -> None:
    doubtful = parity(accuracy=drop("accuracy", 0.01, -0.01, 0.03))
    with pytest.raises(ParityError) as caught:
        require_parity("watch", judge(doubtful, LIMITS))
    assert str(caught.value) == (
        "watch: accuracy drop <= 0.020: not enough samples to decide: "
        "+0.0100 [-0.0100, +0.0300] on LiteRT 2.3.0 on x86_64. "
        "More samples decide it; until then limits.undecided does. "
        "No bundle was written; the report shows the samples."
    )
    require_parity("watch", judge(doubtful, ACCEPTING))


def measured(flash_bytes: int, ram_bytes: int | None) -> Measured:
    return Measured(flash_bytes=flash_bytes, ram_bytes=ram_bytes, ram_source="a test")


MEMORY = Memory(flash_bytes=2048, ram_bytes=1024)


@pytest.mark.parametrize("ram_bytes", [1024, None])
def test_program_may_fill_the_memory(ram_bytes: int | None) -> None:
    require_fit("watch", measured(2048, ram_bytes), MEMORY)


@pytest.mark.parametrize(
    ("flash_bytes", "ram_bytes", "message"),
    [
        (2049, None, "watch: program is 2,049 bytes, 1 bytes over the limit of 2,048."),
        (10, 2000, "watch: working memory is 2,000 bytes, 976 bytes over the limit of 1,024."),
    ],
)
def test_program_that_does_not_fit_is_refused(
    flash_bytes: int, ram_bytes: int | None, message: str
) -> None:
    with pytest.raises(BudgetError) as caught:
        require_fit("watch", measured(flash_bytes, ram_bytes), MEMORY)
    remedy = "Prune more, or choose a target with more memory."
    assert str(caught.value) == f"{message} {remedy}"


def converted(*fallbacks: Fallback) -> Converted:
    io = TensorIo(shape=(1, 4), layout=Layout.CHANNELS_FIRST, dtype=Precision.FLOAT32)
    return Converted(
        program=File(path=Path("model.pte"), sha256="0" * 64, size_bytes=1),
        runtime=Runtime.EXECUTORCH,
        precision=Precision.INT8,
        input=io,
        output=io,
        operators=(),
        fallbacks=fallbacks,
    )


MEAN = Fallback(operator="aten.mean.dim", count=2, reason="the mean is over channels.")
GELU = Fallback(operator="aten.gelu.default", count=1, reason="XNNPACK has none")


def test_program_without_fallbacks_passes() -> None:
    require_no_fallback("watch", converted(), ())


def test_allowed_fallback_passes() -> None:
    require_no_fallback("watch", converted(MEAN), ("aten.mean.dim",))


def test_fallback_is_named_with_its_reason() -> None:
    with pytest.raises(FallbackError) as caught:
        require_no_fallback("watch", converted(MEAN, GELU), ())
    assert str(caught.value) == (
        "watch: aten.mean.dim (2x) runs outside the fast path: the mean is over channels. "
        "Change the model, or add 'aten.mean.dim', 'aten.gelu.default' to "
        "limits.allowed_fallbacks."
    )


def test_one_allowed_fallback_does_not_allow_another() -> None:
    with pytest.raises(FallbackError, match=r"^watch: aten\.gelu\.default \(1x\)"):
        require_no_fallback("watch", converted(MEAN, GELU), ("aten.mean.dim",))


FINDING = Finding(
    rule="unsupported-operator",
    operator="aten.gelu.default",
    where="model.py:33",
    problem="there is no GELU kernel",
    advice="List 'gelu-to-sigmoid' in convert.rewrites.",
    blocking=True,
    rewrite="gelu-to-sigmoid",
    applied=False,
)


@pytest.mark.parametrize("mended", [{"applied": True}, {"blocking": False}])
def test_finding_that_does_not_block_passes(mended: dict[str, bool]) -> None:
    require_supported("tflite-micro", (replace(FINDING, **mended),))  # type: ignore[arg-type]


@pytest.mark.parametrize(("where", "shown"), [("model.py:33", "model.py:33"), ("", "model")])
def test_unsupported_operator_is_named_with_its_line(where: str, shown: str) -> None:
    with pytest.raises(UnsupportedOperatorError) as caught:
        require_supported("tflite-micro", (replace(FINDING, where=where),))
    assert str(caught.value) == (
        f"{shown}: tflite-micro has no aten.gelu.default. "
        "List 'gelu-to-sigmoid' in convert.rewrites."
    )
