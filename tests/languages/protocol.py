"""How a test hands frames to generated code in any language, and gets tensors and answers back.

One file of cases goes in, one of results comes out; both little-endian, and simple enough
for C on a microcontroller to read:

    case    12 uint32: contract, kind, height, width, channels, bits, orientation,
            palette entries, payload bytes, palette bytes, version, 0;
            then payload and palette, each padded with zeros to a multiple of 8 bytes
    end     12 uint32, the first one 0xffffffff
    result  2 uint32: status (0, or the number of a Fault), payload bytes; then the payload,
            padded likewise

    kind 0  prepare a frame, or for signals height = leads, width = length, channels = 1;
            payload of the result: the program's input, int8 or float32
    kind 1  answer: the payload is the program's output, int8 or float32; height and width
            are those of the upright frame, for boxes. Result:
            labels    uint32 decided, uint32 0, then for each of top_k:
                      uint32 label, uint32 0, float64 probability
            boxes     uint32 count, uint32 0, then for each:
                      uint32 label, uint32 0, float64 probability, 4 int32 left to bottom
            segments  uint8 for each pixel of the label map
    kind 2  check the format version; the result has no payload
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np

from packager.artifacts import Precision, TensorIo
from packager.contract import IoContract, answers
from packager.contract.frames import fit_frame, frame_of_bytes
from packager.contract.signals import fit_signal, signal_of_bytes
from packager.contract.spec import FORMAT_VERSION
from packager.contract.tensors import normalise, to_device
from packager.errors import Fault, FrameError

CASE = struct.Struct("<12I")
RESULT = struct.Struct("<2I")
END = 0xFFFF_FFFF


class Kind(IntEnum):
    """What a case asks for."""

    PREPARE = 0
    ANSWER = 1
    VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Case:
    """One frame, signal, output or version, for one of the contracts."""

    contract: int
    kind: Kind
    height: int = 0
    width: int = 0
    channels: int = 1
    bits: int = 8
    orientation: int = 1
    payload: bytes = b""
    palette: bytes = b""
    version: int = FORMAT_VERSION

    def encode(self) -> bytes:
        """Return the case as the programs read it."""
        entries = len(self.palette) // max(1, 3 * self.bits // 8)
        head = CASE.pack(
            self.contract, self.kind, self.height, self.width, self.channels, self.bits,
            self.orientation, entries, len(self.payload), len(self.palette), self.version, 0,
        )  # fmt: skip
        return head + _padded(self.payload) + _padded(self.palette)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a case."""

    status: int
    payload: bytes


def write_cases(path: Path, cases: list[Case]) -> None:
    """Write all cases to one file."""
    end = CASE.pack(END, *[0] * 11)
    path.write_bytes(b"".join(case.encode() for case in cases) + end)


def read_results(path: Path) -> list[Result]:
    """Read what a program made of the cases."""
    content, results, at = path.read_bytes(), [], 0
    while at < len(content):
        status, size = RESULT.unpack_from(content, at)
        at += RESULT.size
        results.append(Result(status=status, payload=content[at : at + size]))
        at += len(_padded(content[at : at + size]))
    return results


def expected(case: Case, io: IoContract) -> Result:
    """Return what the reference makes of a case."""
    try:
        return Result(status=0, payload=_payload(case, io))
    except FrameError as error:
        return Result(status=error.fault.number, payload=b"")


def _payload(case: Case, io: IoContract) -> bytes:
    match case.kind:
        case Kind.PREPARE:
            return _prepared(case, io)
        case Kind.ANSWER:
            return _answered(case, io)
        case Kind.VERSION:
            if case.version != FORMAT_VERSION:
                raise FrameError(Fault.UNKNOWN_VERSION, f"format {case.version}")
            return b""


def _prepared(case: Case, io: IoContract) -> bytes:
    contract = io.contract
    if contract.is_image:
        shape = (case.height, case.width, case.channels)
        frame = frame_of_bytes(
            case.payload, shape, contract,
            orientation=case.orientation, bits=case.bits, palette=case.palette,
        )  # fmt: skip
        fitted = fit_frame(frame, contract)
    else:
        shape2 = (case.height, case.width)
        signal = signal_of_bytes(case.payload, shape2, contract, bits=case.bits)
        fitted = fit_signal(signal, contract)
    return to_device(normalise(fitted[np.newaxis], contract), io.input).tobytes()


def _answered(case: Case, io: IoContract) -> bytes:
    contract = io.contract
    stored = np.frombuffer(case.payload, dtype_of(io.output))
    if contract.segments:
        return answers.label_map(stored, io.output, contract).tobytes()
    if contract.boxes:
        found = answers.boxes(
            stored, io.output, contract, height_px=case.height, width_px=case.width
        )
        boxes = (
            struct.pack("<2Id4i", b.label, 0, b.probability, b.left, b.top, b.right, b.bottom)
            for b in found
        )
        return struct.pack("<2I", len(found), 0) + b"".join(boxes)
    answer = answers.answer(stored, io.output, contract)
    return struct.pack("<2I", answer.label, 0) + b"".join(
        struct.pack("<2Id", entry.label, 0, entry.probability) for entry in answer.ranked
    )


def dtype_of(io: TensorIo) -> np.dtype[np.generic]:
    """Return the type of a tensor's values."""
    return np.dtype(np.int8 if io.dtype is Precision.INT8 else "<f4")


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 8)
