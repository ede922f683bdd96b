import errno

import pytest

from packager.artifacts import Runtime
from packager.errors import ConversionError, DataError, MissingToolError
from packager.stages.convert import _converter_errors

NEXT = "Replace that part of the model by simpler operators, or leave this target out."


def message_for(error: Exception, runtime: Runtime = Runtime.EXECUTORCH) -> str:
    with pytest.raises(ConversionError) as caught, _converter_errors(runtime):
        raise error
    assert caught.value.__cause__ is error
    return str(caught.value)


@pytest.mark.parametrize(
    ("words", "operator"),
    [
        ("\nOperator torch._ops.aten.cumprod.default is not in Core ATen opset.", "aten.cumprod.default"),
        ("Bad.\n\nWhile executing %a : call_function[target=torch.ops.aten.foo.Tensor](x)", "aten.foo.Tensor"),
        ("Bad. call_function[target=executorch.exir.dialects.edge._ops.aten._to_copy.default](x)", "aten._to_copy.default"),
        ("Mismatch.\n\nOperator: <EdgeOpOverload: aten.abs.default>: schema = aten::abs", "aten.abs.default"),
    ],
    ids=["not in opset", "fx", "edge", "verifier"],
)  # fmt: skip
def test_crash_of_a_converter_names_the_operator(words: str, operator: str) -> None:
    assert message_for(RuntimeError(words)).startswith(
        f"executorch: the converter failed at {operator}: "
    )


def test_crash_without_an_operator_is_still_one_message() -> None:
    said = message_for(ValueError("no such layout\nin 30 lines more"), Runtime.LITERT)
    assert said == f"litert: the converter failed: no such layout. {NEXT}"


@pytest.mark.parametrize("words", ["", "\n  \n"], ids=["empty", "blank"])
def test_crash_without_a_word_is_named_by_its_class(words: str) -> None:
    assert message_for(AssertionError(words)) == (
        f"executorch: the converter failed: AssertionError. {NEXT}"
    )


def test_what_the_disk_refuses_keeps_its_own_error() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space left") as caught, _converter_errors(Runtime.LITERT):
        raise full
    assert caught.value is full


def test_message_of_our_own_is_not_wrapped() -> None:
    with pytest.raises(DataError, match="of the wrong shape"), _converter_errors(Runtime.LITERT):
        raise DataError("frames", "of the wrong shape")


@pytest.mark.parametrize(
    ("runtime", "extra"),
    [
        (Runtime.EXECUTORCH, "android"),
        (Runtime.LITERT, "litert"),
        (Runtime.TFLITE_MICRO, "micro"),
        (Runtime.TFLITE_LEGACY, "litert"),
    ],
)
def test_missing_package_names_the_extra_to_install(runtime: Runtime, extra: str) -> None:
    absent = ModuleNotFoundError("No module named 'tool'", name="tool")
    with pytest.raises(MissingToolError) as caught, _converter_errors(runtime):
        raise absent
    assert str(caught.value) == (
        f"Converting to {runtime} needs 'tool', which is not installed. "
        f"pip install 'packager[{extra}]'"
    )


def test_interrupt_passes() -> None:
    with pytest.raises(KeyboardInterrupt), _converter_errors(Runtime.EXECUTORCH):
        raise KeyboardInterrupt
