"""A build as it might have come out, for tests of what is shown and written.

One target is ready, one breached a limit and has no bundle, one never converted. The
figures are computed from the evidence that is written, so that both tell one story.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from packager import target
from packager.artifacts import (
    Bundle,
    Comparison,
    Converted,
    Cost,
    Dataset,
    Epoch,
    Fallback,
    File,
    Finding,
    Interval,
    Layout,
    Measured,
    MetricDrop,
    Model,
    OperatorCount,
    OperatorUse,
    Parity,
    Precision,
    Pruned,
    Reference,
    Runtime,
    TensorErrors,
    TensorIo,
    Tuned,
    Visit,
)
from packager.built import Built, Failure, Networks, TargetResult
from packager.contract import Activation
from packager.errors import ParityError, UnsupportedOperatorError
from packager.recipe import Recipe, Undecided
from packager.verdicts import judge, require_parity, require_supported
from tests.contracts import GRAY

SAMPLES = 400
SIDE_PX = 64
READY = "android-arm64-executorch"
BREACHED = "ultrasound-handheld-arm64"
UNCONVERTED = "cortex-m4-tflm"
REFERENCE_RUNTIME = "PyTorch 2.13.0 on x86_64"
NOWHERE = "0" * 64


def example_built(folder: Path) -> Built:
    """Return a published build of three targets; write the evidence it names to `folder`."""
    recipe = Recipe.model_validate(RECIPE)
    answers = _float_answers()
    reference = Reference(
        scores=_named("scores.npz", NOWHERE, size_bytes=8_126), runtime=REFERENCE_RUNTIME
    )
    return Built(
        recipe=recipe,
        networks=_networks(recipe, reference),
        targets=(
            _ready(recipe, folder, answers),
            _breached(recipe, folder, answers),
            _unconverted(),
        ),
        visits=(
            Visit(step="samples", label="", reused=True, reason=""),
            Visit(step="model", label="", reused=True, reason=""),
            Visit(step="train", label="", reused=True, reason=""),
            Visit(step="prune", label="", reused=False, reason="inputs.1.macs_ratio: 0.6 -> 0.45"),
            Visit(
                step="finetune",
                label="",
                reused=False,
                reason="inputs.1.program.sha256: 5b1e -> 90",
            ),
            Visit(
                step="predict", label="", reused=False, reason="inputs.1.program.sha256: c07d -> 41"
            ),
        ),
    )


RECIPE = {
    "name": "breast-phantom",
    "targets": (READY, BREACHED, UNCONVERTED),
    "model": {"factory": "model:lesion_net"},
    "contract": {
        "input_shape": (1, SIDE_PX, SIDE_PX),
        "source": GRAY,
        "full_scale": 255.0,
        "mean": (0.33,),
        "std": (0.21,),
        "activation": Activation.SOFTMAX,
        "labels": ("cyst", "solid lesion"),
    },
    "data": {
        "source": "phantom",
        "finetune_samples": 1600,
        "validation_samples": 300,
        "calibration_samples": 100,
        "evaluation_samples": SAMPLES,
    },
    "train": {"epochs": 20, "patience_epochs": 5, "batch_size": 64, "learning_rate": 0.003},
    "prune": {"method": "structured", "macs_ratio": 0.45},
    "finetune": {"epochs": 14, "patience_epochs": 4, "batch_size": 64, "learning_rate": 0.001},
    "limits": {
        "min_agreement_ratio": 0.97,
        "max_accuracy_drop": 0.02,
        "max_auroc_drop": 0.02,
        "min_sqnr_db": 15.0,
        "undecided": Undecided.REFUSE,
        "allowed_fallbacks": ("aten.mean.dim",),
    },
}


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the float networks said: labels (n,) and logits (n, 2)."""

    labels: NDArray[np.int64]
    original: NDArray[np.float32]
    tuned: NDArray[np.float32]


def _float_answers() -> Answers:
    rng = np.random.default_rng(7)
    labels = np.arange(SAMPLES, dtype=np.int64) % 2
    margin = np.where(labels == 1, 3.6, -3.6) + rng.normal(0.0, 1.9, SAMPLES)
    retuned = margin * 0.97 + rng.normal(0.0, 0.12, SAMPLES)
    return Answers(labels=labels, original=_logits(margin), tuned=_logits(retuned))


