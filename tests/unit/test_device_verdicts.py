from dataclasses import replace

import pytest

from packager import target
from packager.artifacts import Precision
from packager.device_verdicts import judge_validation, require_validation
from packager.errors import BudgetError, OfflineError, ParityError
from packager.target import Target
from packager.validations import OfflineProof, OutputCheck, Validation
from packager.verdicts import Outcome, Verdict
from tests.validation_example import COUNTS, OFFLINE, OUTPUTS, TARGET, VALIDATION

FLOAT = replace(
    OUTPUTS,
    precision=Precision.FLOAT32,
    tolerance_ratio=1e-5,
    tolerance_reason="sums are rounded otherwise",
    max_abs_error=3e-7,
)


@pytest.fixture(scope="module")
def profile() -> Target:
    return target.load(TARGET, target.default_root())


def verdict(limit: str, figure: str, outcome: Outcome = Outcome.MET) -> Verdict:
    return Verdict(
        limit=limit,
        figure=figure,
        outcome=outcome,
        accepted=outcome is Outcome.MET,
        runtime="LiteRT 2.3.0 on aarch64, qemu-system:cortex-a72",
    )


def breached(validation: Validation, profile: Target) -> list[tuple[str, str]]:
    return [
        (each.limit, each.figure)
        for each in judge_validation(validation, profile)
        if not each.accepted
    ]


def with_outputs(outputs: OutputCheck) -> Validation:
    return replace(VALIDATION, outputs=outputs)


def with_offline(offline: OfflineProof) -> Validation:
    return replace(VALIDATION, offline=offline)


def test_a_bundle_that_keeps_its_promises_meets_every_limit(profile: Target) -> None:
    assert judge_validation(VALIDATION, profile) == (
        verdict("outputs equal to those of LiteRT 2.3.0 on x86_64", "0 of 16 differ, at most by 0"),
        verdict("decisions equal", "0 of 16 differ"),
        verdict("inputs equal", "0 of 16 differ"),
        verdict("no network call", "0 among 100 calls"),
        verdict("no network device", "lo"),
        verdict("peak memory <= 268,435,456 bytes", "2,809,856"),
        verdict("an inference <= 50,000,000 instructions", "8,000,000"),
        verdict("start-up <= 1,500,000,000 instructions", "9,000,000"),
    )
    require_validation(VALIDATION, profile)


def test_what_was_not_measured_has_no_verdict(profile: Target) -> None:
    bare = replace(
        with_outputs(replace(OUTPUTS, inputs_differing=None)),
        instructions=None,
        memory=None,
        offline=None,
    )
    assert [each.limit for each in judge_validation(bare, profile)] == [
        "outputs equal to those of LiteRT 2.3.0 on x86_64",
        "decisions equal",
    ]
    require_validation(bare, profile)


def test_one_output_that_differs_is_refused_however_small_the_error(profile: Target) -> None:
    differing = with_outputs(replace(OUTPUTS, outputs_differing=1, max_abs_error=0.0039))
    assert breached(differing, profile) == [
        ("outputs equal to those of LiteRT 2.3.0 on x86_64", "1 of 16 differ, at most by 0.0039")
    ]
    with pytest.raises(ParityError) as caught:
        require_validation(differing, profile)
    assert str(caught.value) == (
        "qemu-system:cortex-a72: of 16 golden samples, 1 outputs are not equal to those of "
        "LiteRT 2.3.0 on x86_64 (error up to 0.0039). Do not ship this bundle for this device; "
        "build it again and compare layer by layer."
    )


def test_float32_outputs_name_their_tolerance(profile: Target) -> None:
    require_validation(with_outputs(FLOAT), profile)
    differing = with_outputs(replace(FLOAT, outputs_differing=2, max_abs_error=0.5))
    assert breached(differing, profile)[0][0] == (
        "outputs within 1e-05 of the largest of those of LiteRT 2.3.0 on x86_64 "
        "(sums are rounded otherwise)"
    )


@pytest.mark.parametrize(
    ("outputs", "problem"),
    [
        (replace(OUTPUTS, inputs_differing=3), "3 inputs are not made byte for byte"),
        (replace(OUTPUTS, decisions_differing=2), "2 decisions differ"),
    ],
)
def test_an_input_or_a_decision_that_differs_is_refused(
    outputs: OutputCheck, problem: str, profile: Target
) -> None:
    with pytest.raises(ParityError, match=problem):
        require_validation(with_outputs(outputs), profile)


def test_a_network_call_is_refused_and_shown(profile: Target) -> None:
    call = "socket(AF_INET, SOCK_STREAM, IPPROTO_IP) = 3"
    leaking = with_offline(replace(OFFLINE, network_calls=(call,)))
    assert breached(leaking, profile) == [("no network call", "1 among 100 calls")]
    with pytest.raises(OfflineError) as caught:
        require_validation(leaking, profile)
    assert str(caught.value) == (
        f"qemu-system:cortex-a72: the program made 1 network calls (strace 6.1): {call}. "
        "A program for offline inference must not have a network, or ask for one."
    )


def test_a_network_device_is_refused(profile: Target) -> None:
    connected = with_offline(replace(OFFLINE, network_devices=("eth0", "lo")))
    assert breached(connected, profile) == [("no network device", "eth0, lo")]
    with pytest.raises(OfflineError, match="has the network devices eth0"):
        require_validation(connected, profile)


def test_too_many_instructions_are_refused_with_the_dearest_operators(profile: Target) -> None:
    slow = replace(VALIDATION, instructions=replace(COUNTS, inference=50_000_001))
    with pytest.raises(BudgetError) as caught:
        require_validation(slow, profile)
    assert str(caught.value) == (
        "ultrasound-handheld-arm64 on qemu-system:cortex-a72: an inference is 50,000,001 "
        "instructions, 1 instructions over the limit of 50,000,000. Most is taken by conv #1 75%, "
        "linear #2 25%. Prune more, or choose a faster device."
    )


def test_a_slow_start_is_refused(profile: Target) -> None:
    slow = replace(VALIDATION, instructions=replace(COUNTS, startup=1_500_000_001, operators=()))
    with pytest.raises(BudgetError, match=r"start-up is .* Run it on qemu-system"):
        require_validation(slow, profile)


def test_too_much_memory_is_refused(profile: Target) -> None:
    assert VALIDATION.memory
    large = replace(VALIDATION, memory=replace(VALIDATION.memory, peak_bytes=268_435_457))
    assert breached(large, profile) == [("peak memory <= 268,435,456 bytes", "268,435,457")]
    with pytest.raises(BudgetError, match="1 bytes over the limit"):
        require_validation(large, profile)


def test_wrong_answers_are_named_before_anything_else(profile: Target) -> None:
    everything = replace(
        with_outputs(replace(OUTPUTS, decisions_differing=1)),
        offline=replace(OFFLINE, network_calls=("socket(AF_INET)",)),
        instructions=replace(COUNTS, inference=10**10),
    )
    with pytest.raises(ParityError):
        require_validation(everything, profile)
