"""Learn from samples which values each tensor of a float program takes."""

import warnings

import numpy as np
from ai_edge_quantizer.calibrator import Calibrator
from ai_edge_quantizer.recipe_manager import RecipeManager
from numpy.typing import NDArray

Range = dict[str, NDArray[np.float32]]
Ranges = dict[str, Range]


def widen(known: Range, sample: Range) -> Range:
    """Return the range that covers both.

    ai-edge-quantizer by itself keeps 95 % of what it knows and takes 5 % of each new sample,
    so that the first sample decides, and a rare high value is clipped on the device.
    For (-1, 2) and (0, 5): (-1, 5).

    Args:
        known: `min` and `max` of a tensor so far, or empty.
        sample: `min` and `max` of the same tensor for one more sample, or empty.
    """
    if not known or not sample:
        return known or sample
    return {
        "min": np.minimum(known["min"], sample["min"]),
        "max": np.maximum(known["max"], sample["max"]),
    }


def observe_ranges(
    program: bytes, samples: list[NDArray[np.float32]], rules: RecipeManager
) -> Ranges:
    """Run a float program on every sample and return the true range of each tensor.

    Args:
        program: A float32 `.tflite` program with one signature and one input.
        samples: Each (1, ...) in the program's own layout.
        rules: What will be quantised, and how.
    """
    with warnings.catch_warnings():
        # It advises against keeping all tensors in memory, which is the point here.
        warnings.filterwarnings("ignore", ".*experimental_preserve_all_tensors")
        calibrator = Calibrator(program, num_threads=1, qsv_update_func=widen)
    key, names = next(iter(calibrator.get_signature_list().items()))
    calibrator.calibrate({key: [{names["inputs"][0]: sample} for sample in samples]}, rules)
    ranges: Ranges = calibrator.get_model_qsvs()
    return ranges
