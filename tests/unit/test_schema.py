import json

from packager.recipe import Recipe
from packager.schema import Document, json_schema
from packager.strict_toml import Strict
from packager.target import Target


def tables(model: type[Strict]) -> dict[str, dict[str, object]]:
    """Return the schema of a document's tables by name, that of the document itself included."""
    schema = json.loads(json.dumps(json_schema(Document(model.__name__.lower()))))
    named: dict[str, dict[str, object]] = {model.__name__: schema}
    return named | {
        name: table for name, table in schema["$defs"].items() if table["type"] == "object"
    }


def test_no_table_takes_an_unknown_key() -> None:
    for model in (Recipe, Target):
        for name, table in tables(model).items():
            assert table["additionalProperties"] is False, name


def test_ranges_and_meaning_of_a_key_are_in_the_schema() -> None:
    ratio = tables(Recipe)["StructuredPruning"]["properties"]
    assert ratio == {
        "method": {"const": "structured", "title": "Method", "type": "string"},
        "macs_ratio": {
            "description": "Share of the multiply-accumulates to keep.",
            "exclusiveMinimum": 0.0,
            "maximum": 1.0,
            "title": "Macs Ratio",
            "type": "number",
        },
    }


def test_the_facts_of_a_device_are_required() -> None:
    assert tables(Target)["Memory"]["required"] == ["flash_bytes", "ram_bytes"]


def test_each_document_names_its_dialect() -> None:
    for document in Document:
        assert json_schema(document)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
