"""A contract in words says each step, and only those that it has."""

from packager.contract import Activation, Contract, words
from packager.contract.spec import (
    BoxCrop,
    CentreCrop,
    ChannelOrder,
    Colour,
    Fit,
    ImageSource,
    Orientation,
    Resize,
    ResizeMode,
    Sector,
    SignalSource,
    SignalSteps,
    Standardise,
    Taper,
)
from tests.contracts import GRAY, SIGNAL

PLAIN = Contract(
    input_shape=(1, 48, 48),
    source=GRAY,
    full_scale=255.0,
    mean=(0.5,),
    std=(0.25,),
    activation=Activation.SOFTMAX,
    labels=("cyst", "solid"),
)


def test_plain_frames_need_few_words() -> None:
    assert words.steps(PLAIN) == (
        "frames of 8-bit gray, 48 x 48 pixels (height x width)",
        "turned upright as their EXIF orientation says",
        "normalised: (value / 255 - 0.5) / 0.25",
    )


def test_every_step_of_an_image_is_named_in_its_order() -> None:
    contract = Contract(
        input_shape=(3, 32, 64),
        source=ImageSource(kind="image", colour=Colour.YBR, bits=16, size_px=(480, 640)),
        sector=Sector(
            apex_px=(320, -20), left_deg=-35.0, right_deg=35.0, inner_px=30, outer_px=470
        ),
        crop=BoxCrop(kind="box", left_px=8, top_px=4, width_px=600, height_px=300),
        resize=Resize(mode=ResizeMode.AREA, fit=Fit.PAD, fill=7),
        channel_order=ChannelOrder.BGR,
        full_scale=4095.0,
        mean=(0.5, 0.25, 0.125),
        std=(1.0, 2.0, 3.0),
        activation=Activation.SOFTMAX,
        labels=("cyst", "solid"),
    )
    assert words.steps(contract) == (
        "frames of 16-bit luma, blue and red difference, 480 x 640 pixels (height x width)",
        "as blue, green, red",
        "turned upright as their EXIF orientation says",
        "blackened outside the fan of the probe",
        "cut to 300 x 600 pixels, 4 from the top and 8 from the left",
        (
            "resized to 32 x 64 pixels by area: the share of each pixel that is covered, "
            "with 7 around to keep the proportions"
        ),
        "normalised: (value / 4095 - 0.5, 0.25, 0.125) / 1, 2, 3",
    )


def test_colours_that_become_gray_are_said_to() -> None:
    source = ImageSource(
        kind="image", colour=Colour.PALETTE, bits=8, orientation=Orientation.IGNORE
    )
    crop = CentreCrop(kind="centre", keep_ratio=0.875)
    contract = PLAIN.model_copy(
        update={"source": source, "crop": crop, "resize": Resize(mode=ResizeMode.NEAREST)}
    )
    assert words.steps(contract) == (
        "frames of 8-bit indices into a palette, any size (height x width)",
        "reduced to gray (luma of BT.601)",
        "cut to the centre in the tensor's proportions, 87.5% of its sides",
        "resized to 48 x 48 pixels by nearest: the nearest pixel",
        "normalised: (value / 255 - 0.5) / 0.25",
    )


def test_every_step_of_a_signal_is_named_in_its_order() -> None:
    steps = SignalSteps(
        resolution=0.001,
        resample_hz=250,
        fir=(0.25, 0.5, 0.25),
        taper=Taper.HANN,
        standardise=Standardise.WINDOW,
    )
    source = SignalSource(kind="signal", samples="float32", length=500, rate_hz=500)
    contract = PLAIN.model_copy(update={"input_shape": (1, 200), "source": source, "signal": steps})
    assert words.steps(contract) == (
        "signals of 1 x 500 float32 samples at 500 Hz (leads x length)",
        "in whole steps of 0.001",
        "resampled to 250 Hz",
        "filtered by 3 coefficients",
        "cut to 200 samples from the centre",
        "faded at the ends by a Hann window",
        "less the mean of each lead, over its deviation",
    )
    assert words.steps(contract.model_copy(update={"source": SIGNAL, "signal": None})) == (
        "signals of 1 x 200 float32 samples (leads x length)",
        "normalised: (value / 255 - 0.5) / 0.25",
    )
