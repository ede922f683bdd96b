"""Gates for a bundle that ran on a device; like all gates they compare, and never compute."""

from packager.errors import BudgetError, OfflineError, ParityError
from packager.target import Target
from packager.validations import InstructionCounts, OfflineProof, OutputCheck, Validation
from packager.verdicts import Outcome, Verdict

LOOPBACK = "lo"
SHOWN_OPERATORS = 3
SHOWN_CALLS = 3
LIGHTER = "Prune more, or choose a faster device."


def judge_validation(validation: Validation, target: Target) -> tuple[Verdict, ...]:
    """Hold what a device showed against what the bundle promises and the target allows.

    What was not measured has no verdict: the validation lists it with the reason.
    """
    return (
        *_output_verdicts(validation),
        *_offline_verdicts(validation),
        *_budget_verdicts(validation, target),
    )


def require_validation(validation: Validation, target: Target) -> None:
    """Fail unless the device showed what was promised: first the answers, then all else.

    Raises:
        ParityError: An input, an output or a decision differs.
        OfflineError: The program reached for a network, or had one.
        BudgetError: Memory, instructions or start-up exceed the target's limits.
    """
    _require_outputs(validation)
    if validation.offline:
        _require_offline(validation.device, validation.offline)
    _require_budgets(validation, target)


def _output_verdicts(validation: Validation) -> list[Verdict]:
    outputs = validation.outputs
    verdicts = [
        _verdict(
            validation,
            limit=f"outputs {_closeness(outputs)} those of {outputs.reference}{_because(outputs)}",
            figure=f"{outputs.outputs_differing} of {outputs.samples} differ, "
            f"at most by {outputs.max_abs_error:.3g}",
            met=outputs.outputs_differing == 0,
        ),
        _verdict(
            validation,
            limit="decisions equal",
            figure=f"{outputs.decisions_differing} of {outputs.samples} differ",
            met=outputs.decisions_differing == 0,
        ),
    ]
    if outputs.inputs_differing is not None:
        figure = f"{outputs.inputs_differing} of {outputs.samples} differ"
        met = outputs.inputs_differing == 0
        verdicts.append(_verdict(validation, limit="inputs equal", figure=figure, met=met))
    return verdicts


def _offline_verdicts(validation: Validation) -> list[Verdict]:
    offline = validation.offline
    if offline is None:
        return []
    verdicts = []
    if offline.source:
        figure = f"{len(offline.network_calls)} among {sum(n for _, n in offline.calls):,} calls"
        met = not offline.network_calls
        verdicts.append(_verdict(validation, limit="no network call", figure=figure, met=met))
    if offline.network_devices is not None:
        figure = ", ".join(offline.network_devices) or "none"
        met = set(offline.network_devices) <= {LOOPBACK}
        verdicts.append(_verdict(validation, limit="no network device", figure=figure, met=met))
    return verdicts


def _budget_verdicts(validation: Validation, target: Target) -> list[Verdict]:
    return [
        _verdict(
            validation,
            limit=f"{what} <= {limit:,} {unit}",
            figure=f"{measured:,}",
            met=measured <= limit,
        )
        for what, measured, limit, unit in _budgets(validation, target)
    ]


def _budgets(validation: Validation, target: Target) -> list[tuple[str, int, int, str]]:
    """Return what was measured beside its limit: what, figure, limit, unit."""
    budgets = []
    if validation.memory:
        peak = validation.memory.peak_bytes
        budgets.append(("peak memory", peak, target.memory.ram_bytes, "bytes"))
    counted, limits = validation.instructions, target.device
    if counted and limits:
        unit = "instructions"
        most, most_at_start = limits.max_inference_instructions, limits.max_startup_instructions
        budgets.append(("an inference", counted.inference, most, unit))
        budgets.append(("start-up", counted.startup, most_at_start, unit))
    return budgets


def _require_outputs(validation: Validation) -> None:
    outputs = validation.outputs
    parts = []
    if outputs.inputs_differing:
        parts.append(f"{outputs.inputs_differing} inputs are not made byte for byte")
    if outputs.outputs_differing:
        many = f"{outputs.outputs_differing} outputs are not {_closeness(outputs)}"
        parts.append(
            f"{many} those of {outputs.reference} (error up to {outputs.max_abs_error:.3g})"
        )
    if outputs.decisions_differing:
        parts.append(f"{outputs.decisions_differing} decisions differ")
    if parts:
        remedy = (
            "Do not ship this bundle for this device; build it again and compare layer by layer."
        )
        what = f"of {outputs.samples} golden samples, {', '.join(parts)}"
        raise ParityError(f"{validation.device}: {what}. {remedy}")


def _require_offline(device: str, offline: OfflineProof) -> None:
    remedy = "A program for offline inference must not have a network, or ask for one."
    if offline.network_calls:
        shown = "; ".join(call[:120] for call in offline.network_calls[:SHOWN_CALLS])
        many = f"{len(offline.network_calls)} network calls ({offline.source}): {shown}"
        raise OfflineError(f"{device}: the program made {many}. {remedy}")
    others = sorted(set(offline.network_devices or ()) - {LOOPBACK})
    if others:
        raise OfflineError(f"{device}: has the network devices {', '.join(others)}. {remedy}")


def _require_budgets(validation: Validation, target: Target) -> None:
    for what, measured, limit, unit in _budgets(validation, target):
        if measured > limit:
            name = f"{target.name} on {validation.device}: {what}"
            remedy = f"{_dearest(validation.instructions)}{LIGHTER}"
            raise BudgetError(name, measured=measured, limit=limit, unit=unit, remedy=remedy)


def _dearest(counted: InstructionCounts | None) -> str:
    if counted is None:
        return ""
    if not counted.operators:
        return "Run it on qemu-system to see what each operator takes. "
    shown = counted.operators[:SHOWN_OPERATORS]
    shares = ", ".join(f"{cost.name} {cost.share_ratio:.0%}" for cost in shown)
    return f"Most is taken by {shares}. "


def _closeness(outputs: OutputCheck) -> str:
    if outputs.tolerance_ratio == 0:
        return "equal to"
    return f"within {outputs.tolerance_ratio:g} of the largest of"


def _because(outputs: OutputCheck) -> str:
    return f" ({outputs.tolerance_reason})" if outputs.tolerance_reason else ""


def _verdict(validation: Validation, *, limit: str, figure: str, met: bool) -> Verdict:
    return Verdict(
        limit=limit,
        figure=figure,
        outcome=Outcome.MET if met else Outcome.BREACHED,
        accepted=met,
        runtime=f"{validation.runtime}, {validation.device}",
    )
