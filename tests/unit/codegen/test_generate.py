"""Code is written from a contract: always the same, whole, and for every kind of contract."""

import re
from pathlib import Path

import jinja2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from packager import codegen
from packager.artifacts import Layout
from packager.codegen import Language, camel, generate, quoted_utf8, quoted_utf16, write
from packager.contract import FORMAT_VERSION, IoContract, document
from packager.errors import ConfigError, Fault, StorageError
from tests.languages import strategies
from tests.unit.contract.examples import float32, image_contract

LANGUAGES = st.sampled_from(Language)
EVERY_KIND = settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])

PLAIN = IoContract(
    contract=image_contract(1, 4, 4),
    input=float32(Layout.CHANNELS_FIRST, 1, 1, 4, 4),
    output=float32(Layout.CHANNELS_FIRST, 1, 2),
)
FILES = {
    Language.C: ("breast_net_contract.h", "breast_net_contract.c"),
    Language.CPP: (
        "breast_net_contract.h",
        "breast_net_contract.c",
        "breast_net_contract.hpp",
    ),
    Language.JAVA: ("BreastNetContract.java",),
    Language.JAVASCRIPT: ("breast_net_contract.mjs",),
}


@pytest.mark.parametrize("language", list(Language))
def test_files_have_the_models_name(language: Language) -> None:
    assert tuple(generate(PLAIN, "Breast-Net", language)) == FILES[language]


@EVERY_KIND
@given(io=strategies.contracts(), language=LANGUAGES)
def test_code_names_its_contract_and_is_the_same_each_time(
    io: IoContract, language: Language
) -> None:
    files = generate(io, "net", language)
    assert files == generate(io, "net", language)
    for text in files.values():
        assert document.digest(io) in text
        assert text.isascii()
        assert text.endswith("\n")
        assert "\t" not in text
        assert not re.search(r" $", text, re.MULTILINE)


@EVERY_KIND
@given(io=strategies.contracts(), language=LANGUAGES)
def test_code_has_every_fault_with_its_number_and_the_version(
    io: IoContract, language: Language
) -> None:
    code = "".join(generate(io, "net", language).values())
    for fault in Fault:
        name = fault.name if language is not Language.JAVASCRIPT else fault.value
        assert re.search(rf"{name}\W+{fault.number}\b", code), (fault, language)
    assert re.search(rf"FORMAT_VERSION\W+{FORMAT_VERSION}\b", code)


def test_name_that_a_template_does_not_get_is_an_error() -> None:
    assert codegen._environment().undefined is jinja2.StrictUndefined
    with pytest.raises(jinja2.UndefinedError):
        codegen._environment().from_string("{{ contract.mode }}").render(contract=PLAIN.contract)


def test_name_of_a_java_package_goes_into_the_code_and_must_be_one() -> None:
    (plain,) = generate(PLAIN, "net", Language.JAVA).values()
    (packed,) = generate(PLAIN, "net", Language.JAVA, package="org.example.app").values()
    assert packed == f"package org.example.app;\n\n{plain}"
    with pytest.raises(ConfigError) as caught:
        generate(PLAIN, "net", Language.JAVA, package="org.Example; import evil")
    assert str(caught.value) == (
        "package: 'org.Example; import evil' is no name of a Java package, "
        "such as 'org.example.app'."
    )


def test_files_are_written_with_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "code"
    written = write({"a.h": "one\n", "a.c": "two\n"}, folder)
    assert written == [folder / "a.h", folder / "a.c"]
    assert [path.read_bytes() for path in written] == [b"one\n", b"two\n"]
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        write({"a.h": ""}, tmp_path / "file")


# Names and text


def test_camel_case_joins_words() -> None:
    assert camel("breast_net") == "BreastNet"
    assert camel("model_3d") == "Model3d"
    assert camel("net") == "Net"


AWKWARD = st.text(max_size=12) | st.sampled_from(strategies.AWKWARD_LABELS)


@given(AWKWARD)
def test_literal_of_c_is_the_text_in_utf_8(text: str) -> None:
    literal = quoted_utf8(text)
    # Plain characters, and octal escapes of three digits, which no digit after them lengthens.
    assert re.fullmatch(r'"([ !#->@-\[\]-~]|\\[0-3][0-7]{2})*"', literal)
    pieces = re.findall(r"\\([0-7]{3})|(.)", literal[1:-1])
    decoded = bytes(int(octal, 8) if octal else ord(plain) for octal, plain in pieces)
    assert decoded.decode("utf-8") == text


ESCAPES = {"b": 8, "t": 9, "n": 10, "f": 12, "r": 13, '"': 34, "\\": 92}


@given(AWKWARD)
def test_literal_of_java_and_javascript_is_the_text_in_utf_16(text: str) -> None:
    literal = quoted_utf16(text)
    assert re.fullmatch(r'"([ !#-\[\]-\x7f]|\\[btnfr"\\]|\\u[0-9a-f]{4})*"', literal)
    # Java puts these in place before it reads the literal, and would end it there.
    assert not re.search(r"(?<!\\)(\\\\)*\\u00(0a|0d|22|5c)", literal)
    pieces = re.findall(r'\\u([0-9a-f]{4})|\\([btnfr"\\])|(.)', literal[1:-1], re.DOTALL)
    units = [int(u, 16) if u else ESCAPES[e] if e else ord(plain) for u, e, plain in pieces]
    assert b"".join(unit.to_bytes(2, "little") for unit in units).decode("utf-16-le") == text


@pytest.mark.parametrize(
    ("text", "of_c", "of_java"),
    [
        ("b\u00f6sartig", r'"b\303\266sartig"', r'"b\u00f6sartig"'),
        ('"', r'"\042"', r'"\""'),
        ("\\", r'"\134"', r'"\\"'),
        ("??=", r'"\077\077="', '"??="'),
        ("\u00e41", r'"\303\2441"', r'"\u00e41"'),
    ],
)
def test_examples_of_literals(text: str, of_c: str, of_java: str) -> None:
    assert quoted_utf8(text) == of_c
    assert quoted_utf16(text) == of_java
