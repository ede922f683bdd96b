"""What `scan` prints: one JSON object a line, read as if the device could print anything."""

from base64 import b64decode
from enum import IntEnum
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from packager.errors import DeviceError

E = TypeVar("E", bound="Event")

SHOWN_CHARACTERS = 200
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _from_base64(text: object) -> bytes:
    # pydantic's own Base64Bytes passes over characters that are none of base64.
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no text")  # noqa: TRY004 what pydantic reports
    return b64decode(text, validate=True)


class Marker(IntEnum):
    """The points of a run that are counted between; the C++ program has the same numbers."""

    STARTED = 1
    READY = 2
    DONE = 3
    PREPARING = 10
    PREPARED = 11
    INFERRING = 20
    INFERRED = 21
    ANSWERING = 30
    ANSWERED = 31


class Event(BaseModel):
    """One line. Keys that are for other readers are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ProgramEvent(Event):
    """What runs."""

    event: Literal["program"]
    runtime: str
    """Its name and version, such as `LiteRT 2.3.0`."""
    architecture: str
    model_sha256: Digest
    contract_sha256: Digest


class GoldenEvent(Event):
    """One golden sample."""

    event: Literal["golden"]
    index: Annotated[int, Field(ge=0)]
    input_equal: bool | None
    """Whether the contract's code made the input byte for byte; None where it was not run."""
    output: Annotated[bytes, BeforeValidator(_from_base64)]
    """The bytes of the output tensor, as they were in memory."""
    decision: int | None
    """Index of the label that the contract's code read from it; None where it was not run."""


class MarkEvent(Event):
    """When the program passed a marker, by the device's clock."""

    event: Literal["mark"]
    tag: int
    clock_ns: int


class OperatorTime(Event):
    """How long one operator took, by the device's clock."""

    name: str
    clock_ns: Annotated[int, Field(ge=0)]


class OperatorsEvent(Event):
    """What each operator took; None, with a reason, where the runtime does not tell."""

    event: Literal["operators"]
    operators: tuple[OperatorTime, ...] | None
    reason: str = ""


class BenchEvent(Event):
    """How long each inference took, by the device's clock."""

    event: Literal["bench"]
    infer_ns: tuple[int, ...]


class MemoryEvent(Event):
    """The most memory that the process held."""

    event: Literal["memory"]
    peak_rss_bytes: Annotated[int, Field(ge=0)]
    """An emulator's own memory is in it, where there is one."""


class ErrorEvent(Event):
    """Why the program stopped."""

    event: Literal["error"]
    message: str


class OtherEvent(Event):
    """A line for other readers."""

    event: Literal["selftest", "result"]


Line = Annotated[
    ProgramEvent
    | GoldenEvent
    | MarkEvent
    | OperatorsEvent
    | BenchEvent
    | MemoryEvent
    | ErrorEvent
    | OtherEvent,
    Field(discriminator="event"),
]
LINE: TypeAdapter[Line] = TypeAdapter(Line)


def read_events(stdout: bytes, device: str) -> tuple[Event, ...]:
    """Read what `scan` printed, in order.

    Args:
        stdout: Lines of JSON.
        device: Where it ran, for errors.

    Raises:
        DeviceError: A line is no event.
    """
    return tuple(
        _read(line, number, device) for number, line in enumerate(stdout.splitlines(), start=1)
    )


def of_kind(events: tuple[Event, ...], kind: type[E]) -> tuple[E, ...]:
    """Return the events of one kind, in order."""
    return tuple(event for event in events if isinstance(event, kind))


def _read(line: bytes, number: int, device: str) -> Event:
    try:
        return LINE.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        shown = ascii(line[:SHOWN_CHARACTERS].decode(errors="replace"))
        problem = f"line {number} of the program's output is no event ({where}: {first['msg']})"
        remedy = "The device garbles what it prints, or runs another program."
        raise DeviceError(device, f"{problem}: {shown}. {remedy}") from None
