import numpy as np

from tests.conftest import require_package

require_package("ai_edge_quantizer", "litert")

from packager.converters.calibration import Range, widen


def value_range(low: float, high: float) -> Range:
    return {"min": np.array([[low]], np.float32), "max": np.array([[high]], np.float32)}


def test_range_covers_what_was_known_and_what_is_new() -> None:
    assert widen(value_range(-1, 2), value_range(0, 5)) == value_range(-1, 5)
    assert widen(value_range(-1, 2), value_range(-3, 1)) == value_range(-3, 2)


def test_range_inside_the_known_one_changes_nothing() -> None:
    assert widen(value_range(-3, 5), value_range(-1, 2)) == value_range(-3, 5)


def test_order_of_samples_does_not_matter() -> None:
    first, second = value_range(-1, 2), value_range(0, 5)
    assert widen(first, second) == widen(second, first)


def test_sample_without_a_range_takes_nothing_away() -> None:
    assert widen({}, value_range(-1, 2)) == value_range(-1, 2)
    assert widen(value_range(-1, 2), {}) == value_range(-1, 2)
