"""The faults of a frame: see `packager.errors`."""

from packager.errors import Fault, FrameError

__all__ = ["Fault", "FrameError"]
