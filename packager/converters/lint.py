"""What a target will not take of a model, found before anything is converted.

Each rule was seen to hold with the tools themselves, and tests/integration/test_rewrites.py
sees it again: a converter or a runtime learns new operators with every version.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from packager.artifacts import Finding, OperatorUse, Precision, Runtime
from packager.converters import Conversion
from packager.recipe import Rewrite

EXECUTORCH, LITERT, MICRO = Runtime.EXECUTORCH, Runtime.LITERT, Runtime.TFLITE_MICRO
LEGACY = Runtime.TFLITE_LEGACY
BOTH = frozenset(Precision)
INT8 = frozenset({Precision.INT8})


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One thing that some targets do not take.

    Attributes:
        operators: ATen names without overload, such as `aten.gelu`.
        ranks: Of the operator's first argument; empty where the rank does not matter.
        problem: What happens, to be read after "<operator> ".
        blocking: True where the target cannot run it at all.
    """

    name: str
    runtimes: frozenset[Runtime]
    operators: frozenset[str]
    problem: str
    advice: str
    blocking: bool
    precisions: frozenset[Precision] = BOTH
    ranks: frozenset[int] = frozenset()
    rewrite: Rewrite | None = None

    def fits(self, use: OperatorUse, settings: Conversion) -> bool:
        """Tell whether the rule speaks of this operator on this target."""
        return (
            settings.runtime in self.runtimes
            and settings.precision in self.precisions
            and use.operator.rpartition(".")[0] in self.operators
            and (not self.ranks or use.dims in self.ranks)
        )


def _aten(*names: str) -> frozenset[str]:
    return frozenset(f"aten.{name}" for name in names)


RECURRENT = _aten("lstm", "gru", "rnn_tanh", "rnn_relu")

