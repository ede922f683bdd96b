"""The values that flow between stages.

    Model -> Pruned -> Tuned -> Converted -> (Parity, Measured) -> Bundle

Each is frozen, holds files by content digest, and can be written to and read from
JSON, so that a stage may be cached without knowing that it is. None holds a time
stamp or a duration: either would change every cache key downstream.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Runtime(StrEnum):
    """The program format that a target runs, and what runs it."""

    EXECUTORCH = "executorch"
    LITERT = "litert"
    TFLITE_MICRO = "tflite-micro"
    TFLITE_LEGACY = "tflite-runtime"
    """TensorFlow Lite before it became LiteRT: the last with a build for 32-bit Arm."""


class Precision(StrEnum):
    """How the program computes."""

    FLOAT32 = "float32"
    INT8 = "int8"


class Layout(StrEnum):
    """Order of the axes of an image tensor; a signal has length in place of height, width."""

    CHANNELS_FIRST = "channels-first"
    CHANNELS_LAST = "channels-last"


@dataclass(frozen=True, kw_only=True)
class File:
    """A file whose content is known."""

    path: Path
    sha256: str
    size_bytes: int

    @classmethod
    def of(cls, path: Path) -> "File":
        """Hash the file at `path`."""
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return cls(path=path, sha256=digest, size_bytes=path.stat().st_size)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Four splits that share no sample.

    Each file is an `.npz` with `frames`, one a row, as the contract fits them to the tensor:
    uint8 or uint16 `(n, height, width)` or `(n, height, width, 3)`, or float32, int16 or int32
    `(n, channels, length)` for signals; and `labels`, int64 `(n,)`, indices into the recipe's
    labels.

    Attributes:
        golden: An `.npz` with a few samples of the evaluation split as they came: `samples`
            and `labels`, int64 `(k,)`, their indices and labels; `frame_000`, ...;
            `orientations`, int64 `(k,)`, EXIF's; `palette_000`, ... where frames have one.
        origin: Where the samples come from, in words, with licence and citation.
        simulated: True where no patient or device ever produced these samples.
    """

    finetune: File
    validation: File
    calibration: File
    evaluation: File
    golden: File
    origin: str
    simulated: bool


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a network costs, independent of any device.

    Attributes:
        parameters: Number of weights, zeros included.
        macs: Multiply-accumulates of convolutions and matrix products for one sample.
        sparsity_ratio: Share of the convolution and linear weights that are zero, 0 to 1.
    """

    parameters: int
    macs: int
    sparsity_ratio: float


@dataclass(frozen=True, kw_only=True)
class OperatorUse:
    """One operator of the model's graph.

    Attributes:
        operator: Its ATen name, such as `aten.conv2d.default`.
        where: File and line of the user's code, such as `model.py:31`; empty if unknown.
        dims: Rank of its first tensor argument.
    """

    operator: str
    where: str
    dims: int


@dataclass(frozen=True, kw_only=True)
class Model:
    """The user's network, as `torch.export` wrote it, with a dynamic batch.

    Attributes:
        input_shape: Of one sample: (channels, height, width) or (channels, length).
    """

    program: File
    input_shape: tuple[int, ...]
    cost: Cost


@dataclass(frozen=True, kw_only=True)
class Imported:
    """The user's network, and where its operators stand in the user's code.

    The two are apart, because a comment in that code moves the lines and must not train
    the network again.
    """

    model: Model
    operators: tuple[OperatorUse, ...]


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One pass over the training samples.

    Attributes:
        train_loss_error: Mean loss over the pass.
        validation_loss_error: Mean loss on the validation split afterwards.
        validation_accuracy_score: 0 to 1.
    """

    train_loss_error: float
    validation_loss_error: float
    validation_accuracy_score: float


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """A network with channels or weights removed.

    Attributes:
        fixed_layers: Hidden layers that structured pruning had to leave whole, because the
            network's code holds their sizes.
    """

    program: File
    before: Cost
    after: Cost
    fixed_layers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A network after training; `best_epoch` (0-based) is the one that was kept.

    Attributes:
        unfitted_layers: Those of a network that lost channels which could not be refitted
            to the original before it was fine-tuned.
    """

    program: File
    history: tuple[Epoch, ...]
    best_epoch: int
    unfitted_layers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TensorIo:
    """How the program wants an input, or gives an output.

    Attributes:
        shape: With the batch axis, which is 1, in `layout`.
        dtype: `int8` or `float32`.
        scale: Of an int8 tensor: real value = scale * (stored - zero_point).
    """

    shape: tuple[int, ...]
    layout: Layout
    dtype: Precision
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True, kw_only=True)
class OperatorCount:
    """How often the program uses an operator, and in which type it computes."""

    operator: str
    dtype: str
    count: int


@dataclass(frozen=True, kw_only=True)
class Fallback:
    """An operator that runs outside the target's fast path, with the reason."""

    operator: str
    count: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A program in the target's own format.

    Attributes:
        operators: All operators of the program, those of delegates included where known.
        fallbacks: Those that no accelerator took, or that compute in float32 in an int8
            program.
    """

    program: File
    runtime: Runtime
    precision: Precision
    input: TensorIo
    output: TensorIo
    operators: tuple[OperatorCount, ...]
    fallbacks: tuple[Fallback, ...]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something in the model that a target will not take, or not take well.

    Attributes:
        blocking: True where the target cannot run it at all.
        where: File and line of the user's code; empty if unknown.
        rewrite: The name of the rewrite that mends it; empty if there is none.
        applied: True where the recipe asked for that rewrite.
    """

    rule: str
    operator: str
    where: str
    problem: str
    advice: str
    blocking: bool
    rewrite: str
    applied: bool


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its 95 % confidence interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class TensorErrors:
    """How far two sets of outputs (logits) differ.

    Attributes:
        sqnr_db: Signal to quantisation-noise ratio; None where the outputs are identical.
        cosine_score: Cosine of the angle between them, -1 to 1.
    """

    max_abs_error: float
    sqnr_db: float | None
    cosine_score: float


