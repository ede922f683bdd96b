"""The pipeline is `build` and `package_for`: read them to know what happens, in order."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from packager import datasets, sources, target, workers
from packager.built import Built, Failure, Networks, TargetResult
from packager.cache import Cache
from packager.contract import Contract
from packager.converters import Conversion
from packager.errors import ConfigError, PackagerError, did_you_mean, error_with
from packager.publish import publish
from packager.recipe import Recipe
from packager.stages.bundle import Contents, bundle
from packager.stages.convert import convert
from packager.stages.finetune import Student, finetune
from packager.stages.lint import lint
from packager.stages.measure import measure
from packager.stages.model import import_model
from packager.stages.parity import check_parity
from packager.stages.predict import predict
from packager.stages.prune import prune
from packager.stages.samples import load_samples
from packager.stages.train import train
from packager.target import Target
from packager.verdicts import (
    judge,
    require_fit,
    require_no_fallback,
    require_parity,
    require_supported,
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker needs to package for one target."""

    target: Target
    networks: Networks
    recipe: Recipe
    cache_root: Path


def build(
    recipe: Recipe,
    *,
    out: Path,
    cache_root: Path = Path(".packager-cache"),
    data_dir: Path | None = None,
    only: tuple[str, ...] = (),
) -> Built:
    """Take the recipe's model to its targets; write bundles and a report to `out`.

    Args:
        recipe: What to build.
        out: Receives `<target>.zip`, `report.html`, `build.json` and `evidence/`.
        cache_root: Where the results of steps are kept for the next build.
        data_dir: Where published data sets lie already; None fetches them.
        only: Names of the recipe's targets to build for; empty means all.

    Raises:
        PackagerError: A step failed, or a target's gate refused. The other targets'
            bundles and the report are written all the same.
    """
    built = attempt(recipe, out=out, cache_root=cache_root, data_dir=data_dir, only=only)
    require_bundles(built)
    return built


def attempt(
    recipe: Recipe,
    *,
    out: Path,
    cache_root: Path,
    data_dir: Path | None = None,
    only: tuple[str, ...] = (),
) -> Built:
    """Do what `build` does, but return the failure of a target as part of the result.

    Raises:
        PackagerError: A step that all targets share failed; nothing was written to `out`.
    """
    targets = [target.load(name, target.default_root()) for name in recipe.targets]
    chosen = _choose(targets, only)
    cache = Cache(cache_root)
    networks = prepare_networks(recipe, targets, cache, data_dir)
    jobs = [Job(target=t, networks=networks, recipe=recipe, cache_root=cache_root) for t in chosen]
    results = workers.run(package_for, jobs, log=cache_root / "converters.log")
    built = Built(
        recipe=recipe, networks=networks, targets=tuple(results), visits=tuple(cache.visits)
    )
    return publish(built, out)


def require_bundles(built: Built) -> None:
    """Fail unless every target got its bundle.

    Raises:
        PackagerError: Of the first target without one; its message has a line for each.
    """
    failures = [result.failure for result in built.targets if result.failure]
    if failures:
        message = "\n".join(failure.message for failure in failures)
        raise error_with(failures[0].exit_code, message)


def prepare_networks(
    recipe: Recipe, targets: list[Target], cache: Cache, data_dir: Path | None
) -> Networks:
    """Load samples and model, prune and fine-tune: the part that all targets share."""
    contract, compute = recipe.contract, recipe.compute
    _require_classifier(contract)
    samples = datasets.resolve(recipe.data, data_dir)
    dataset = cache.run(load_samples, samples, contract, compute.seed)
    files = sources.resolve(recipe.model, recipe.folder)
    imported = cache.run(import_model, files, contract, compute.seed)
    given, table = imported.model, recipe.train
    training = cache.run(train, given, dataset, contract, table, compute) if table else None
    original = replace(given, program=training.program) if training else given
    # All targets share one pruned network, so its channels must suit every one of them.
    multiple = math.lcm(*(t.kernels.channel_multiple for t in targets))
    pruned = cache.run(prune, original, recipe.prune, multiple)
    student = Student(pruned=pruned, teacher=original)
    tuned = cache.run(finetune, student, dataset, contract, recipe.finetune, compute)
    return Networks(
        contract=contract,
        dataset=dataset,
        original=original,
        operators=imported.operators,
        training=training,
        pruned=pruned,
        tuned=tuned,
        reference=cache.run(predict, original, tuned, dataset, contract),
    )


def package_for(job: Job) -> TargetResult:
    """Convert, compare, measure, judge and bundle for one target, in a worker process.

    A failure is returned with all that was known before it, so that the report can show
    why there is no bundle.
    """
    device, recipe, networks = job.target, job.recipe, job.networks
    contract, dataset = networks.contract, networks.dataset
    cache = Cache(job.cache_root, label=device.name)
    result = TargetResult(target=device)
    try:
        settings = Conversion.of(device, recipe.convert)
        linted = cache.run(lint, networks.operators, settings)
        result = replace(result, findings=linted.findings)
        require_supported(device.runtime, linted.findings)
        converted = cache.run(convert, networks.tuned, dataset.calibration, contract, settings)
        result = replace(result, converted=converted)
        parity = cache.run(check_parity, converted, networks.reference, dataset, contract)
        verdicts = judge(parity, recipe.limits)
        result = replace(result, parity=parity, verdicts=verdicts)
        measured = cache.run(measure, converted)
        result = replace(result, measured=measured)
        require_no_fallback(device.name, converted, recipe.limits.allowed_fallbacks)
        require_fit(device.name, measured, device.memory)
        require_parity(device.name, verdicts)
        result = replace(result, bundle=cache.run(bundle, Contents.of(result, recipe, networks)))
    except PackagerError as error:
        result = replace(result, failure=Failure.of(error))
    return replace(result, visits=tuple(cache.visits))


def _require_classifier(contract: Contract) -> None:
    """Refuse what parity cannot judge yet, rather than call it equal."""
    for key in ("boxes", "segments"):
        if getattr(contract, key):
            problem = "answers of this kind cannot be judged by a build yet, only written as code."
            remedy = "Take the table out and build a classifier, or use `packager.codegen`."
            raise ConfigError(f"contract.{key}", f"{problem} {remedy}")


def _choose(targets: list[Target], only: tuple[str, ...]) -> list[Target]:
    names = [t.name for t in targets]
    for name in only:
        if name not in names:
            problem = f"the recipe has no target {name!r}. {did_you_mean(name, names)}"
            raise ConfigError("--target", problem)
    return [t for t in targets if not only or t.name in only]
