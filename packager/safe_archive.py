"""Refuse a `.pt2` archive that could run code of its own when it is loaded.

`torch.export.load` unpickles some parts of an archive, imports operators by the names
that it finds, evaluates symbolic expressions and loads compiled libraries. A program
from `torch.export.save` needs none of that beyond plain tensors and ATen operators, so
whatever goes further is refused before PyTorch sees the file.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from packager.errors import ModelError

MAX_ARCHIVE_BYTES = 4 * 2**30
MAX_JSON_BYTES = 256 * 2**20

# What `torch.export.save` of PyTorch 2.13 writes, below the archive's one top folder.
KNOWN_MEMBERS = re.compile(
    r"version|byteorder|archive_format|archive_version|\.data/serialization_id|\.data/version"
    r"|\.format_version|data/sample_inputs/\w+\.pt|models/\w+\.json"
    r"|data/(weights|constants)/(\w+_config\.json|model_(weights|constants)_config\.json"
    r"|(weight|tensor)_\d+)"
)
KNOWN_OPERATORS = re.compile(
    r"torch\.ops\.(aten|quantized_decomposed)\.\w+\.\w+"
    r"|_operator\.(getitem|add|sub|mul|neg|floordiv|mod|truediv|pow|eq|ne|lt|le|gt|ge|and_|or_)"
    r"|torch\.(sym_int|sym_float|sym_max|sym_min|sym_not|_sym_sqrt)"
    r"|math\.(ceil|floor|trunc)"
)
# Symbols such as s77, and the functions that shape expressions use: no dots, no other names.
EXPRESSION = re.compile(
    r"(?:\s|[-+*/(),<>=]|\d+|\b(?:[su]\d+|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|oo|int_oo"
    r"|Integer|Rational|Add|Mul|Pow)\b|Symbol\('[su]\d+'(?:, (?:positive|nonnegative|integer|real)=(?:True|False))*\))*"
)


def require_safe(path: Path) -> None:
    """Fail unless the program at `path` holds plain tensors and ATen operators only.

    Raises:
        ModelError: The file is no `.pt2` archive, is damaged, or could run code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
    except FileNotFoundError:
        raise ModelError(str(path), "no such file.") from None
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
        remedy = "Write it with torch.export.save of PyTorch 2.13."
        raise ModelError(str(path), f"is not a readable .pt2 archive: {error}. {remedy}") from None


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    if sum(member.file_size for member in members) > MAX_ARCHIVE_BYTES:
        raise ModelError(str(path), f"unpacks to more than {MAX_ARCHIVE_BYTES} bytes.")
    if not any("/models/" in member.filename for member in members):
        raise ModelError(str(path), "holds no exported program. Write it with torch.export.save.")
    for member in members:
        name = member.filename.partition("/")[2]
        if not KNOWN_MEMBERS.fullmatch(name):
            _refuse(path, f"holds {name!r}, which a plain exported program does not need")
        if name.endswith(".json"):
            _check_json(path, name, _read_json(path, archive, member))
        elif name.endswith(".pt"):
            _check_tensors(path, name, archive.read(member))


def _read_json(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> object:
    if member.file_size > MAX_JSON_BYTES:
        _refuse(path, f"holds a description of {member.file_size} bytes")
    loaded: object = json.loads(archive.read(member))
    return loaded


def _check_json(path: Path, name: str, description: object) -> None:
    for key, value in _entries(description):
        if key == "use_pickle" and value is not False:
            _refuse(path, f"holds pickled values ({name})")
        if key == "path_name" and not re.fullmatch(r"(weight|tensor)_\d+", str(value)):
            _refuse(path, f"holds {value!r}, which is no plain tensor")
        if key == "target" and isinstance(value, str) and "." in value:
            # Targets of graph nodes are operators; those of inputs are names of weights.
            _check_operator(path, value)
        if key == "expr_str" and not EXPRESSION.fullmatch(str(value)):
            _refuse(path, f"holds the expression {value!r}")


def _check_operator(path: Path, target: str) -> None:
    dangerous = target.startswith(("torch.", "_operator.", "math.", "operator.", "builtins."))
    if dangerous and not KNOWN_OPERATORS.fullmatch(target):
        _refuse(path, f"calls {target!r}, which is no ATen operator")


def _check_tensors(path: Path, name: str, content: bytes) -> None:
    import pickle

    import torch

    if not content:
        return
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError):
        _refuse(path, f"holds example inputs ({name}) that are not plain tensors")


def _entries(value: object) -> Iterator[tuple[str, object]]:
    """Yield every key with its value, at any depth."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key), item
            yield from _entries(item)
    elif isinstance(value, list):
        for item in value:
            yield from _entries(item)


def _refuse(path: Path, what: str) -> None:
    remedy = "It could run code; ask its author for a plain program from torch.export.save."
    raise ModelError(str(path), f"{what}. {remedy}")
