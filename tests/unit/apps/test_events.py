import json
from base64 import b64encode
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packager.apps.events import (
    BenchEvent,
    Event,
    GoldenEvent,
    MarkEvent,
    OperatorsEvent,
    OperatorTime,
    ProgramEvent,
    of_kind,
    read_events,
)
from packager.errors import DeviceError

DEVICE = "qemu-user:cortex-a53"
PROGRAM: dict[str, object] = {
    "event": "program",
    "runtime": "LiteRT 2.3.0",
    "architecture": "aarch64",
    "model_sha256": "a1" * 32,
    "contract_sha256": "b2" * 32,
    "app": "for other readers",
}
GOLDEN: dict[str, object] = {
    "event": "golden",
    "index": 0,
    "input_equal": True,
    "output": b64encode(bytes([1, 2, 255])).decode(),
    "decision": 1,
}


def lines(*events: dict[str, object]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def test_lines_become_events_in_order() -> None:
    events = read_events(
        lines(
            PROGRAM,
            GOLDEN,
            {"event": "selftest", "passed": True},
            {"event": "mark", "tag": 20, "clock_ns": 7},
            {"event": "bench", "infer_ns": [5, 6]},
            {"event": "operators", "operators": [{"name": "conv", "clock_ns": 4}]},
            {"event": "operators", "operators": None, "reason": "LiteRT does not tell"},
        ),
        DEVICE,
    )
    assert of_kind(events, ProgramEvent)[0].runtime == "LiteRT 2.3.0"
    assert of_kind(events, GoldenEvent) == (
        GoldenEvent.model_construct(
            event="golden", index=0, input_equal=True, output=bytes([1, 2, 255]), decision=1
        ),
    )
    assert of_kind(events, MarkEvent) == (MarkEvent(event="mark", tag=20, clock_ns=7),)
    assert of_kind(events, BenchEvent) == (BenchEvent(event="bench", infer_ns=(5, 6)),)
    assert [event.operators for event in of_kind(events, OperatorsEvent)] == [
        (OperatorTime(name="conv", clock_ns=4),),
        None,
    ]


def test_a_line_that_is_no_event_is_named() -> None:
    with pytest.raises(DeviceError) as caught:
        read_events(lines(PROGRAM) + b"[   12.345] Kernel \x1b[2J panic\n", DEVICE)
    assert str(caught.value) == (
        "qemu-user:cortex-a53: line 2 of the program's output is no event (: Invalid JSON: "
        "trailing characters at line 1 column 13): '[   12.345] Kernel \\x1b[2J panic'. "
        "The device garbles what it prints, or runs another program."
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"event": "surprise"},
        {"event": "program"},
        GOLDEN | {"output": "no base64!"},
        GOLDEN | {"output": 7},
        GOLDEN | {"index": -1},
        PROGRAM | {"model_sha256": "short"},
        {"event": "mark", "tag": 20, "clock_ns": "late"},
    ],
)
def test_an_event_of_another_shape_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DeviceError, match=r"line 1 of the program's output is no event"):
        read_events(lines(wrong), DEVICE)


@given(st.binary(max_size=200))
def test_whatever_a_device_prints_is_events_or_a_named_refusal(printed: bytes) -> None:
    with suppress(DeviceError):
        assert all(isinstance(event, Event) for event in read_events(printed, DEVICE))
