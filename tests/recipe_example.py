"""A recipe that is right, for the tests that make it wrong in one place."""

import tomllib
from typing import Any

RECIPE = """\
name = "demo"
targets = ["cortex-m4-tflm", "android-arm64-executorch"]

[model]
factory = "model:create"
checkpoint = "weights.safetensors"

[contract]
input_shape = [1, 48, 48]
source = { kind = "image", colour = "gray", bits = 8 }
full_scale = 255
mean = [0.5]
std = [0.25]
activation = "softmax"
labels = ["cyst", "solid"]

[data]
source = "arrays"
finetune = "finetune.npz"
validation = "validation.npz"
calibration = "calibration.npz"
evaluation = "evaluation.npz"
origin = "drawn for a test"
simulated = true

[prune]
method = "structured"
macs_ratio = 0.5

[finetune]
epochs = 3
patience_epochs = 2
batch_size = 16
learning_rate = 0.001

[limits]
min_agreement_ratio = 0.97
max_accuracy_drop = 0.02
max_auroc_drop = 0.02
min_sqnr_db = 15.0
undecided = "refuse"
"""


def tables() -> dict[str, Any]:
    """Return the recipe as `tomllib` reads it."""
    return tomllib.loads(RECIPE)
