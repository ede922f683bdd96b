"""What data sources give, for tests that look at the frames."""

import numpy as np
from numpy.typing import NDArray

from packager.datasets.splits import Labelled, Loaded, Split


def raw_frames(loaded: Loaded, split: Split) -> NDArray[np.generic]:
    """Return the raw frames of a split that is in memory."""
    found = loaded.splits[split]
    assert isinstance(found, Labelled), "images stay in their files"
    return found.frames
