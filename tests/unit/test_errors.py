import pickle

import pytest

from packager.errors import (
    BudgetError,
    BundleError,
    ConfigError,
    ConversionError,
    DataError,
    DeviceError,
    ExportError,
    FallbackError,
    Fault,
    FrameError,
    MissingToolError,
    ModelError,
    OfflineError,
    PackagerError,
    ParityError,
    PruneError,
    StorageError,
    ToolError,
    UnsupportedOperatorError,
    did_you_mean,
    error_with,
)

EXAMPLES: list[tuple[PackagerError, str]] = [
    (ConfigError("a.toml", "no such file."), "a.toml: no such file."),
    (
        MissingToolError("executorch", needed_by="android", install="pip install it."),
        "android needs 'executorch', which is not installed. pip install it.",
    ),
    (
        BudgetError("t: program", measured=12, limit=10, unit="bytes"),
        (
            "t: program is 12 bytes, 2 bytes over the limit of 10. "
            "Prune more, or choose a target with more memory."
        ),
    ),
    (ParityError("too far"), "too far"),
    (FallbackError("not fast"), "not fast"),
    (ModelError("model.conv", "is NaN."), "model.conv: is NaN."),
    (
        ExportError("aten.nonzero.default", where="model.py:31", problem="Its size varies."),
        "model.py:31: aten.nonzero.default cannot be exported. Its size varies.",
    ),
    (
        UnsupportedOperatorError(
            "GELU", runtime="tflite-micro", where="model.py:3", advice="Use ReLU."
        ),
        "model.py:3: tflite-micro has no GELU. Use ReLU.",
    ),
    (DataError("data", "is empty."), "data: is empty."),
    (StorageError("disk full"), "disk full"),
    (BundleError("a.zip", "is damaged."), "a.zip: is damaged."),
    (PruneError("nothing left"), "nothing left"),
    (ConversionError("killed"), "killed"),
    (FrameError(Fault.TRUNCATED, "3 bytes."), "truncated: 3 bytes."),
    (
        ToolError("cmake", "ended with exit code 1", printed="no compiler"),
        "cmake ended with exit code 1. It printed: no compiler",
    ),
    (DeviceError("adb", "no phone is attached."), "adb: no phone is attached."),
    (OfflineError("it called home"), "it called home"),
]


def test_every_error_has_an_example_here() -> None:
    assert {type(error) for error, _ in EXAMPLES} == set(PackagerError.__subclasses__())


def test_exit_codes_are_unique_and_not_those_of_shells() -> None:
    classes: list[type[PackagerError]] = [PackagerError, *PackagerError.__subclasses__()]
    codes = [cls.exit_code for cls in classes]
    assert sorted(codes) == sorted(set(codes))
    assert all(1 <= code < 64 for code in codes)


@pytest.mark.parametrize(("error", "message"), EXAMPLES)
def test_message_says_what_where_and_what_next(error: PackagerError, message: str) -> None:
    assert str(error) == message


@pytest.mark.parametrize("error", [error for error, _ in EXAMPLES])
def test_error_is_rebuilt_from_its_exit_code(error: PackagerError) -> None:
    again = error_with(error.exit_code, str(error))
    assert (type(again), str(again)) == (type(error), str(error))


def test_unknown_exit_code_is_still_an_error_for_users() -> None:
    assert type(error_with(99, "odd")) is PackagerError


@pytest.mark.parametrize("error", [error for error, _ in EXAMPLES])
def test_error_travels_between_processes(error: PackagerError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 what this test wrote itself
    assert (type(again), str(again)) == (type(error), str(error))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("remove_rato", "Did you mean 'remove_ratio'?"),
        ("zzz", "Known: keep, remove_ratio."),
        ("", "Known: keep, remove_ratio."),
    ],
)
def test_unknown_name_gets_a_suggestion_or_the_list(name: str, sentence: str) -> None:
    assert did_you_mean(name, {"remove_ratio", "keep"}) == sentence


def test_suggestion_needs_more_than_the_same_length() -> None:
    assert did_you_mean("gpu", ("cpu", "cuda")) == "Known: cpu, cuda."


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
