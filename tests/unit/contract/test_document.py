"""`contract.json` says all of a contract, in the same bytes each time."""

import hashlib
import json

import jsonschema
from hypothesis import HealthCheck, given, settings

from packager.cache import decode
from packager.contract import IoContract, document
from tests.languages import strategies

SCHEMA = jsonschema.Draft202012Validator(document.schema())
EVERY_KIND = settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])


@EVERY_KIND
@given(strategies.contracts())
def test_contract_comes_back_from_its_file_as_it_was(io: IoContract) -> None:
    assert decode(IoContract, json.loads(document.text(io))) == io


@EVERY_KIND
@given(strategies.contracts())
def test_file_fits_its_schema_and_its_digest_is_that_of_its_bytes(io: IoContract) -> None:
    SCHEMA.validate(json.loads(document.text(io)))
    expected = hashlib.sha256(document.text(io).encode("utf-8")).hexdigest()
    assert document.digest(io) == expected
