"""`contract.json`: the contract and the program's tensors, as every bundle has them."""

import hashlib
import json
from dataclasses import dataclass

import pydantic

from packager.artifacts import TensorIo
from packager.contract.spec import FORMAT_VERSION, Contract


@dataclass(frozen=True, kw_only=True)
class IoContract:
    """How a frame becomes the program's input, and its output an answer."""

    format_version: int = FORMAT_VERSION
    contract: Contract
    input: TensorIo
    output: TensorIo


def text(io: IoContract) -> str:
    """Return the file's content: the same contract gives the same bytes."""
    plain = pydantic.TypeAdapter(IoContract).dump_python(io, mode="json")
    return json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def digest(io: IoContract) -> str:
    """Return the SHA-256 of `contract.json`, by which code and bundle know each other."""
    return hashlib.sha256(text(io).encode()).hexdigest()


def schema() -> dict[str, object]:
    """Return the JSON Schema of the file."""
    return pydantic.TypeAdapter(IoContract).json_schema()