RULES = (
    Rule(
        name="recurrent-joins-too-many",
        runtimes=frozenset({MICRO}),
        operators=RECURRENT,
        problem="is unrolled over time, and its steps are joined at once. TensorFlow Lite Micro "
        "joins at most 10 tensors.",
        advice="Replace it by convolutions over time.",
        blocking=True,
    ),
    Rule(
        name="recurrent-unrolled",
        runtimes=frozenset({EXECUTORCH, LITERT, LEGACY}),
        operators=RECURRENT,
        problem="is unrolled over time into a dozen operators a step, which makes the conversion "
        "slow; int8 makes the program no smaller.",
        advice="Replace it by convolutions over time, or use a float32 target.",
        blocking=False,
    ),
    Rule(
        name="gelu",
        runtimes=frozenset({MICRO}),
        operators=_aten("gelu"),
        problem="is missing in TensorFlow Lite Micro.",
        advice=f"Add {Rewrite.GELU_TO_SIGMOID.value!r} to convert.rewrites: x * sigmoid(1.702 x) "
        "in its place, which differs by 0.0204 at most. Or train with ReLU.",
        blocking=True,
        rewrite=Rewrite.GELU_TO_SIGMOID,
    ),
    Rule(
        name="fused-attention",
        runtimes=frozenset({EXECUTORCH}),
        operators=_aten("scaled_dot_product_attention"),
        problem="falls apart into pieces, of which XNNPACK takes only some.",
        advice=f"Add {Rewrite.EXPLICIT_ATTENTION.value!r} to convert.rewrites: the same result "
        "from operators that XNNPACK takes.",
        blocking=False,
        rewrite=Rewrite.EXPLICIT_ATTENTION,
    ),
    Rule(
        name="unfolded-batchnorm1d",
        runtimes=frozenset({LITERT, MICRO, LEGACY}),
        operators=_aten("batch_norm"),
        ranks=frozenset({3}),
        problem="stays in the program as a multiplication and an addition.",
        advice=f"Add {Rewrite.FOLD_BATCHNORM1D.value!r} to convert.rewrites: the same result, "
        "folded into the layer before it.",
        blocking=False,
        rewrite=Rewrite.FOLD_BATCHNORM1D,
    ),
    Rule(
        name="activation",
        runtimes=frozenset({MICRO}),
        operators=_aten("elu", "selu", "celu", "mish", "softplus"),
        problem="needs the operator SELECT, which TensorFlow Lite Micro lacks.",
        advice="Train with ReLU, Hardswish or SiLU.",
        blocking=True,
    ),
    Rule(
        name="elementary-function",
        runtimes=frozenset({MICRO}),
        operators=_aten("asin", "atan", "atan2", "fmod", "sign", "trunc"),
        problem="needs operators that TensorFlow Lite Micro lacks: ATAN2, SELECT or SIGN.",
        advice="Compute it before the model or after it.",
        blocking=True,
    ),
    Rule(
        name="reduction",
        runtimes=frozenset({MICRO}),
        operators=_aten("all", "any", "prod"),
        problem="needs operators that TensorFlow Lite Micro lacks: REDUCE_ANY or REDUCE_PROD.",
        advice="Use a sum, a mean or a maximum.",
        blocking=True,
    ),
    Rule(
        name="rearrangement",
        runtimes=frozenset({MICRO}),
        operators=_aten("gather", "grid_sampler", "im2col", "scatter", "topk", "upsample_linear1d"),
        problem="has no form that TensorFlow Lite Micro takes.",
        advice="Select and resample before the model, or use convolution, pooling and "
        "nearest-neighbour upsampling.",
        blocking=True,
    ),
    Rule(
        name="three-dimensional",
        runtimes=frozenset({EXECUTORCH, MICRO}),
        operators=_aten("avg_pool3d", "conv3d", "conv_transpose3d", "max_pool3d"),
        problem="has no kernel there.",
        advice="Use two-dimensional layers with the slices as channels, or a LiteRT target.",
        blocking=True,
    ),
    Rule(
        name="no-int8-form",
        runtimes=frozenset({LITERT}),
        precisions=INT8,
        operators=_aten("avg_pool3d", "max_pool3d"),
        problem="cannot be quantised for LiteRT.",
        advice="Use the float32 target, or another operator.",
        blocking=True,
    ),
    Rule(
        name="newer-operator",
        runtimes=frozenset({LEGACY}),
        operators=_aten("avg_pool3d", "max_pool3d", "scatter"),
        problem="becomes an operator that tflite-runtime 2.14, of 2023, does not know.",
        advice="Use two-dimensional pooling; write with masks in place of indices.",
        blocking=True,
    ),
    Rule(
        name="no-int8-root",
        runtimes=frozenset({LEGACY}),
        precisions=INT8,
        operators=_aten("cosine_similarity", "linalg_vector_norm", "sqrt", "std"),
        problem="takes a square root, which tflite-runtime 2.14 does in float32 only.",
        advice="Use the float32 target, or another operator: a variance in place of a standard "
        "deviation, rsqrt in place of sqrt.",
        blocking=True,
    ),
    Rule(
        name="no-int8-kernel",
        runtimes=frozenset({MICRO}),
        precisions=INT8,
        operators=_aten(
            "cosine_similarity",
            "linalg_vector_norm",
            "logsumexp",
            "nan_to_num",
            "sqrt",
            "std",
        ),
        problem="runs in TensorFlow Lite Micro in float32 only.",
        advice="Use the float32 target, or another operator: a variance in place of a standard "
        "deviation, rsqrt in place of sqrt.",
        blocking=True,
    ),
    Rule(
        name="spectrum",
        runtimes=frozenset({MICRO}),
        operators=_aten("fft_rfft"),
        problem="is missing in TensorFlow Lite Micro.",
        advice="Compute the spectrum before the model.",
        blocking=True,
    ),
    Rule(
        name="lite-conversion",
        runtimes=frozenset({LITERT, MICRO, LEGACY}),
        operators=_aten("col2im", "max_unpool2d", "stft"),
        problem="is refused by LiteRT's converter, or comes out wrong.",
        advice="Compute it before the model or after it, or use a transposed convolution.",
        blocking=True,
    ),
    Rule(
        name="nowhere",
        runtimes=frozenset(Runtime),
        operators=_aten(
            "adaptive_max_pool1d",
            "adaptive_max_pool2d",
            "argsort",
            "complex",
            "cumprod",
            "fft_fft",
            "fft_fft2",
            "linalg_inv",
            "median",
            "nonzero",
            "rand_like",
            "sort",
        ),
        problem="has no form that any of the runtimes takes.",
        advice="Compute it before the model or after it; in place of adaptive max pooling, use "
        "amax over the axes.",
        blocking=True,
    ),
)


def lint(operators: tuple[OperatorUse, ...], settings: Conversion) -> tuple[Finding, ...]:
    """Return what the target will not take, once for each operator and line, in their order.

    Args:
        operators: Those of the user's model, as `torch.export` captured them.
        settings: What the model is to be converted to, and with which rewrites.
    """
    return tuple(dict.fromkeys(_findings(operators, settings)))


def _findings(operators: tuple[OperatorUse, ...], settings: Conversion) -> Iterator[Finding]:
    for use in operators:
        for rule in RULES:
            if rule.fits(use, settings):
                yield Finding(
                    rule=rule.name,
                    operator=use.operator,
                    where=use.where,
                    problem=f"{use.operator} {rule.problem}",
                    advice=rule.advice,
                    blocking=rule.blocking,
                    rewrite=rule.rewrite.value if rule.rewrite else "",
                    applied=rule.rewrite in settings.rewrites,
                )
