"""Small contracts, to which a test adds what it is about."""

import pytest

from packager.artifacts import Layout, Precision, TensorIo
from packager.contract import Contract
from packager.contract.spec import Activation, Colour, ImageSource, SignalSource, SignalSteps
from packager.errors import FrameError


def image_source(**changes: object) -> ImageSource:
    plain: dict[str, object] = {"kind": "image", "colour": Colour.GRAY, "bits": 8}
    return ImageSource.model_validate(plain | changes)


def image_contract(*input_shape: int, **said: object) -> Contract:
    """One of 8-bit grays, with as many channels and pixels as `input_shape` says."""
    plain: dict[str, object] = {
        "input_shape": input_shape,
        "source": image_source(),
        "full_scale": 255.0,
        "mean": (0.5, 0.25, 0.75)[: input_shape[0]],
        "std": (0.5, 0.25, 0.125)[: input_shape[0]],
        "activation": Activation.SOFTMAX,
        "labels": ("cyst", "solid"),
    }
    return Contract.model_validate(plain | said)


def signal_source(**changes: object) -> SignalSource:
    plain: dict[str, object] = {"kind": "signal", "samples": "float32"}
    return SignalSource.model_validate(plain | changes)


def signal_steps(**changes: object) -> SignalSteps:
    plain: dict[str, object] = {"resolution": 1.0}
    return SignalSteps.model_validate(plain | changes)


INT16 = signal_source(samples="int16")


def signal_contract(*input_shape: int, **said: object) -> Contract:
    """One of float32 signals, with as many leads and samples as `input_shape` says."""
    plain: dict[str, object] = {
        "input_shape": input_shape,
        "source": signal_source(),
        "full_scale": 1.0,
        "mean": (0.0,) * input_shape[0],
        "std": (1.0,) * input_shape[0],
        "activation": Activation.SOFTMAX,
        "labels": ("normal", "ill"),
    }
    return Contract.model_validate(plain | said)


def int8(scale: float, zero_point: int, *shape: int) -> TensorIo:
    return TensorIo(
        shape=shape,
        layout=Layout.CHANNELS_FIRST,
        dtype=Precision.INT8,
        scale=scale,
        zero_point=zero_point,
    )


def float32(layout: Layout, *shape: int) -> TensorIo:
    return TensorIo(shape=shape, layout=layout, dtype=Precision.FLOAT32)


def fault_and_problem(caught: pytest.ExceptionInfo[FrameError]) -> tuple[str, str]:
    """Return what a refusal names, and the sentence that follows."""
    assert str(caught.value) == f"{caught.value.fault}: {caught.value.problem}"
    return caught.value.fault.value, caught.value.problem