def _logits(margin: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return two outputs (n, 2) whose difference is `margin`."""
    return np.stack([-margin / 2, margin / 2], axis=1).astype(np.float32)


def _networks(recipe: Recipe, reference: Reference) -> Networks:
    before = Cost(parameters=94_978, macs=24_674_304, sparsity_ratio=0.0)
    after = Cost(parameters=41_226, macs=10_953_216, sparsity_ratio=0.0)
    original = Model(
        program=_named("original.pt2", "3f" * 32, size_bytes=431_872),
        input_shape=(1, SIDE_PX, SIDE_PX),
        cost=before,
    )
    slim = _named("tuned.pt2", "90" * 32, size_bytes=214_528)
    return Networks(
        contract=recipe.contract,
        dataset=Dataset(
            finetune=_named("finetune.npz", "a1" * 32, size_bytes=5_881_344),
            validation=_named("validation.npz", "b2" * 32, size_bytes=1_103_872),
            calibration=_named("calibration.npz", "c3" * 32, size_bytes=368_640),
            golden=_named("golden.npz", NOWHERE, size_bytes=120_000),
            evaluation=_named("evaluation.npz", "d4" * 32, size_bytes=1_470_976),
            origin="B-mode ultrasound phantom, simulated by this program: speckle, attenuation, "
            "one cyst or one solid lesion a frame",
            simulated=True,
        ),
        original=original,
        operators=(
            OperatorUse(operator="aten.conv2d.default", where="model.py:31", dims=4),
            OperatorUse(operator="aten.gelu.default", where="model.py:33", dims=4),
        ),
        training=Tuned(program=original.program, history=_history(18, 0.69, 0.1), best_epoch=13),
        pruned=Pruned(
            program=slim,
            before=before,
            after=after,
            fixed_layers=("head.0",),
        ),
        tuned=Tuned(
            program=slim,
            history=_history(12, 0.42, 0.11),
            best_epoch=8,
            unfitted_layers=("stem.0",),
        ),
        reference=reference,
    )


def _history(epochs: int, start: float, floor: float) -> tuple[Epoch, ...]:
    """Return losses that fall, the validation's rising again over the last four epochs."""
    rng = np.random.default_rng(epochs)
    passed = np.arange(epochs)
    falling = floor + (start - floor) * np.exp(-passed / (epochs / 5))
    overfit = 0.006 * np.clip(passed - (epochs - 4), 0, None)
    validation = falling * 1.08 + overfit + rng.normal(0.0, 0.004, epochs)
    return tuple(
        Epoch(
            train_loss_error=float(train),
            validation_loss_error=float(held_out),
            validation_accuracy_score=float(1.0 - held_out / 2.4),
        )
        for train, held_out in zip(falling, validation, strict=True)
    )


def _ready(recipe: Recipe, folder: Path, answers: Answers) -> TargetResult:
    noise = np.random.default_rng(1).normal(0.0, 0.07, (SAMPLES, 2))
    converted = _quantised(answers.tuned + noise, scale=0.06)
    parity = _parity(folder, READY, "ExecuTorch 1.5.1 (XNNPACK) on x86_64", answers, converted)
    return TargetResult(
        target=target.load(READY, target.default_root()),
        findings=(
            Finding(
                rule="fragmented-mean",
                operator="aten.mean.dim",
                where="model.py:47",
                problem="a mean over channels is not a pooling, and XNNPACK leaves it out",
                advice="Average over height and width, or allow the fallback.",
                blocking=False,
                rewrite="",
                applied=False,
            ),
        ),
        converted=Converted(
            program=_named("model.pte", "e5" * 32, size_bytes=60_944),
            runtime=Runtime.EXECUTORCH,
            precision=Precision.INT8,
            input=_float_io((1, 1, SIDE_PX, SIDE_PX), Layout.CHANNELS_FIRST),
            output=_float_io((1, 2), Layout.CHANNELS_FIRST),
            operators=(
                OperatorCount(operator="aten.convolution.default", dtype="int8", count=7),
                OperatorCount(operator="aten.gelu.default", dtype="int8", count=6),
                OperatorCount(operator="aten.add.Tensor", dtype="int8", count=3),
                OperatorCount(operator="aten.linear.default", dtype="int8", count=1),
                OperatorCount(operator="aten.mean.dim", dtype="float32", count=1),
            ),
            fallbacks=(
                Fallback(
                    operator="aten.mean.dim",
                    count=1,
                    reason="XNNPACK takes a mean over height and width only; runs as portable code",
                ),
            ),
        ),
        parity=parity,
        verdicts=judge(parity, recipe.limits),
        measured=Measured(
            flash_bytes=60_944,
            ram_bytes=None,
            ram_source="ExecuTorch on this machine does not tell its delegate's working memory",
        ),
        bundle=Bundle(archive=_named(f"{READY}.zip", "f6" * 32, size_bytes=71_338)),
        visits=_visits(READY, ("lint", "convert", "parity", "measure", "bundle")),
    )


def _breached(recipe: Recipe, folder: Path, answers: Answers) -> TargetResult:
    noise = np.random.default_rng(2).normal(0.0, 1.1, (SAMPLES, 2))
    clipped = np.clip(answers.tuned, -1.7, 1.7) + noise
    parity = _parity(
        folder, BREACHED, "LiteRT 2.3.0 on x86_64", answers, _quantised(clipped, scale=0.05)
    )
    verdicts = judge(parity, recipe.limits)
    return TargetResult(
        target=target.load(BREACHED, target.default_root()),
        converted=Converted(
            program=_named("model.tflite", "a7" * 32, size_bytes=57_416),
            runtime=Runtime.LITERT,
            precision=Precision.INT8,
            input=_float_io((1, SIDE_PX, SIDE_PX, 1), Layout.CHANNELS_LAST),
            output=_float_io((1, 2), Layout.CHANNELS_LAST),
            operators=(
                OperatorCount(operator="CONV_2D", dtype="int8", count=7),
                OperatorCount(operator="GELU", dtype="int8", count=6),
                OperatorCount(operator="ADD", dtype="int8", count=3),
                OperatorCount(operator="QUANTIZE", dtype="int8", count=1),
                OperatorCount(operator="FULLY_CONNECTED", dtype="int8", count=1),
                OperatorCount(operator="DEQUANTIZE", dtype="float32", count=1),
            ),
            fallbacks=(),
        ),
        parity=parity,
        verdicts=verdicts,
        measured=Measured(
            flash_bytes=57_416,
            ram_bytes=183_296,
            ram_source="Sum of the tensors alive at once, from the program's own lifetimes",
        ),
        failure=_failure_of_parity(verdicts),
        visits=_visits(BREACHED, ("lint", "convert", "parity", "measure")),
    )


def _unconverted() -> TargetResult:
    device = target.load(UNCONVERTED, target.default_root())
    finding = Finding(
        rule="unsupported-operator",
        operator="aten.gelu.default",
        where="model.py:33",
        problem="TFLite-Micro has no GELU kernel",
        advice="List 'gelu-to-sigmoid' in convert.rewrites, or train with ReLU.",
        blocking=True,
        rewrite="gelu-to-sigmoid",
        applied=False,
    )
    failure = None
    try:
        require_supported(device.runtime, (finding,))
    except UnsupportedOperatorError as error:
        failure = Failure.of(error)
    return TargetResult(
        target=device, findings=(finding,), failure=failure, visits=_visits(UNCONVERTED, ("lint",))
    )


def _failure_of_parity(verdicts: tuple[object, ...]) -> Failure | None:
    try:
        require_parity(BREACHED, verdicts)  # type: ignore[arg-type]
    except ParityError as error:
        return Failure.of(error)
    return None


def _visits(label: str, steps: tuple[str, ...]) -> tuple[Visit, ...]:
    first = Visit(step=steps[0], label=label, reused=True, reason="")
    reason = "inputs.0.program.sha256: c07d -> 90"
    others = [Visit(step=s, label=label, reused=False, reason=reason) for s in steps[1:]]
    return (first, *others)


def _parity(
    folder: Path,
    name: str,
    runtime: str,
    answers: Answers,
    converted: NDArray[np.float32],
) -> Parity:
    file = _write_evidence(folder, name, answers, converted)
    labels, original, tuned = answers.labels, answers.original, answers.tuned
    device = f"{runtime}, int8"
    return Parity(
        runtime=runtime,
        scores=file,
        pruning=_comparison(labels, ("original", original), ("pruned and tuned", tuned)),
        conversion=_comparison(labels, ("pruned and tuned", tuned), (device, converted)),
        whole=_comparison(labels, ("original", original), (device, converted)),
    )


def _write_evidence(
    folder: Path, name: str, answers: Answers, converted: NDArray[np.float32]
) -> File:
    moved = np.abs(_positive(converted) - _positive(answers.original))
    shown = np.argsort(-moved, kind="stable")[:12].astype(np.int64)
    frames = np.stack([_frame(int(i), solid=bool(answers.labels[i])) for i in shown])
    place = folder / "evidence" / f"{name}.npz"
    place.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        place,
        labels=answers.labels,
        original=answers.original,
        tuned=answers.tuned,
        converted=converted,
        frames=frames,
        shown=shown,
    )
    file = File.of(place)
    return File(path=place.relative_to(folder), sha256=file.sha256, size_bytes=file.size_bytes)


