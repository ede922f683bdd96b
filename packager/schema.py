"""Describe recipes, targets and contracts as JSON Schema: editors complete and check them."""

from enum import StrEnum
from typing import assert_never

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Document(StrEnum):
    """A file that a user writes, or reads in a bundle."""

    RECIPE = "recipe"
    TARGET = "target"
    CONTRACT = "contract"


def json_schema(document: Document) -> dict[str, object]:
    """Return the JSON Schema of a document: keys, types, ranges and what each key means."""
    match document:
        case Document.RECIPE:
            from packager.recipe import Recipe

            model_schema = Recipe.model_json_schema()
        case Document.TARGET:
            from packager.target import Target

            model_schema = Target.model_json_schema()
        case Document.CONTRACT:
            from packager.contract import document as contract_document

            model_schema = contract_document.schema()
        case _:
            assert_never(document)
    return {"$schema": DIALECT, **model_schema}
