"""Say before any work is done what a target will not take."""

from pathlib import Path

from packager.artifacts import Linted, OperatorUse
from packager.cache import step
from packager.converters import Conversion
from packager.converters.lint import lint as find


@step(version=1)
def lint(_out: Path, operators: tuple[OperatorUse, ...], settings: Conversion) -> Linted:
    """Look the model's operators up in the table of what each target lacks."""
    return Linted(findings=find(operators, settings))
