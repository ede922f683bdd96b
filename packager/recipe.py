"""The user's recipe: what to do to their model, in `packager.toml`.

Facts about the model, its data and its limits have no default; matters of taste do.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from packager import strict_toml
from packager.contract import Contract
from packager.errors import ConfigError
from packager.strict_toml import Strict

Count = Annotated[int, Field(ge=1)]
Ratio = Annotated[float, Field(gt=0.0, le=1.0)]
OpenRatio = Annotated[float, Field(gt=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


class ModelSource(Strict):
    """Where the network comes from: either `factory`, or `program`."""

    factory: str | None = None
    """`module:function` that takes no argument and returns an `nn.Module`; the module is
    looked for beside the recipe first."""
    checkpoint: Path | None = None
    """Weights for the factory's module: `.safetensors`, or a `.pt`/`.pth`/`.th` file that
    holds tensors only. Without it, a `[train]` table must say how to train."""
    program: Path | None = None
    """A `.pt2` file from `torch.export.save`, with a dynamic batch dimension."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.factory is None) == (self.program is None):
            message = "give either 'factory' or 'program'"
            raise ValueError(message)
        if self.program is not None and self.checkpoint is not None:
            message = "'checkpoint' goes with 'factory'; a program holds its own weights"
            raise ValueError(message)
        return self


class PhantomData(Strict):
    """Simulated B-mode ultrasound of a cyst or a solid lesion; nothing is downloaded."""

    source: Literal["phantom"]
    finetune_samples: Count
    validation_samples: Count
    calibration_samples: Count
    evaluation_samples: Count


class ArrayData(Strict):
    """One `.npz` for each split, with the arrays `frames` and `labels`."""

    source: Literal["arrays"]
    finetune: Path
    validation: Path
    calibration: Path
    evaluation: Path
    origin: str
    """Where the samples come from, with licence: it goes into report and bundle."""
    simulated: bool
    """True where no patient or device produced them."""


class ImageData(Strict):
    """A folder with one folder for each split, and in it one folder of images a label."""

    source: Literal["images"]
    folder: Path
    """Holds finetune/, validation/, calibration/ and evaluation/, each with <label>/*.png."""
    origin: str
    """Where the samples come from, with licence: it goes into report and bundle."""
    simulated: bool
    """True where no patient or device produced them."""


class MedMnistData(Strict):
    """A published data set, fetched by digest from its publisher or found in --data-dir."""

    source: Literal["medmnist:breastmnist", "medmnist:pneumoniamnist"]
    calibration_samples: Count
    """Taken from the published training split, which keeps the rest."""


DataSource = Annotated[
    PhantomData | ArrayData | ImageData | MedMnistData, Field(discriminator="source")
]


class Training(Strict):
    """How to train or fine-tune; the best epoch on the validation split is kept."""

    epochs: Count
    """At most this many passes over the fine-tuning split."""
    patience_epochs: Count
    """Stop after this many passes without a better validation loss."""
    batch_size: Count
    learning_rate: Positive
    """Peak of a one-cycle schedule, for AdamW."""
    averaging_epochs: Annotated[float, Field(ge=0.0)] = 0.0
    """Keep a running average of the weights over about as many passes: a network less
    shaken by the last few batches. 0 keeps the weights as they are."""


class Augmentation(StrEnum):
    """What is done to a training sample before the network sees it."""

    NONE = "none"
    FLIP_SHIFT = "flip-shift"


class Blending(StrEnum):
    """Whether training samples are mixed with each other."""

    NONE = "none"
    PAIRS = "pairs"


class Distillation(StrEnum):
    """What a pruned network learns from."""

    LABELS = "labels"
    TEACHER = "teacher"


class TrainTable(Training):
    """How to train the network from scratch, where there is no checkpoint."""

    augmentation: Augmentation = Augmentation.FLIP_SHIFT
    """What is done to each sample: 'none' for data that has no left and right."""
    blending: Blending = Blending.NONE
    """'pairs' mixes each sample with another, and their labels alike (mixup): a smoother
    network, which its pruned and its int8 form follow more closely. It needs more epochs."""


class FinetuneTable(Training):
    """How the pruned network recovers."""

    augmentation: Augmentation = Augmentation.FLIP_SHIFT
    """What is done to each sample: 'none' for data that has no left and right."""
    distillation: Distillation = Distillation.TEACHER
    """Learn from the unpruned network's answers, or from the labels alone. A network that
    lost channels and learns from answers has its layers refitted first; it then starts close
    to the unpruned one, and a lower `learning_rate` than that of training keeps it there."""


