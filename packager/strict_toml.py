"""Read a TOML file into a strict pydantic model; every mistake names file, key and remedy."""

import json
import tomllib
import typing
from pathlib import Path
from typing import TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict

from packager.errors import ConfigError, did_you_mean


class Strict(BaseModel):
    """A table with known keys only, no conversions and no changes afterwards."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


M = TypeVar("M", bound=Strict)


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
    """Build a `model` from what `tomllib` read; `where` begins each error message."""
    try:
        # JSON rules let a list be a tuple and a string a path, and nothing else.
        return model.model_validate_json(json.dumps(table, default=str))
    except pydantic.ValidationError as error:
        raise _config_error(error, model, table, where) from None


def _config_error(
    error: pydantic.ValidationError, model: type[Strict], table: dict[str, object], where: str
) -> ConfigError:
    """Return the first mistake as an error that names its key and says what to do."""
    first = error.errors()[0]
    location = _keys_in_file(first["loc"], table)
    key = ".".join([where, *location])
    match first["type"]:
        case "extra_forbidden":
            known = _known_keys(model, first["loc"][:-1])
            return ConfigError(key, f"unknown key. {did_you_mean(location[-1], known)}")
        case "missing":
            return ConfigError(key, "required key is missing.")
        case "enum" | "literal_error":
            expected = first["ctx"]["expected"].replace(" or ", ", ").replace("'", "")
            remedy = did_you_mean(str(first["input"]), expected.split(", "))
            return ConfigError(key, f"{first['input']!r} is not one of them. {remedy}")
        case "union_tag_invalid" | "union_tag_not_found":
            context = first["ctx"]
            return _tag_error(key, context, first["input"])
    got = f"got {type(first['input']).__name__} ({first['input']!r})"
    return ConfigError(key, f"{first['msg']}, {got}.")


def _tag_error(key: str, context: dict[str, str], table: dict[str, object]) -> ConfigError:
    name = context["discriminator"].strip("'")
    if "tag" not in context:
        return ConfigError(f"{key}.{name}", "required key is missing.")
    known = [tag.strip("' ") for tag in context["expected_tags"].split(", ")]
    problem = f"{table[name]!r} is not one of them. {did_you_mean(context['tag'], known)}"
    return ConfigError(f"{key}.{name}", problem)


def _keys_in_file(location: tuple[int | str, ...], table: object) -> list[str]:
    """Drop the parts of a location that are the union's tag, not a key of the file."""
    keys = []
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if isinstance(table, dict) and part not in table and not last:
            continue
        keys.append(str(part))
        if isinstance(table, dict):
            table = table.get(str(part))
        elif isinstance(table, list) and isinstance(part, int) and part < len(table):
            table = table[part]
    return keys


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the table at `location` may have."""
    candidates: list[object] = [model]
    for part in location:
        fields = [_field_types(c, part) for c in candidates if _is_model(c)]
        stepped = [t for group in fields for t in group]
        # A location part that is no field is a union's tag: stay, and keep its members.
        candidates = stepped or [c for c in candidates if _has_tag(c, part)] or candidates
    return [name for c in candidates if _is_model(c) for name in c.model_fields]


def _field_types(model: type[BaseModel], name: int | str) -> list[object]:
    field = model.model_fields.get(str(name))
    return _flatten(field.annotation) if field else []


def _flatten(annotation: object) -> list[object]:
    arguments = typing.get_args(annotation)
    return [t for a in arguments for t in _flatten(a)] if arguments else [annotation]


def _has_tag(candidate: object, tag: int | str) -> bool:
    if not _is_model(candidate):
        return False
    values = [v for f in candidate.model_fields.values() for v in typing.get_args(f.annotation)]
    return tag in values


def _is_model(candidate: object) -> typing.TypeGuard[type[BaseModel]]:
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)