@dataclass(frozen=True, kw_only=True)
class MetricDrop:
    """A task metric before and after; a positive drop is a loss.

    Attributes:
        metric: `accuracy` or `auroc`; both range from 0 to 1.
        drop: reference - candidate, with its paired bootstrap interval.
    """

    metric: str
    reference_score: float
    candidate_score: float
    drop: Interval


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two programs on the same samples, side by side.

    Attributes:
        agreement: Share of samples with the same decision, with its interval.
    """

    reference: str
    candidate: str
    samples: int
    decisions_changed: int
    agreement: Interval
    tensors: TensorErrors
    metrics: tuple[MetricDrop, ...]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the float networks answer to the evaluation samples.

    Attributes:
        scores: An `.npz` with `labels` int64 (n,), and `original`, `tuned`: logits,
            float32 (n, classes).
        runtime: What computed them, such as `PyTorch 2.13.0 on x86_64`.
    """

    scores: File
    runtime: str


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How the converted program's answers compare with those of the float networks.

    Attributes:
        runtime: What ran the converted program, such as `LiteRT 2.3.0 on x86_64`.
        scores: An `.npz` as in `Reference`, and `converted`, float32 (n, classes); `shown`,
            int64 (k,), the samples whose probabilities moved most, changed decisions first;
            and `frames`, the raw frames of these (k, ...).
        pruning: original -> pruned and tuned, both float32 in PyTorch.
        conversion: pruned and tuned -> converted.
        whole: original -> converted: what the user of the device meets.
    """

    runtime: str
    scores: File
    pruning: Comparison
    conversion: Comparison
    whole: Comparison


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the program costs, each figure with its source in words.

    Attributes:
        flash_bytes: Size of the program file.
        ram_bytes: Working memory of one inference; None where this machine cannot tell.
        ram_source: How `ram_bytes` was obtained, or why it is None.
    """

    flash_bytes: int
    ram_bytes: int | None
    ram_source: str


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What the user ships: one archive whose manifest lists every file inside."""

    archive: File


@dataclass(frozen=True, kw_only=True)
class Visit:
    """What became of one step in one build.

    Attributes:
        label: What the step ran for, such as a target's name; empty for shared steps.
        reused: True where the result was already here.
        reason: Why it ran: which field of the key changed since its last run.
    """

    step: str
    label: str
    reused: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """The user's model, as files.

    Attributes:
        factory: `module:function`; empty for a program.
        code: The module's file first, then every other Python file beside and below it;
            empty where an installed package holds the factory.
        weights: The checkpoint; None for a program, and for a model yet to be trained.
        program: A `.pt2` file; None for a factory.
    """

    factory: str
    code: tuple[File, ...]
    weights: File | None
    program: File | None


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """One image of a folder data set, with the split and the label of its folders."""

    split: str
    label: str
    file: File


@dataclass(frozen=True, kw_only=True)
class SampleFiles:
    """The user's samples, as files; both are empty for data that is simulated.

    Attributes:
        arrays: `.npz` files: one a split, or one published file with all of them.
        images: Sorted by split, label and name.
    """

    arrays: tuple[File, ...] = ()
    images: tuple[ImageFile, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Linted:
    """What the pre-flight check found for one runtime."""

    findings: tuple[Finding, ...]
