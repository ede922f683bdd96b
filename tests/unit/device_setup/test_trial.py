import pytest

from packager.device_setup import trial
from tests import known_network

RIGHT = "\n".join(str(value) for value in trial.KNOWN_ANSWER).encode() + b"\n"
WRONG = "computes a wrong answer to the known int8 network"


def test_the_known_network_is_the_one_that_is_written_in_code() -> None:
    assert trial.NETWORK.read_bytes() == known_network.program()


def test_the_known_answer_is_that_of_whole_number_arithmetic() -> None:
    assert known_network.answer() == trial.KNOWN_ANSWER


def test_the_known_answer_has_no_fault() -> None:
    assert trial._fault_in(0, RIGHT) is None


@pytest.mark.parametrize("printed", [b"", b"crash", RIGHT + b"0\n", RIGHT.replace(b"14", b"13")])
def test_any_other_answer_is_a_fault(printed: bytes) -> None:
    assert trial._fault_in(0, printed) == WRONG


def test_a_program_that_does_not_end_well_is_a_fault() -> None:
    assert trial._fault_in(-11, RIGHT) == "ends the known network with -11"
