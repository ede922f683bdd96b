"""Write a contract as code: one template for each language, and nothing to link against."""

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from packager.errors import ConfigError
from packager.storage import storage_errors, write_whole

if TYPE_CHECKING:  # the command line needs the list of languages, and nothing heavy with it
    from jinja2 import Environment

    from packager.contract import IoContract


JAVA_PACKAGE = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*")


class Language(StrEnum):
    """What a sample app is written in."""

    C = "c"
    CPP = "cpp"
    JAVA = "java"
    JAVASCRIPT = "javascript"


@dataclass(frozen=True, kw_only=True)
class Template:
    """A template, and what the file is called that it gives; `{}` is the model's name."""

    template: str
    file: str


TEMPLATES = {
    Language.C: (
        Template(template="contract.h.j2", file="{name}_contract.h"),
        Template(template="contract.c.j2", file="{name}_contract.c"),
    ),
    Language.CPP: (
        Template(template="contract.h.j2", file="{name}_contract.h"),
        Template(template="contract.c.j2", file="{name}_contract.c"),
        Template(template="contract.hpp.j2", file="{name}_contract.hpp"),
    ),
    Language.JAVA: (Template(template="contract.java.j2", file="{camel}Contract.java"),),
    Language.JAVASCRIPT: (Template(template="contract.mjs.j2", file="{name}_contract.mjs"),),
}


def generate(
    io: "IoContract", name: str, language: Language, *, package: str = ""
) -> dict[str, str]:
    """Return the files of one language, by name; the same contract gives the same text.

    Args:
        io: The contract, with the program's input and output.
        name: Of the model, as in a recipe: it names files and functions.
        language: What to write.
        package: Of Java, such as `org.example.app`; empty for none.

    Raises:
        ConfigError: The package is no name of one.
    """
    if package and not JAVA_PACKAGE.fullmatch(package):
        problem = f"{package!r} is no name of a Java package, such as 'org.example.app'."
        raise ConfigError("package", problem)
    from packager.codegen.facts import facts_of

    facts = facts_of(io, name)
    environment = _environment()
    names = {"name": facts.name, "camel": camel(facts.name)}
    return {
        entry.file.format(**names): environment.get_template(entry.template).render(
            facts=facts, contract=facts.contract, io=io, package=package, **names
        )
        for entry in TEMPLATES[language]
    }


def write(files: dict[str, str], folder: Path) -> list[Path]:
    """Write generated files to a folder; return their paths.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    places = [folder / name for name in files]
    for place, text in zip(places, files.values(), strict=True):
        write_whole(place, text.encode())
    return places


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    import jinja2
    import numpy as np

    from packager.codegen.facts import scale_and_zero_point

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("packager.codegen", "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 code is no HTML: text goes through `quoted_*`
    )
    environment.filters |= {
        "f32": lambda value: repr(float(np.float32(value))),
        "f64": lambda value: repr(float(value)),
        "quoted_utf8": quoted_utf8,
        "quoted_utf16": quoted_utf16,
        "camel": camel,
    }
    environment.globals |= {"scale_and_zero_point": scale_and_zero_point}
    return environment


def camel(name: str) -> str:
    """Return `breast_net` as `BreastNet`."""
    return "".join(word.capitalize() for word in name.split("_"))


def quoted_utf8(text: str) -> str:
    r"""Return a string literal of C and C++: all but plain ASCII as octal bytes of UTF-8.

    A question mark is escaped too: two of them would begin a trigraph.
    """
    return '"' + re.sub(r"[^ !#->@-\[\]-~]", lambda m: _octal(m[0]), text) + '"'


def _octal(character: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in character.encode())


def quoted_utf16(text: str) -> str:
    """Return a string literal of Java and JavaScript, which is the one of JSON."""
    return json.dumps(text)
