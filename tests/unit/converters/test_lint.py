from collections import Counter
from dataclasses import replace
from itertools import product

import pytest

from packager.artifacts import Finding, Layout, OperatorUse, Precision, Runtime
from packager.converters import Conversion
from packager.converters.lint import RULES, Rule, lint
from packager.recipe import Rewrite
from packager.target import Io

MICRO = Conversion(
    runtime=Runtime.TFLITE_MICRO,
    precision=Precision.INT8,
    io=Io(layout=Layout.CHANNELS_LAST, dtype=Precision.INT8),
    rewrites=(),
)
LITERT = replace(MICRO, runtime=Runtime.LITERT)
EXECUTORCH = replace(MICRO, runtime=Runtime.EXECUTORCH)
EVERY_TARGET = [
    replace(MICRO, runtime=runtime, precision=precision)
    for runtime, precision in product(Runtime, Precision)
]


def use(operator: str, *, where: str = "model.py:31", dims: int = 4) -> OperatorUse:
    return OperatorUse(operator=operator, where=where, dims=dims)


GELU = use("aten.gelu.default", dims=3)
NORM1D = use("aten.batch_norm.default", dims=3)
ATTENTION = use("aten.scaled_dot_product_attention.default")
LSTM = use("aten.lstm.input", dims=3)

MISSING_GELU = Finding(
    rule="gelu",
    operator="aten.gelu.default",
    where="model.py:31",
    problem="aten.gelu.default is missing in TensorFlow Lite Micro.",
    advice="Add 'gelu-to-sigmoid' to convert.rewrites: x * sigmoid(1.702 x) in its place, which "
    "differs by 0.0204 at most. Or train with ReLU.",
    blocking=True,
    rewrite="gelu-to-sigmoid",
    applied=False,
)


def test_gelu_blocks_a_microcontroller_and_names_its_rewrite() -> None:
    assert lint((GELU,), MICRO) == (MISSING_GELU,)


def test_rewrite_that_the_recipe_asks_for_counts_as_applied() -> None:
    asked = replace(MICRO, rewrites=(Rewrite.GELU_TO_SIGMOID,))
    assert lint((GELU,), asked) == (replace(MISSING_GELU, applied=True),)


def test_another_rewrite_does_not_count_as_applied() -> None:
    other = replace(MICRO, rewrites=(Rewrite.EXPLICIT_ATTENTION, Rewrite.FOLD_BATCHNORM1D))
    assert lint((GELU,), other) == (MISSING_GELU,)


@pytest.mark.parametrize("settings", [LITERT, EXECUTORCH], ids=["litert", "executorch"])
def test_gelu_is_no_matter_elsewhere(settings: Conversion) -> None:
    assert lint((GELU,), settings) == ()


def test_plain_network_has_no_findings_anywhere() -> None:
    plain = tuple(
        use(f"aten.{name}.default")
        for name in ("conv2d", "batch_norm", "relu", "add", "adaptive_avg_pool2d", "linear")
    )
    assert {lint(plain, settings) for settings in EVERY_TARGET} == {()}


def test_same_operator_on_one_line_is_found_once_and_on_two_lines_twice() -> None:
    again = use("aten.gelu.default", where="model.py:40", dims=3)
    found = lint((GELU, GELU, again, GELU), MICRO)
    assert found == (MISSING_GELU, replace(MISSING_GELU, where="model.py:40"))


def test_findings_come_in_the_order_of_the_model() -> None:
    found = lint((LSTM, GELU, NORM1D), MICRO)
    assert [f.rule for f in found] == ["recurrent-joins-too-many", "gelu", "unfolded-batchnorm1d"]


@pytest.mark.parametrize(
    "operator", ["lstm.input", "gru.input", "rnn_tanh.input", "rnn_relu.input"]
)
def test_recurrent_layer_blocks_a_microcontroller_only(operator: str) -> None:
    blocking = {
        settings.runtime: [f.blocking for f in lint((use(f"aten.{operator}", dims=3),), settings)]
        for settings in (EXECUTORCH, LITERT, MICRO)
    }
    assert blocking == {
        Runtime.EXECUTORCH: [False],
        Runtime.LITERT: [False],
        Runtime.TFLITE_MICRO: [True],
    }


def test_attention_is_advised_on_executorch_only() -> None:
    (found,) = lint((ATTENTION,), EXECUTORCH)
    assert (found.rewrite, found.blocking, found.applied) == ("explicit-attention", False, False)
    assert lint((ATTENTION,), LITERT) == lint((ATTENTION,), MICRO) == ()


@pytest.mark.parametrize("dims", [2, 4, 5])
def test_batchnorm_that_the_converter_folds_itself_is_not_found(dims: int) -> None:
    assert lint((use("aten.batch_norm.default", dims=dims),), LITERT) == ()


def test_batchnorm1d_after_a_signal_is_found_where_it_stays_unfolded() -> None:
    found = {s.runtime: [f.rewrite for f in lint((NORM1D,), s)] for s in EVERY_TARGET}
    assert found == {
        Runtime.EXECUTORCH: [],
        Runtime.LITERT: ["fold-batchnorm1d"],
        Runtime.TFLITE_MICRO: ["fold-batchnorm1d"],
        Runtime.TFLITE_LEGACY: ["fold-batchnorm1d"],
    }


def test_square_root_blocks_a_32_bit_handheld_in_int8_only() -> None:
    legacy = replace(LITERT, runtime=Runtime.TFLITE_LEGACY)
    root = use("aten.sqrt.default")
    (found,) = lint((root,), legacy)
    assert (found.rule, found.blocking) == ("no-int8-root", True)
    assert lint((root,), replace(legacy, precision=Precision.FLOAT32)) == ()


def test_operator_without_an_int8_kernel_blocks_only_int8() -> None:
    root = use("aten.sqrt.default")
    (found,) = lint((root,), MICRO)
    assert (found.rule, found.blocking) == ("no-int8-kernel", True)
    assert lint((root,), replace(MICRO, precision=Precision.FLOAT32)) == ()


def test_every_overload_of_an_operator_counts() -> None:
    overloads = (use("aten.fmod.Scalar"), use("aten.fmod.Tensor"))
    assert [f.operator for f in lint(overloads, MICRO)] == ["aten.fmod.Scalar", "aten.fmod.Tensor"]


def test_operator_whose_name_only_begins_alike_is_another() -> None:
    assert lint((use("aten.sort_of.default"), use("aten.gelu_backward.default")), MICRO) == ()


def test_unknown_line_stays_empty() -> None:
    assert lint((replace(GELU, where=""),), MICRO) == (replace(MISSING_GELU, where=""),)


def test_each_rule_has_a_name_of_its_own() -> None:
    assert [name for name, count in Counter(r.name for r in RULES).items() if count > 1] == []


def test_no_operator_meets_two_rules_on_one_target() -> None:
    operators = {name for rule in RULES for name in rule.operators}
    twice = {
        (settings.runtime, settings.precision, name)
        for settings, name in product(EVERY_TARGET, operators)
        if len(lint((use(f"{name}.default", dims=3),), settings)) > 1
    }
    assert twice == set()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rule_reads_as_sentences_and_names_its_rewrite(rule: Rule) -> None:
    assert rule.problem.endswith(".")
    assert rule.advice.endswith(".")
    if rule.rewrite:
        assert f"{rule.rewrite.value!r} to convert.rewrites" in rule.advice