def _frame(sample: int, *, solid: bool) -> NDArray[np.uint8]:
    """Return one speckled frame: a dark cyst, or a brighter lesion with a rough border."""
    rng = np.random.default_rng(sample)
    row, column = np.mgrid[0:SIDE_PX, 0:SIDE_PX] / SIDE_PX - 0.5
    angle = np.arctan2(row, column)
    wobble = 0.05 * np.sin(5 * angle + sample) if solid else 0.0
    centre = rng.uniform(-0.12, 0.12, 2)
    inside = (
        np.hypot((row - centre[0]) * 1.25, column - centre[1]) < rng.uniform(0.16, 0.26) + wobble
    )
    echo = np.where(inside, 0.42 if solid else 0.08, 0.75) * np.exp(-0.8 * (row + 0.5))
    fine = rng.rayleigh(0.62, (SIDE_PX, SIDE_PX))
    speckle = (fine + np.roll(fine, 1, axis=1) + np.roll(fine, 2, axis=1) + np.roll(fine, 1, 0)) / 4
    return np.asarray(np.clip(echo * speckle * 235 + 8, 0, 255), np.uint8)


def _comparison(
    labels: NDArray[np.int64],
    reference: tuple[str, NDArray[np.float32]],
    candidate: tuple[str, NDArray[np.float32]],
) -> Comparison:
    (before_name, before), (after_name, after) = reference, candidate
    same = before.argmax(axis=1) == after.argmax(axis=1)
    noise = after.astype(np.float64) - before
    right = [np.asarray(x.argmax(axis=1) == labels, np.float64) for x in (before, after)]
    areas = [_auroc(labels, x) for x in (before, after)]
    return Comparison(
        reference=before_name,
        candidate=after_name,
        samples=len(labels),
        decisions_changed=int((~same).sum()),
        agreement=_interval(same.astype(np.float64)),
        tensors=TensorErrors(
            max_abs_error=float(np.abs(noise).max()),
            sqnr_db=float(10 * np.log10((before**2).sum() / (noise**2).sum())),
            cosine_score=float(
                (before * after).sum() / np.linalg.norm(before) / np.linalg.norm(after)
            ),
        ),
        metrics=(
            MetricDrop(
                metric="accuracy",
                reference_score=float(right[0].mean()),
                candidate_score=float(right[1].mean()),
                drop=_interval(right[0] - right[1]),
            ),
            MetricDrop(
                metric="auroc",
                reference_score=areas[0],
                candidate_score=areas[1],
                drop=Interval(
                    estimate=areas[0] - areas[1],
                    low=areas[0] - areas[1] - 0.004,
                    high=areas[0] - areas[1] + 0.004,
                ),
            ),
        ),
    )


