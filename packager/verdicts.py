"""Gates: compare what was measured with what the recipe and the target allow.

Steps measure and are cached; gates judge and are not, so that a changed limit
re-judges at once and never repeats a measurement. A gate never computes.
"""

from dataclasses import dataclass
from enum import StrEnum

from packager.artifacts import Converted, Finding, Measured, MetricDrop, Parity
from packager.errors import BudgetError, FallbackError, ParityError, UnsupportedOperatorError
from packager.recipe import Limits, Undecided
from packager.target import Memory


class Outcome(StrEnum):
    """What a limit says of a figure."""

    MET = "met"
    BREACHED = "breached"
    UNDECIDED = "not enough samples to decide"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One limit, the figure it was held against, and what came out.

    Attributes:
        runtime: What produced the figure.
    """

    limit: str
    figure: str
    outcome: Outcome
    accepted: bool
    runtime: str


def judge(parity: Parity, limits: Limits) -> tuple[Verdict, ...]:
    """Hold the parity of a converted program against the recipe's limits."""
    agreement = parity.whole.agreement
    decided = [
        _plain_verdict(
            limit=f"agreement >= {limits.min_agreement_ratio:.3f}",
            figure=f"{agreement.estimate:.3f} [{agreement.low:.3f}, {agreement.high:.3f}]",
            met=agreement.estimate >= limits.min_agreement_ratio,
            runtime=parity.runtime,
        ),
        _sqnr_verdict(parity, limits),
    ]
    allowed = {"accuracy": limits.max_accuracy_drop, "auroc": limits.max_auroc_drop}
    drops = [_drop_verdict(m, allowed[m.metric], parity, limits) for m in parity.whole.metrics]
    return (*decided, *drops)


def _plain_verdict(*, limit: str, figure: str, met: bool, runtime: str) -> Verdict:
    outcome = Outcome.MET if met else Outcome.BREACHED
    return Verdict(limit=limit, figure=figure, outcome=outcome, accepted=met, runtime=runtime)


def _sqnr_verdict(parity: Parity, limits: Limits) -> Verdict:
    sqnr_db = parity.conversion.tensors.sqnr_db
    return _plain_verdict(
        limit=f"SQNR >= {limits.min_sqnr_db:.1f} dB",
        figure="identical" if sqnr_db is None else f"{sqnr_db:.1f} dB",
        met=sqnr_db is None or sqnr_db >= limits.min_sqnr_db,
        runtime=parity.runtime,
    )


def _drop_verdict(metric: MetricDrop, allowed: float, parity: Parity, limits: Limits) -> Verdict:
    drop = metric.drop
    if drop.high <= allowed:
        outcome = Outcome.MET
    elif drop.low > allowed:
        outcome = Outcome.BREACHED
    else:
        outcome = Outcome.UNDECIDED
    # Even where the samples are too few to be sure, a drop beyond the limit is no pass.
    accepts = limits.undecided is Undecided.ACCEPT and drop.estimate <= allowed
    return Verdict(
        limit=f"{metric.metric} drop <= {allowed:.3f}",
        figure=f"{drop.estimate:+.4f} [{drop.low:+.4f}, {drop.high:+.4f}]",
        outcome=outcome,
        accepted=outcome is Outcome.MET or (outcome is Outcome.UNDECIDED and accepts),
        runtime=parity.runtime,
    )


def require_parity(target: str, verdicts: tuple[Verdict, ...]) -> None:
    """Fail unless every verdict is accepted.

    Raises:
        ParityError: A limit is breached, or is undecided and the recipe refuses that.
    """
    for verdict in verdicts:
        if not verdict.accepted:
            more = "More samples decide it; until then limits.undecided does. "
            message = (
                f"{target}: {verdict.limit}: {verdict.outcome}: {verdict.figure} "
                f"on {verdict.runtime}. {more if verdict.outcome is Outcome.UNDECIDED else ''}"
                "No bundle was written; the report shows the samples."
            )
            raise ParityError(message)


def require_fit(target: str, measured: Measured, memory: Memory) -> None:
    """Fail unless the program fits flash and, where that is known, its memory fits RAM.

    Raises:
        BudgetError: It does not; the message says by how much.
    """
    needs = {
        "program": (measured.flash_bytes, memory.flash_bytes),
        "working memory": (measured.ram_bytes, memory.ram_bytes),
    }
    for what, (needed, limit) in needs.items():
        if needed is not None and needed > limit:
            raise BudgetError(f"{target}: {what}", measured=needed, limit=limit, unit="bytes")


def require_no_fallback(target: str, converted: Converted, allowed: tuple[str, ...]) -> None:
    """Fail if an operator left the target's fast path that the recipe does not allow.

    Raises:
        FallbackError: Names every such operator, and why the first one left.
    """
    refused = [f for f in converted.fallbacks if f.operator not in allowed]
    if refused:
        first = refused[0]
        named = ", ".join(repr(f.operator) for f in refused)
        message = (
            f"{target}: {first.operator} ({first.count}x) runs outside the fast path: "
            f"{first.reason.rstrip('.')}. Change the model, or add {named} to limits.allowed_fallbacks."
        )
        raise FallbackError(message)


def require_supported(runtime: str, findings: tuple[Finding, ...]) -> None:
    """Fail if the model uses an operator that the runtime does not have.

    Raises:
        UnsupportedOperatorError: Names the operator, its line and what to do.
    """
    for finding in findings:
        if finding.blocking and not finding.applied:
            raise UnsupportedOperatorError(
                finding.operator,
                runtime=runtime,
                where=finding.where or "model",
                advice=finding.advice,
            )
