"""What a build produced, for the report, the command line and programs."""

from dataclasses import dataclass

from packager.artifacts import (
    Bundle,
    Converted,
    Dataset,
    Finding,
    Measured,
    Model,
    OperatorUse,
    Parity,
    Pruned,
    Reference,
    Tuned,
    Visit,
)
from packager.contract import Contract
from packager.errors import PackagerError
from packager.recipe import Recipe, UnstructuredPruning
from packager.target import Target
from packager.verdicts import Verdict

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Networks:
    """What all targets share.

    Attributes:
        original: The user's network, trained.
        operators: Those of the original, with the lines of the user's code.
        training: How it was trained; None where the user brought a trained one.
    """

    contract: Contract
    dataset: Dataset
    original: Model
    operators: tuple[OperatorUse, ...]
    training: Tuned | None
    pruned: Pruned
    tuned: Tuned
    reference: Reference


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a target got no bundle."""

    error: str
    message: str
    exit_code: int

    @classmethod
    def of(cls, error: PackagerError) -> "Failure":
        """Keep what a report and an exit code need of `error`."""
        return cls(error=type(error).__name__, message=str(error), exit_code=error.exit_code)


@dataclass(frozen=True, kw_only=True)
class TargetResult:
    """What came out for one target; what a failure kept from being made is None."""

    target: Target
    findings: tuple[Finding, ...] = ()
    converted: Converted | None = None
    parity: Parity | None = None
    verdicts: tuple[Verdict, ...] = ()
    measured: Measured | None = None
    bundle: Bundle | None = None
    failure: Failure | None = None
    visits: tuple[Visit, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Built:
    """All that a build produced.

    Attributes:
        visits: The shared steps, in order: which ran and which were reused.
    """

    recipe: Recipe
    networks: Networks
    targets: tuple[TargetResult, ...]
    visits: tuple[Visit, ...]
    format_version: int = FORMAT_VERSION


def pruning_note(recipe: Recipe, target: Target) -> str:
    """Return what `target` does not gain by the recipe's pruning; empty if it gains."""
    if isinstance(recipe.prune, UnstructuredPruning) and not target.kernels.gain_from_zeros:
        return (
            f"{target.name} computes zeros like any other weight: unstructured pruning makes "
            "the download smaller, and nothing faster."
        )
    return ""
