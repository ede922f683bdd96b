"""Every language has the same faults under the same numbers."""

from packager.contract.faults import Fault, FrameError

NUMBERS = {
    1: "unknown-version",
    2: "wrong-bit-depth",
    3: "wrong-channels",
    4: "wrong-size",
    5: "truncated",
    6: "wrong-orientation",
    7: "wrong-palette",
    8: "not-finite",
    9: "out-of-range",
    10: "flat-signal",
}


def test_numbers_of_faults_stay_as_devices_know_them() -> None:
    assert {fault.number: fault.value for fault in Fault} == NUMBERS


def test_refusal_names_its_fault_first_and_has_an_exit_code_of_its_own() -> None:
    error = FrameError(Fault.TRUNCATED, "the frame has 3 bytes and should have 4.")
    assert str(error) == "truncated: the frame has 3 bytes and should have 4."
    assert error.fault is Fault.TRUNCATED
    assert error.problem == "the frame has 3 bytes and should have 4."
    assert error.exit_code == 15