class NoPruning(Strict):
    """Leave the network as it is."""

    method: Literal["none"]


class StructuredPruning(Strict):
    """Remove whole channels: smaller and faster on every target."""

    method: Literal["structured"]
    macs_ratio: Ratio
    """Share of the multiply-accumulates to keep."""


class UnstructuredPruning(Strict):
    """Set the smallest weights to zero: smaller to download, not faster."""

    method: Literal["unstructured"]
    sparsity_ratio: OpenRatio
    """Share of the weights of each layer to set to zero."""


PruneTable = Annotated[
    NoPruning | StructuredPruning | UnstructuredPruning, Field(discriminator="method")
]


class Rewrite(StrEnum):
    """A change to the graph that a target needs; applied only where the recipe names it."""

    FOLD_BATCHNORM1D = "fold-batchnorm1d"
    EXPLICIT_ATTENTION = "explicit-attention"
    GELU_TO_SIGMOID = "gelu-to-sigmoid"


class ConvertTable(Strict):
    """How to convert."""

    rewrites: tuple[Rewrite, ...] = ()
    """Changes to the graph that the pre-flight check offers."""


class Undecided(StrEnum):
    """What becomes of a limit that the samples are too few to decide."""

    REFUSE = "refuse"
    ACCEPT = "accept"


class Limits(Strict):
    """What a bundle must keep to; a breach stops it."""

    min_agreement_ratio: Ratio
    """Share of the evaluation samples on which converted and original decide alike."""
    max_accuracy_drop: Annotated[float, Field(ge=0.0, le=1.0)]
    """Accuracy of the original less that of the converted: 0.02 for two points."""
    max_auroc_drop: Annotated[float, Field(ge=0.0, le=1.0)]
    """The same for the area under the ROC curve."""
    min_sqnr_db: float
    """Of the converted program against the float network that it was converted from."""
    undecided: Undecided
    """What to do where a drop's confidence interval lies on both sides of its limit."""
    allowed_fallbacks: tuple[str, ...] = ()
    """Operators that may run outside the target's fast path, such as 'aten.mean.dim'."""


class Device(StrEnum):
    """What PyTorch trains on."""

    CPU = "cpu"
    CUDA = "cuda"


class Compute(Strict):
    """What the work on this machine uses."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of everything that is drawn at random."""
    threads: Count = 1
    """Of PyTorch; another number may change the last digits of the weights."""
    device: Device = Device.CPU
    """What PyTorch trains on."""


class Recipe(Strict):
    """Everything that the user decides."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    """Of the model, in lower case: it names the files in the bundle."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names from `packager targets`."""
    folder: Path = Path()
    """Where relative paths start, and where the factory's module is looked for first; by
    default the recipe's own folder."""
    model: ModelSource
    contract: Contract
    data: DataSource
    train: TrainTable | None = None
    prune: PruneTable
    finetune: FinetuneTable
    convert: ConvertTable = ConvertTable()
    limits: Limits
    compute: Compute = Compute()

    @model_validator(mode="after")
    def _trained(self) -> Self:
        untrained = self.model.factory is not None and self.model.checkpoint is None
        if untrained != (self.train is not None):
            message = "a factory needs either model.checkpoint or a [train] table, not both"
            raise ValueError(message)
        return self


def load(path: Path) -> Recipe:
    """Read and validate a recipe; its relative paths are taken from its own folder.

    Raises:
        ConfigError: The recipe is wrong; the message names file, key and remedy.
    """
    recipe = strict_toml.load(Recipe, path)
    duplicates = {name for name in recipe.targets if recipe.targets.count(name) > 1}
    if duplicates:
        raise ConfigError(f"{path}.targets", f"{min(duplicates)!r} is listed twice.")
    return _with_absolute_paths(recipe, path.resolve().parent)


def _with_absolute_paths(recipe: Recipe, folder: Path) -> Recipe:
    def absolute(table: Strict) -> dict[str, object]:
        paths = {k: v for k, v in table if isinstance(v, Path)}
        return {key: folder / value.expanduser() for key, value in paths.items()}

    folder = folder / recipe.folder
    model = recipe.model.model_copy(update=absolute(recipe.model))
    data = recipe.data.model_copy(update=absolute(recipe.data))
    return recipe.model_copy(update={"model": model, "data": data, "folder": folder})
