"""Sources of contracts that many tests share."""

from packager.contract.spec import Colour, ImageSource, SignalSource

GRAY = ImageSource(kind="image", colour=Colour.GRAY, bits=8)
RGB = ImageSource(kind="image", colour=Colour.RGB, bits=8)
SIGNAL = SignalSource(kind="signal", samples="float32")
