"""Read a TOML file into a strict pydantic model; every mistake names file, key and remedy."""

import json
import tomllib
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict
from pydantic_core import ErrorDetails

from packager.errors import ConfigError, did_you_mean


class Strict(BaseModel):
    """A table with known keys only, no conversions and no changes afterwards."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


M = TypeVar("M", bound=Strict)

# What pydantic calls a mistake, and what a user is told of it; names in braces come from
# the mistake's own context.
PROBLEMS = {
    "bool_type": "must be true or false",
    "dict_type": "must be a table",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "model_type": "must be a table",
    "path_type": "must be text in quotes",
    "string_pattern_mismatch": "must match {pattern}",
    "string_type": "must be text in quotes",
    "too_long": "must be a list of at most {max_length}",
    "too_short": "must be a list of at least {min_length}",
    "tuple_type": "must be a list in brackets",
}


def load(model: type[M], path: Path) -> M:
    """Read the TOML file at `path`.

    Raises:
        ConfigError: The file is missing, is not TOML, or does not have the model's shape.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(str(path), "no such file. `packager new` writes a recipe.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"cannot be read: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(path), f"is not valid TOML: {error}.") from None
    return validate(model, table, str(path))


def validate(model: type[M], table: dict[str, object], where: str) -> M:
    """Build a `model` from what `tomllib` read; `where` begins each error message.

    Raises:
        ConfigError: The table does not have the model's shape.
    """
    for key, value in _dates(table, where):
        raise ConfigError(key, f"{value} is a date, which no key takes. Text goes in quotes.")
    try:
        # JSON rules let a list be a tuple and a string a path, and nothing else.
        return model.model_validate_json(json.dumps(table))
    except pydantic.ValidationError as error:
        # A mistyped key is missing too: the unknown one says more.
        mistakes = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise _config_error(mistakes[0], model, where) from None


def _dates(value: object, where: str) -> Iterator[tuple[str, object]]:
    """Yield, with its key, each value that TOML knows and JSON does not."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _dates(item, f"{where}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _dates(item, f"{where}[{index}]")
    elif not isinstance(value, str | int | float):
        yield where, value


def _config_error(mistake: ErrorDetails, model: type[Strict], where: str) -> ConfigError:
    """Return a mistake as an error that names its key and says what to do."""
    location = mistake["loc"]
    if mistake["type"].startswith("union_tag"):
        location = (*location, mistake["ctx"]["discriminator"].strip("'"))
    place = _find(model, location)
    key = where + "".join(k if k.startswith("[") else f".{k}" for k in place.keys)
    return ConfigError(key, _problem(mistake, place))


def _problem(mistake: ErrorDetails, place: "_Place") -> str:
    """Say what is wrong, in sentences."""
    given, context = mistake["input"], mistake.get("ctx", {})
    match mistake["type"]:
        case "extra_forbidden":
            return f"unknown key. {did_you_mean(place.keys[-1], place.known)}"
        case "missing" | "union_tag_not_found":
            kind = "table" if place.is_table else "key"
            return f"required {kind} is missing. {place.meaning}".rstrip()
        case "enum" | "literal_error":
            return _unknown(given, context["expected"].replace(" or ", ", "))
        case "union_tag_invalid":
            return _unknown(context["tag"], context["expected_tags"])
        case "value_error":
            return f"{context['error']}."
        case kind:
            wrong = PROBLEMS.get(kind, mistake["msg"]).format(**_plain_numbers(context))
            return f"{wrong}, not {_as_toml(given)}. {place.meaning}".rstrip()


def _plain_numbers(context: dict[str, object]) -> dict[str, object]:
    """Return a mistake's context with 1.0 as 1."""
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in context.items()
    }


def _unknown(given: object, expected: str) -> str:
    """Say that `given` is none of the values that pydantic lists in `expected`."""
    known = [value.strip(" '") for value in expected.split(",")]
    return f"{_as_toml(given)} is not known. {did_you_mean(str(given), known)}"


def _as_toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f"'{value}'" if len(value) <= 60 else f"'{value[:60]}...'"
        case list():
            return f"a list of {len(value)}"
        case dict():
            return "a table"
        case _:
            return str(value)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a mistake is.

    Attributes:
        keys: Names of tables and key, and `[index]` for the item of a list.
        known: The keys that its table may have.
        meaning: What the key means, in a sentence; empty if that is not known.
        is_table: True where the key holds a table.
    """

    keys: tuple[str, ...]
    known: tuple[str, ...]
    meaning: str
    is_table: bool


def _find(model: type[Strict], location: tuple[int | str, ...]) -> _Place:
    """Follow a location of pydantic through the model."""
    keys: list[str] = []
    holders: list[type[BaseModel]] = [model]
    inside = holders
    for part in location:
        if isinstance(part, int):
            keys.append(f"[{part}]")
            continue
        tagged = [m for m in inside if _has_tag(m, part)]
        if tagged and part != location[-1]:  # the tag of a union, which is no key of the file
            inside = tagged
            continue
        keys.append(part)
        holders = inside
        inside = [t for m in holders for t in _tables(m, part)]
    named = [m.model_fields[name] for m in holders for name in m.model_fields if name in keys[-1:]]
    return _Place(
        keys=tuple(keys),
        known=tuple(name for m in holders for name in m.model_fields),
        meaning=next((_sentence(field.description) for field in named if field.description), ""),
        is_table=bool(inside),
    )


def _tables(model: type[BaseModel], name: str) -> list[type[BaseModel]]:
    """Return the models that the field may hold; none where it holds plain values."""
    field = model.model_fields.get(name)
    return [] if field is None else [t for t in _flatten(field.annotation) if _is_model(t)]


def _flatten(annotation: object) -> list[object]:
    arguments = typing.get_args(annotation)
    return [t for a in arguments for t in _flatten(a)] if arguments else [annotation]


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    return any(tag in typing.get_args(field.annotation) for field in model.model_fields.values())


def _is_model(candidate: object) -> typing.TypeGuard[type[BaseModel]]:
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)


def _sentence(description: str) -> str:
    return f"Meaning: {' '.join(description.split())}"
