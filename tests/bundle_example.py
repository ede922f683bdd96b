"""A bundle of a program that any machine can run: it answers with the mean of each frame."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from packager.artifacts import (
    Comparison,
    Converted,
    Cost,
    Fallback,
    File,
    Finding,
    Interval,
    Layout,
    Measured,
    MetricDrop,
    OperatorCount,
    Precision,
    Runtime,
    TensorErrors,
    TensorIo,
)
from packager.bundles import MeasuredRecord, OperatorRecord, ParityRecord
from packager.contract import Activation, Contract
from packager.distributions import Distribution
from packager.stages.bundle import Contents, bundle
from packager.verdicts import Outcome, Verdict
from tests.contracts import GRAY

TARGET = "cortex-m4-tflm"
SIDE_PX = 4
CONTRACT = Contract(
    input_shape=(1, SIDE_PX, SIDE_PX),
    source=GRAY,
    full_scale=255.0,
    mean=(0.5,),
    std=(0.5,),
    activation=Activation.SOFTMAX,
    labels=("dark", "bright"),
)
INPUT = TensorIo(
    shape=(1, SIDE_PX, SIDE_PX, 1),
    layout=Layout.CHANNELS_LAST,
    dtype=Precision.INT8,
    scale=1 / 127,
    zero_point=0,
)
OUTPUT = TensorIo(
    shape=(1, 2), layout=Layout.CHANNELS_LAST, dtype=Precision.INT8, scale=0.5, zero_point=3
)


class MeanSession:
    """Answers with minus and plus the mean of the input."""

    name = "arithmetic on this machine"

    def run(self, inputs: NDArray[np.generic]) -> NDArray[np.generic]:
        mean = inputs.astype(np.float64).mean(axis=(1, 2, 3)).round()
        answers = np.stack([-mean, mean], axis=1)
        clipped: NDArray[np.generic] = np.clip(answers, -128, 127).astype(np.int8)
        return clipped


def frames_and_labels(samples: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return noisy frames, every fifth of them bright: (n, side, side) and (n,)."""
    rng = np.random.default_rng(0)
    labels = (np.arange(samples) % 5 == 4).astype(np.int64)
    noise = rng.integers(0, 80, (samples, SIDE_PX, SIDE_PX))
    return (noise + 150 * labels[:, np.newaxis, np.newaxis]).astype(np.uint8), labels


def contents(folder: Path) -> Contents:
    """Return the contents of a bundle, whose files are written to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    frames, labels = frames_and_labels(16)
    raw = {f"frame_{place:03}": frame for place, frame in enumerate(frames)}
    upright = np.ones(len(labels), np.int64)
    np.savez(
        folder / "golden.npz",
        allow_pickle=False,
        **raw,
        samples=np.arange(len(labels)),
        labels=labels,
        orientations=upright,
    )
    (folder / "program.tflite").write_bytes(b"TFL3" * 64)
    comparison = Comparison(
        reference="original",
        candidate="converted",
        samples=40,
        decisions_changed=1,
        agreement=Interval(estimate=0.975, low=0.868, high=0.999),
        tensors=TensorErrors(max_abs_error=0.25, sqnr_db=31.5, cosine_score=0.9996),
        metrics=(
            MetricDrop(
                metric="accuracy",
                reference_score=1.0,
                candidate_score=0.975,
                drop=Interval(estimate=0.025, low=0.0, high=0.075),
            ),
        ),
    )
    return Contents(
        target=TARGET,
        summary="A microcontroller",
        recipe="lamp",
        converted=Converted(
            program=File.of(folder / "program.tflite"),
            runtime=Runtime.TFLITE_MICRO,
            precision=Precision.INT8,
            input=INPUT,
            output=OUTPUT,
            operators=(OperatorCount(operator="MEAN", dtype="int8", count=1),),
            fallbacks=(Fallback(operator="ABS", count=1, reason="there is no kernel"),),
        ),
        golden=File.of(folder / "golden.npz"),
        contract=CONTRACT,
        parity=ParityRecord(
            runtime="arithmetic on this machine",
            reference_runtime="PyTorch 2.13.0 on x86_64",
            origin="drawn for a test",
            simulated=True,
            pruning=comparison,
            conversion=comparison,
            whole=comparison,
            verdicts=(
                Verdict(
                    limit="agreement >= 0.970",
                    figure="0.975 [0.868, 0.999]",
                    outcome=Outcome.MET,
                    accepted=True,
                    runtime="arithmetic on this machine",
                ),
            ),
        ),
        measured=MeasuredRecord(
            program=Measured(flash_bytes=256, ram_bytes=2048, ram_source="counted"),
            original=Cost(parameters=10, macs=100, sparsity_ratio=0.0),
            pruned=Cost(parameters=5, macs=50, sparsity_ratio=0.0),
        ),
        operators=OperatorRecord(
            operators=(OperatorCount(operator="MEAN", dtype="int8", count=1),),
            fallbacks=(Fallback(operator="ABS", count=1, reason="there is no kernel"),),
            findings=(
                Finding(
                    rule="a-rule",
                    operator="aten.abs.default",
                    where="model.py:3",
                    problem="there is no kernel",
                    advice="leave it out",
                    blocking=False,
                    rewrite="",
                    applied=False,
                ),
            ),
        ),
        built_with=(
            Distribution(name="numpy", version="2.4.6"),
            Distribution(name="packager", version="0.1.0"),
            Distribution(name="python", version="3.11.7"),
        ),
    )


def write_bundle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the example's bundle to `folder`; return its path."""
    monkeypatch.setattr("packager.stages.bundle.open_session", lambda _converted: MeanSession())
    return bundle.run(folder, contents(folder)).archive.path
