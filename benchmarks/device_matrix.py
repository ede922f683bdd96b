"""Hold what every emulated core computes against this machine: three networks, two runtimes.

Usage: python -m benchmarks.device_matrix

Builds bundles of published BreastMNIST frames, runs each on five devices, and prints outputs,
instructions and seconds. Exits with 1 where a bundle's gate refuses an output, a count does not
repeat, or a check takes too long. Needs the device kit: `packager setup-device qemu`. The data
are fetched unless PACKAGER_TEST_DATA names the folder that holds `breastmnist/`.
"""

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from packager import bundles, load_recipe, target, workers
from packager.apps import Payload
from packager.apps.building import build_app
from packager.apps.events import GoldenEvent, Marker, of_kind, read_events
from packager.archives import zip_bytes
from packager.artifacts import Precision
from packager.assessment import Runs, assess, read_golden
from packager.bundles import BundledFile, OpenedBundle
from packager.cache import Cache
from packager.devices import Device, Ran, Watch
from packager.devices.kit import Kit, open_kit
from packager.devices.opening import open_device
from packager.pipeline import Job, package_for, prepare_networks
from packager.recipe import Recipe, Rewrite
from packager.validate import BUNDLE, COUNTED, observe
from packager.validations import Validation

RECIPE = Path(__file__).parent / "device_models" / "packager.toml"
CORES = ("cortex-a53", "cortex-a55", "cortex-a72", "cortex-a76")
DEVICES = ("host", *(f"qemu-user:{core}" for core in CORES))
FLOAT32_NETWORK = "resnet"
"""The one that is built as a float32 twin as well."""
NETWORKS = ("resnet", "separable", "attention")
ATTENTION_FALLBACKS = (
    "aten._softmax.default",
    "aten.bmm.default",
    "aten.mean.dim",
    "aten.native_layer_norm.default",
)
"""What XNNPACK's quantizer leaves in float32 of a transformer block."""
FEW_FRAMES = 8
LIMIT_S = 5.0
RUNS = 3
TIMEOUT_S = 120


class Watching(Protocol):
    """Runs a program on a device; see `packager.validate.observe`."""

    def __call__(self, device: Device, payload: Payload, *, timeout_s: float) -> Runs:
        """Return what was seen."""
        ...


