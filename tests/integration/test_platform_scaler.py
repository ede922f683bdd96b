"""A platform's own scaler in place of ours is caught by the golden tensor.

On the JVM, Graphics2D scales by "bilinear" too, from the same frame to the same size. Nearly
every pixel differs from the smooth resize, and every sixth one from our own bilinear: by one
gray level, which is the harder case.
"""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from packager.artifacts import Layout, Precision, TensorIo
from packager.contract import IoContract
from packager.contract.spec import (
    Activation,
    Colour,
    Contract,
    ImageSource,
    Resize,
    ResizeMode,
)
from tests.conftest import require_program
from tests.languages import java
from tests.languages.protocol import Case, Kind, expected, read_results, write_cases

PLATFORM_SCALER = java.RUNNER.parent / "PlatformScaler.java"
HEIGHT, WIDTH, SIDE = 480, 640, 96


def contract(mode: ResizeMode) -> IoContract:
    """Return the contract of a gray frame of any size, stretched to the tensor's."""
    said = Contract(
        input_shape=(1, SIDE, SIDE),
        source=ImageSource(kind="image", colour=Colour.GRAY, bits=8),
        resize=Resize(mode=mode),
        full_scale=255.0,
        mean=(0.5,),
        std=(0.5,),
        activation=Activation.SOFTMAX,
        labels=("benign", "malignant"),
    )
    first, float32 = Layout.CHANNELS_FIRST, Precision.FLOAT32
    given = TensorIo(shape=(1, 1, SIDE, SIDE), layout=first, dtype=float32)
    return IoContract(
        contract=said, input=given, output=TensorIo(shape=(1, 2), layout=first, dtype=float32)
    )


def speckle() -> bytes:
    """Return a frame of fully developed speckle, as any ultrasound image has it."""
    echoes = np.random.default_rng(0).rayleigh(60.0, (HEIGHT, WIDTH))
    return echoes.clip(0, 255).astype(np.uint8).tobytes()


def scaled_by_platform(frame: bytes, folder: Path) -> bytes:
    program = require_program("java", java.REMEDY)
    before, after = folder / "frame", folder / "scaled"
    before.write_bytes(frame)
    sizes = (str(before), str(HEIGHT), str(WIDTH), str(after), str(SIDE), str(SIDE))
    command = [program, "-Djava.awt.headless=true", str(PLATFORM_SCALER), *sizes]
    subprocess.run(command, check=True, timeout=60)
    return after.read_bytes()


@pytest.mark.parametrize("mode", [ResizeMode.ANTIALIAS, ResizeMode.BILINEAR])
def test_golden_tensor_is_met_by_generated_code_and_missed_by_a_platform_scaler(
    mode: ResizeMode, tmp_path: Path
) -> None:
    io = contract(mode)
    whole = Case(contract=0, kind=Kind.PREPARE, height=HEIGHT, width=WIDTH, payload=speckle())
    # Of the tensor's size already, so that all that is left to do is to normalise it.
    scaled = scaled_by_platform(whole.payload, tmp_path)
    swapped = replace(whole, height=SIDE, width=SIDE, payload=scaled)
    write_cases(tmp_path / "cases", [whole, swapped])
    generated = tmp_path / "generated"
    generated.mkdir()
    ours, theirs = read_results(java.run([io], tmp_path / "cases", generated))
    golden = expected(whole, io)
    assert ours == golden
    assert theirs.status == 0
    assert theirs.payload != golden.payload