def _interval(values: NDArray[np.float64]) -> Interval:
    """Return the mean with the normal approximation of its 95 % interval."""
    mean, half = float(values.mean()), 1.96 * float(values.std()) / len(values) ** 0.5
    return Interval(estimate=mean, low=mean - half, high=min(mean + half, 1.0))


def _auroc(labels: NDArray[np.int64], logits: NDArray[np.float32]) -> float:
    positive, negative = (_positive(logits)[labels == k] for k in (1, 0))
    wins = (positive[:, np.newaxis] > negative).mean()
    ties = (positive[:, np.newaxis] == negative).mean()
    return float(wins + ties / 2)


def _positive(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    values = np.asarray(logits, np.float64)
    return np.asarray(1.0 / (1.0 + np.exp(values[:, 0] - values[:, 1])))


def _quantised(values: NDArray[np.floating], *, scale: float) -> NDArray[np.float32]:
    """Return `values` as an int8 tensor of that scale would hold them."""
    return np.asarray(np.clip(np.round(values / scale), -128, 127) * scale, np.float32)


def _float_io(shape: tuple[int, ...], layout: Layout) -> TensorIo:
    return TensorIo(shape=shape, layout=layout, dtype=Precision.FLOAT32)


def _named(name: str, sha256: str, *, size_bytes: int) -> File:
    """Return a file that is named in a published build, and does not lie beside it."""
    return File(path=Path(name), sha256=sha256, size_bytes=size_bytes)