@dataclass(frozen=True, kw_only=True)
class Made:
    """A bundle of one network for one target."""

    network: str
    opened: OpenedBundle

    @property
    def title(self) -> str:
        """Network, runtime and precision, such as `resnet litert int8`."""
        manifest = self.opened.manifest
        return f"{self.network} {manifest.runtime} {manifest.precision}"

    @property
    def is_int8(self) -> bool:
        """Whether equal bits are asked for."""
        return self.opened.manifest.precision is Precision.INT8


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one device made of one bundle.

    Attributes:
        outputs: What the program gave for each golden sample, as bytes.
        repeats: Whether all runs gave the same counts, to the digit; None where nothing counts.
        check_s: What a validation takes, once its program is built.
    """

    made: Made
    validation: Validation
    outputs: tuple[bytes, ...]
    repeats: bool | None
    check_s: float


def make_bundles(
    folder: Path, data_dir: Path | None, *, without: frozenset[str] = frozenset()
) -> list[Made]:
    """Build all bundles as the pipeline does, but with one set of workers for all networks.

    Args:
        folder: For all that comes up on the way.
        data_dir: Where the published data lie already; None fetches them.
        without: Targets that are left out.

    Raises:
        PackagerError: A step that all targets share failed.
    """
    jobs = {
        (network, job.target.name): job
        for network in NETWORKS
        for job in _jobs(network, folder, data_dir)
        if job.target.name not in without
    }
    results = workers.run(package_for, list(jobs.values()), log=folder / "converters.log")
    matrix = []
    for (network, _), result in zip(jobs, results, strict=True):
        assert result.bundle, result.failure
        opened = bundles.open_bundle(result.bundle.archive.path)
        matrix.append(Made(network=network, opened=opened))
    return matrix


def _jobs(network: str, folder: Path, data_dir: Path | None) -> list[Job]:
    recipe = recipe_of(network)
    targets = [target.load(name, target.default_root()) for name in recipe.targets]
    networks = prepare_networks(recipe, targets, Cache(folder), data_dir)
    return [
        Job(target=each, networks=networks, recipe=recipe, cache_root=folder)
        for each in targets
        if each.precision is Precision.INT8 or network == FLOAT32_NETWORK
    ]


def recipe_of(network: str) -> Recipe:
    """Return the recipe with one of the networks."""
    recipe = load_recipe(RECIPE)
    update: dict[str, object] = {
        "model": recipe.model.model_copy(update={"factory": f"networks:{network}"})
    }
    if network == "attention":
        allowed = {"allowed_fallbacks": ATTENTION_FALLBACKS}
        rewrites = {"rewrites": (Rewrite.EXPLICIT_ATTENTION,)}
        update["limits"] = recipe.limits.model_copy(update=allowed)
        update["convert"] = recipe.convert.model_copy(update=rewrites)
    return recipe.model_copy(update=update)


def with_files(opened: OpenedBundle, changed: Mapping[str, bytes]) -> bytes:
    """Return the archive with other content in some files, and a manifest that says so."""
    names = [file.name for file in opened.manifest.files]
    files = {name: bundles.read_file(opened, name) for name in names} | dict(changed)
    described = tuple(BundledFile.of(name, data) for name, data in sorted(files.items()))
    manifest = bundles.json_bytes(replace(opened.manifest, files=described))
    return zip_bytes(files | {bundles.MANIFEST: manifest})


def with_few_frames(opened: OpenedBundle) -> bytes:
    """Return the archive with the first golden samples only."""
    from safetensors.numpy import save

    kept = {f"{kind}_{place:03}" for kind in ("frame", "palette") for place in range(FEW_FRAMES)}
    arrays = {
        name: np.ascontiguousarray(array) if name in kept else array[:FEW_FRAMES].copy()
        for name, array in read_golden(opened).items()
        if name in kept or not name.startswith(("frame_", "palette_"))
    }
    return with_files(opened, {bundles.GOLDEN: save(arrays)})


def look(
    made: Made,
    on: str,
    kit: Kit,
    cache_root: Path,
    *,
    watching: Watching = observe,
    runs: int = RUNS,
) -> Seen:
    """Do what a validation does, but for its gates.

    Args:
        made: The bundle.
        on: The device.
        kit: Has what the device needs.
        cache_root: Keeps built programs.
        watching: What to do on the device; by default all that a validation does.
        runs: In how many to count, where that is more than `watching` does.

    Raises:
        PackagerError: The program cannot be built, or the device failed.
    """
    opened = made.opened
    with open_device(on, kit=kit, ram_bytes=2**28, memory_limit_bytes=None) as device:
        payload = build_app(opened, device.architecture, kit, cache_root=cache_root)
        start = time.perf_counter()
        put(device, payload, opened)
        observed = watching(device, payload, timeout_s=TIMEOUT_S)
        validation = assess(opened, device, payload, observed)
        check_s = time.perf_counter() - start
        events = read_events(observed.counted.stdout, device.name)
        return Seen(
            made=made,
            validation=validation,
            outputs=tuple(event.output for event in of_kind(events, GoldenEvent)),
            repeats=_repeats(device, payload, observed, runs=runs),
            check_s=check_s,
        )


def put(device: Device, payload: Payload, opened: OpenedBundle) -> None:
    """Bring a program and its bundle onto a device."""
    for each in (payload.program, *payload.libraries):
        device.put(each.file.path, each.name)
    device.put(opened.archive.path, BUNDLE)


def _repeats(device: Device, payload: Payload, observed: Runs, *, runs: int) -> bool | None:
    """Tell whether each run passed each marker after the same number of instructions."""
    if Watch.INSTRUCTIONS not in device.watches or observed.counted_again is None:
        return None
    command = [*payload.command, "--bundle", BUNDLE, *COUNTED]
    counted = [observed.counted, observed.counted_again]
    while len(counted) < runs:
        counted.append(device.run(command, timeout_s=TIMEOUT_S, watch=Watch.INSTRUCTIONS))
    first, *others = (_marks(ran) for ran in counted)
    return bool(first) and all(other == first for other in others)


def _marks(ran: Ran) -> list[object]:
    # Before the last marker times are printed, with more digits in one run than in another.
    return [mark for mark in ran.marks if mark.tag != Marker.DONE]


def seconds_of_few_frames(made: Made, kit: Kit, folder: Path) -> float:
    """Return what the check of a bundle with a few frames takes on an emulated core."""
    place = folder / "few.zip"
    place.write_bytes(with_few_frames(made.opened))
    few = Made(network=made.network, opened=bundles.open_bundle(place))
    return look(few, DEVICES[-1], kit, folder, runs=0).check_s


def row(seen: Seen) -> str:
    """Return a line of the table."""
    outputs, counted = seen.validation.outputs, seen.validation.instructions
    closeness = "equal"
    if outputs.max_abs_error > 0 or outputs.outputs_differing:
        closeness = f"{outputs.max_abs_error:.3g}, {outputs.outputs_differing} refused"
    simd = ""
    if counted:
        named = [c for c in counted.simd if c.name not in {"load", "store", "simd"}]
        simd = " ".join(f"{count.name} {count.instructions:,}" for count in named)
    inference = f"{counted.inference:,}" if counted else "-"
    return (
        f"{seen.made.title:26} {seen.validation.device:22} {closeness:22} {inference:>10} "
        f"{seen.check_s:5.1f} s  {simd}"
    )


def print_fallbacks(made: Made) -> None:
    """Say what an int8 program computes in float32."""
    fallbacks = made.opened.operators.fallbacks
    if made.is_int8 and fallbacks:
        names = ", ".join(f"{fallback.operator} x {fallback.count}" for fallback in fallbacks)
        print(f"{made.title:26} in float32: {names}")


def summarise(seen: list[Seen], few_s: float) -> bool:
    """Print a line for each measure; return whether all are met."""
    int8 = [each for each in seen if each.made.is_int8]
    unequal = [each for each in int8 if each.validation.outputs.max_abs_error > 0]
    unequal_titles = sorted({each.made.title for each in unequal})
    refused = [each for each in seen if each.validation.outputs.outputs_differing]
    counted = [each.repeats for each in seen if each.repeats is not None]
    check_s = max(each.check_s for each in int8 if each.validation.emulated)
    print(f"qemu-user check of an int8 bundle on {FEW_FRAMES} frames: {few_s:.1f} s", end=" ")
    print(f"(limit {LIMIT_S:g} s); on 16 frames, at most: {check_s:.1f} s")
    print(f"instruction counts repeat: {_yes(all(counted))} over {RUNS} runs, ", end="")
    print(f"{counted.count(True)} of {len(counted)} bundles and cores")
    titles = {each.made.title for each in int8}
    print(f"int8 outputs equal on host, {', '.join(CORES)}: {_yes(not unequal)} ", end="")
    print(
        f"({len(titles) - len(unequal_titles)} of {len(titles)} bundles x {len(DEVICES)} devices)"
    )
    for title in unequal_titles:
        print(
            f"  not equal: {title}: {', '.join(e.validation.device for e in unequal if e.made.title == title)}"
        )
    for device in DEVICES:
        errors = [
            _error_ratio(e) for e in seen if e.validation.device == device and not e.made.is_int8
        ]
        print(f"float32 on {device}: at most {max(errors):.2g} of the largest output (limit 1e-05)")
    return all(counted) and bool(counted) and not refused and few_s <= LIMIT_S


def _error_ratio(seen: Seen) -> float:
    largest = np.abs(read_golden(seen.made.opened)["outputs"].astype(np.float64)).max()
    return float(seen.validation.outputs.max_abs_error / largest)


def _yes(condition: bool) -> str:  # noqa: FBT001 it is one word of a line
    return "yes" if condition else "no"


def main() -> int:
    """Build, run and print; return 1 where something is not as it should be."""
    data, kit = os.environ.get("PACKAGER_TEST_DATA"), open_kit()
    seen = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        matrix = list(make_bundles(folder / "cache", Path(data) if data else None))
        for made in matrix:
            print_fallbacks(made)
            for device in DEVICES:
                seen.append(look(made, device, kit, folder))
                print(row(seen[-1]), flush=True)
        few_s = seconds_of_few_frames(matrix[0], kit, folder)
        return 0 if summarise(seen, few_s) else 1


if __name__ == "__main__":
    sys.exit(main())
