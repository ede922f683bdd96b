"""An output becomes one answer, the same bits in every language."""

import math
from decimal import Context, Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy import special

from packager.artifacts import Layout
from packager.contract.answers import (
    Answer,
    Box,
    Scored,
    answer,
    boxes,
    decisions,
    exponential,
    exponential_tables,
    label_map,
    overlaps,
    probabilities,
    ranked,
    require_finite_output,
    sigmoid,
    softmax,
)
from packager.contract.spec import (
    Activation,
    BoxCrop,
    Boxes,
    BoxForm,
    Contract,
    Fit,
    Resize,
    ResizeMode,
    Segments,
)
from packager.errors import FrameError
from tests.unit.contract.examples import fault_and_problem, float32, image_contract, int8

LOGITS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(2, 6)),
    elements=st.floats(-100.0, 100.0, width=32),
)
RELATIVE = 2e-6


def three_labels(**said: object) -> Contract:
    return image_contract(1, 8, 8, labels=("a", "b", "c"), **said)


def binary(**said: object) -> Contract:
    return image_contract(1, 8, 8, activation=Activation.SIGMOID, **said)


# The exponential


def test_entries_of_the_tables_are_correctly_rounded() -> None:
    context = Context(prec=60)
    tables = exponential_tables()
    assert [len(table) for table in tables] == [32] * 4
    for k, table in enumerate(tables, start=1):
        for i, entry in enumerate(table):
            exact = context.power(Decimal(2), context.divide(Decimal(-i), Decimal(32**k)))
            # No neighbour is nearer: a whole error of half the gap would be a wrong rounding.
            error = abs(Fraction(exact) - Fraction(entry))
            assert error <= Fraction(math.ulp(entry)) / 2


@given(st.floats(-88.0, 0.0))
def test_exponential_is_that_of_the_platform_but_for_its_20_places(x: float) -> None:
    value = float(exponential(np.array([x]))[0])
    exact = math.exp(x)
    # The exponent is cut, so the result may be larger by ln 2 / 2 ** 20, and is never smaller.
    assert exact * (1 - 1e-14) <= value <= exact * (1 + 0.7e-6)


@given(st.floats(-100.0, 0.0), st.floats(-100.0, 0.0))
def test_exponential_of_the_larger_number_is_the_larger_one(one: float, other: float) -> None:
    low, high = exponential(np.array(sorted((one, other))))
    assert 0.0 <= low <= high <= 1.0


def test_exponential_at_its_ends() -> None:
    last = 128 * math.log(2.0)
    values = exponential(np.array([0.0, -0.0, -1e-9, -math.inf, -1e300, -last - 1e-9, -88.0]))
    assert values[:6].tolist() == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    assert values[6] > 0.0


def test_exponential_of_minus_ln_2_is_a_half() -> None:
    assert exponential(np.array([-math.log(2.0) - 1e-12])).tolist() == [0.5]


# Probabilities


@given(LOGITS)
def test_softmax_is_scipys_and_sums_to_one(logits: NDArray[np.float32]) -> None:
    ours = softmax(logits)
    theirs = special.softmax(logits.astype(np.float64), axis=1)
    shown = theirs > 1e-30  # float32 differences of logits move what is smaller
    # Logits up to 100 have a rounding of 100 / 2 ** 24 in their difference, twice over.
    np.testing.assert_allclose(ours[shown], theirs[shown], rtol=RELATIVE + 2e-5)
    np.testing.assert_allclose(ours.sum(axis=1), 1.0, rtol=1e-15)


@given(
    arrays.arrays(
        np.float32, (3, 5), elements=st.integers(-80, 80).map(lambda eighths: eighths / 8)
    )
)
def test_softmax_of_exact_differences_is_scipys_within_2e_6(logits: NDArray[np.float32]) -> None:
    theirs = special.softmax(logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(softmax(logits), theirs, rtol=RELATIVE)


@given(arrays.arrays(np.float32, 9, elements=st.floats(-80.0, 80.0, width=32)))
def test_sigmoid_is_scipys_within_2e_6_and_rises(logits: NDArray[np.float32]) -> None:
    logits.sort()
    ours = sigmoid(logits)
    np.testing.assert_allclose(ours, special.expit(logits.astype(np.float64)), rtol=RELATIVE)
    assert (np.diff(ours) >= 0.0).all()


def test_softmax_of_huge_logits_is_finite() -> None:
    most = np.finfo(np.float32).max
    logits = np.array([[most, -most, 0.0], [-most, -most, -most]], np.float32)
    assert softmax(logits).tolist() == [[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]]
    assert sigmoid(np.array([most, -most], np.float32)).tolist() == [1.0, 0.0]


def test_sigmoid_gives_the_negative_label_first() -> None:
    logits = np.array([[math.log(3.0)], [0.0]], np.float32)
    expected = [[0.25, 0.75], [0.5, 0.5]]
    np.testing.assert_allclose(probabilities(logits, Activation.SIGMOID), expected, rtol=RELATIVE)


# Decisions


def test_decision_is_the_largest_logit_and_the_first_of_equal_ones() -> None:
    logits = np.array([[0.1, 0.2, 0.0], [3.0, -3.0, 3.0], [-1.0, -1.0, -1.0]], np.float32)
    assert decisions(logits, three_labels()).tolist() == [1, 0, 0]
    positive = np.array([[0.1], [-0.1], [0.0], [-0.0], [1e-45]], np.float32)
    assert decisions(positive, binary()).tolist() == [1, 0, 0, 0, 1]


@pytest.mark.parametrize("activation", list(Activation))
def test_threshold_itself_decides_for_the_second_label(activation: Activation) -> None:
    sigmoid_used = activation is Activation.SIGMOID
    steps = np.linspace(-2.0, 0.0, 2_001, dtype=np.float32)
    logits = steps[:, np.newaxis] if sigmoid_used else np.stack([0 * steps, steps], axis=1)
    chances = probabilities(logits, activation)[:, 1]
    threshold = float(chances[700])
    contract = image_contract(1, 8, 8, activation=activation, threshold=threshold)
    decided = decisions(logits, contract)
    np.testing.assert_array_equal(decided, chances >= threshold)
    assert decided[700] == 1
    assert decided[690] == 0


def test_labels_are_ranked_by_probability_and_then_in_their_own_order() -> None:
    logits = np.array([1.0, 2.0, 1.0], np.float32)
    best, low = (float(p) for p in softmax(logits[np.newaxis])[0, [1, 0]])
    entries = (
        Scored(label=1, probability=best),
        Scored(label=0, probability=low),
        Scored(label=2, probability=low),
    )
    for top_k in (1, 2, 3):
        assert ranked(logits, three_labels(top_k=top_k)) == entries[:top_k]


def test_both_labels_of_one_logit_are_ranked() -> None:
    found = ranked(np.array([-1.0], np.float32), binary(top_k=2))
    negative, positive = map(float, sigmoid(np.array([1.0, -1.0], np.float32)))
    assert found == (
        Scored(label=0, probability=negative),
        Scored(label=1, probability=positive),
    )
    assert negative + positive == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_output_that_is_no_number_is_refused(broken: float) -> None:
    require_finite_output(np.array([0.0, 3e38], np.float32))
    with pytest.raises(FrameError) as caught:
        require_finite_output(np.array([0.0, broken], np.float32))
    assert fault_and_problem(caught) == ("not-finite", "the program answers NaN or infinity.")


def test_answer_of_a_classifier_has_its_decision_and_its_ranking() -> None:
    stored = np.array([-128, 127], np.int8)
    contract = image_contract(1, 8, 8, threshold=0.75, top_k=2)
    io_ = int8(0.004, 0, 1, 2)
    logits = np.array([-128, 127], np.float32) * np.float32(0.004)
    # The second label is the more probable one, at 0.735, and not enough so.
    expected = Answer(label=0, ranked=ranked(logits, contract))
    assert answer(stored, io_, contract) == expected
    assert [scored.label for scored in expected.ranked] == [1, 0]


@pytest.mark.parametrize("size", [0, 1, 3])
def test_output_of_another_length_is_refused(size: int) -> None:
    stored, io_ = np.zeros(size, np.float32), float32(Layout.CHANNELS_FIRST, 1, 2)
    found = image_contract(
        1, 8, 8, activation=Activation.SIGMOID, segments=Segments(size_px=(1, 2))
    )
    for refuse in (
        lambda: answer(stored, io_, image_contract(1, 8, 8)),
        lambda: label_map(stored, io_, found),
    ):
        with pytest.raises(FrameError) as caught:
            refuse()
        problem = f"the output has {size} values and should have 2."
        assert fault_and_problem(caught) == ("truncated", problem)


# Boxes

SURE, UNSURE = 8.0, -8.0


def detector(**said: object) -> Contract:
    """One of two labels, whose tensor is 10 pixels high and 20 wide."""
    settings_of: dict[str, object] = {
        "candidates": 3,
        "form": BoxForm.CORNERS,
        "min_score": 0.5,
        "max_overlap_ratio": 0.5,
        "max_boxes": 3,
    }
    own = {key: said.pop(key) for key in list(said) if key in settings_of}
    plain: dict[str, object] = {
        "boxes": Boxes.model_validate(settings_of | own),
        "resize": Resize(mode=ResizeMode.AREA),
    }
    return image_contract(1, 10, 20, **(plain | said))


def found_in(
    contract: Contract, *rows: list[float], size: tuple[int, int] = (10, 20)
) -> list[tuple[int, int, int, int, int]]:
    """Return label, left, top, right and bottom of each box, and check the candidates."""
    assert contract.boxes
    missing = contract.boxes.candidates - len(rows)
    values = np.array([*rows, *[[0, 0, 0, 0, UNSURE, UNSURE]] * missing], np.float32)
    io_ = float32(Layout.CHANNELS_FIRST, 1, *values.shape)
    every = boxes(values.ravel(), io_, contract, height_px=size[0], width_px=size[1])
    return [(b.label, b.left, b.top, b.right, b.bottom) for b in every]


def two(**said: object) -> Contract:
    """One of two labels, each with a logit of its own."""
    return detector(activation=Activation.SIGMOID, **said)


def test_box_is_in_sixteenths_of_a_pixel_of_the_frame() -> None:
    row = [0.5, 0.25, 0.7, 1.0, SURE, UNSURE]
    # In float32, 0.7 is a little less, and so are the 224 of 320 sixteenths.
    assert found_in(two(), row) == [(0, 160, 40, 223, 160)]
    assert found_in(two(), row, size=(20, 10)) == [(0, 80, 80, 111, 320)]


def test_centre_and_extent_are_the_same_box_as_its_corners() -> None:
    corners = found_in(two(), [0.25, 0.2, 0.75, 0.6, SURE, UNSURE])
    centre = found_in(two(form=BoxForm.CENTRE), [0.5, 0.4, 0.5, 0.4, SURE, UNSURE])
    assert [row[:2] for row in corners] == [row[:2] for row in centre] == [(0, 80)]
    # A negative extent is none.
    inverse = found_in(two(form=BoxForm.CENTRE), [0.5, 0.5, -0.5, -0.5, SURE, UNSURE])
    assert inverse == [(0, 160, 80, 160, 80)]


def test_box_is_cut_at_the_edges_of_the_tensor() -> None:
    row = [-1e30, -0.5, 1e30, 1.5, SURE, UNSURE]
    assert found_in(two(), row) == [(0, 0, 0, 320, 160)]


def test_box_is_mapped_back_through_padding_and_crop() -> None:
    crop = BoxCrop(kind="box", left_px=100, top_px=50, width_px=30, height_px=30)
    pad = Resize(mode=ResizeMode.AREA, fit=Fit.PAD)
    contract = two(crop=crop, resize=pad)
    # 30 by 30 pixels lie in the middle of the tensor, 10 by 10; each is 3 of the frame.
    whole = found_in(contract, [0.25, 0.0, 0.75, 1.0, SURE, UNSURE], size=(200, 200))
    assert whole == [(0, 1_600, 800, 2_080, 1_280)]
    # Of what lies in the padding, the place is outside of what was cut.
    outside = found_in(contract, [0.0, 0.0, 1.0, 1.0, SURE, UNSURE], size=(200, 200))
    assert outside == [(0, 1_360, 800, 2_320, 1_280)]


def test_place_of_a_box_is_rounded_down_also_left_of_the_cut_part() -> None:
    pad = Resize(mode=ResizeMode.AREA, fit=Fit.PAD)
    found = found_in(two(resize=pad), [0.0, 0.0, 1.0, 1.0, SURE, UNSURE], size=(7, 7))
    # The content is 10 wide, from 5 on: -80 * 7 / 10 and 240 * 7 / 10.
    assert found == [(0, -56, 0, 168, 112)]
    found = found_in(two(resize=pad), [1 / 320, 0.0, 1.0, 1.0, SURE, UNSURE], size=(7, 7))
    assert found == [(0, math.floor(-79 * 7 / 10), 0, 168, 112)]


def test_less_probable_boxes_are_left_out_and_the_best_come_first() -> None:
    rows = [
        [0.0, 0.0, 0.1, 0.1, 1.0, UNSURE],
        [0.5, 0.5, 0.6, 0.6, UNSURE, 2.0],
        [0.8, 0.8, 0.9, 0.9, -1.0, UNSURE],
    ]
    assert [row[0] for row in found_in(two(), *rows)] == [1, 0]
    assert [row[0] for row in found_in(two(min_score=0.1), *rows)] == [1, 0, 0]
    assert [row[0] for row in found_in(two(min_score=0.1, max_boxes=1), *rows)] == [1]


def test_score_at_the_limit_is_enough_and_equal_scores_keep_their_order() -> None:
    rows = [[0.5, 0.0, 0.6, 0.1, 0.0, UNSURE], [0.0, 0.0, 0.1, 0.1, 0.0, UNSURE]]
    assert [row[1] for row in found_in(two(min_score=0.5), *rows)] == [160, 0]


def test_better_one_of_two_that_overlap_stays_where_the_label_is_the_same() -> None:
    rows = [
        [0.0, 0.0, 0.5, 0.5, 1.0, UNSURE],
        [0.0, 0.0, 0.5, 0.45, 2.0, UNSURE],
        [0.0, 0.0, 0.5, 0.5, UNSURE, 1.0],
    ]
    assert [row[0] for row in found_in(two(), *rows)] == [0, 1]
    assert len(found_in(two(max_overlap_ratio=1.0), *rows)) == 3


@pytest.mark.parametrize("activation", list(Activation))
def test_probability_of_a_box_is_that_of_its_label(activation: Activation) -> None:
    contract = detector(candidates=1, activation=activation, min_score=1e-6)
    values = np.array([[0.0, 0.0, 1.0, 1.0, 0.5, 1.5]], np.float32)
    io_ = float32(Layout.CHANNELS_FIRST, 1, 1, 6)
    (found,) = boxes(values, io_, contract, height_px=10, width_px=20)
    scores = softmax if activation is Activation.SOFTMAX else sigmoid
    chance = float(scores(values[:, 4:])[0, 1])
    assert found == Box(label=1, probability=chance, left=0, top=0, right=320, bottom=160)


def test_boxes_of_int8_are_those_of_the_real_values() -> None:
    contract = two(candidates=1)
    stored = np.array([0, 0, 64, 32, 127, -128], np.int8)
    (found,) = boxes(stored, int8(1 / 64, 0, 1, 1, 6), contract, height_px=10, width_px=20)
    assert (found.label, found.left, found.top, found.right, found.bottom) == (0, 0, 0, 320, 80)


@pytest.mark.parametrize("size", [(0, 1), (1, 0), (16_385, 1), (1, 16_385)])
def test_boxes_of_a_frame_that_there_is_not_are_refused(size: tuple[int, int]) -> None:
    assert found_in(two(), [0.0, 0.0, 1.0, 1.0, SURE, UNSURE], size=(16_384, 1)) != []
    with pytest.raises(FrameError) as caught:
        found_in(two(), size=size)
    problem = f"the frame is {size[0]} by {size[1]} pixels; sides go from 1 to 16384."
    assert fault_and_problem(caught) == ("wrong-size", problem)


def test_boxes_of_an_output_of_another_length_are_refused() -> None:
    io_ = float32(Layout.CHANNELS_FIRST, 1, 3, 6)
    with pytest.raises(FrameError) as caught:
        boxes(np.zeros(17, np.float32), io_, two(), height_px=10, width_px=20)
    problem = "the output has 17 values and should have 18."
    assert fault_and_problem(caught) == ("truncated", problem)


def test_box_that_is_no_number_is_refused() -> None:
    with pytest.raises(FrameError) as caught:
        found_in(two(), [math.nan, 0.0, 1.0, 1.0, UNSURE, UNSURE])
    assert fault_and_problem(caught) == ("not-finite", "the program answers NaN or infinity.")


def test_overlap_at_the_limit_is_allowed() -> None:
    one, other = (0, 0, 2, 1), (1, 0, 3, 1)  # a third of their union
    third = 65_536 // 3
    assert overlaps(one, other, third)
    assert not overlaps(one, other, third + 1)
    assert not overlaps((0, 0, 0, 0), (0, 0, 0, 0), 1)
    assert not overlaps((0, 0, 1, 1), (5, 5, 6, 6), 1)
    assert overlaps(one, one, 65_535)
    assert not overlaps(one, one, 65_536)


def naive_boxes(values: NDArray[np.float32], contract: Contract) -> list[tuple[int, ...]]:
    """Keep the best box and drop its rivals, until none is left; places as shares."""
    assert contract.boxes
    chances = sigmoid(values[:, 4:])
    left = [
        (float(row.max()), int(row.argmax()), [math.floor(float(v) * 16 * side) for v, side in
                                               zip(box, (20, 10, 20, 10), strict=True)])
        for row, box in zip(chances, values[:, :4], strict=True)
        if row.max() >= contract.boxes.min_score
    ]  # fmt: skip
    left.sort(key=lambda entry: -entry[0])
    kept: list[tuple[int, ...]] = []
    while left and len(kept) < contract.boxes.max_boxes:
        best = left.pop(0)
        kept.append((best[1], *best[2]))
        left = [
            entry
            for entry in left
            if entry[1] != best[1]
            or shared_ratio(best[2], entry[2]) <= contract.boxes.max_overlap_ratio
        ]
    return kept


def shared_ratio(one: list[int], other: list[int]) -> float:
    cells = [{(x, y) for x in range(b[0], b[2]) for y in range(b[1], b[3])} for b in (one, other)]
    union = cells[0] | cells[1]
    return len(cells[0] & cells[1]) / len(union) if union else 0.0


@settings(max_examples=40)  # counting cells is slow
@given(seed=st.integers(0, 9_999), ratio=st.sampled_from((0.25, 0.5, 0.75)), most=st.integers(1, 9))
def test_boxes_are_those_of_a_plain_search(seed: int, ratio: float, most: int) -> None:
    contract = two(candidates=8, max_overlap_ratio=ratio, max_boxes=most, min_score=0.25)
    rng = np.random.default_rng(seed)
    first, extent = rng.integers(0, 4, (8, 2)) / 32, rng.integers(1, 5, (8, 2)) / 32
    values = np.concatenate([first, first + extent, rng.normal(0.0, 2.0, (8, 2))], axis=1)
    rows = values.astype(np.float32)
    assert found_in(contract, *rows.tolist()) == naive_boxes(rows, contract)


# Label maps


def segmenter(**said: object) -> Contract:
    return image_contract(1, 8, 8, **({"segments": Segments(size_px=(2, 3))} | said))


@pytest.mark.parametrize("layout", list(Layout))
def test_each_pixel_has_its_largest_logit_and_the_first_of_equal_ones(layout: Layout) -> None:
    planes = np.array([[[0, 1, 2], [3, 3, 3]], [[1, 1, 1], [2, 3, 4]]], np.float32)
    last = layout is Layout.CHANNELS_LAST
    stored = np.moveaxis(planes, 0, -1) if last else planes
    io_ = float32(layout, 1, *stored.shape)
    decided = label_map(np.ascontiguousarray(stored).ravel(), io_, segmenter())
    assert decided.dtype == np.uint8
    assert decided.tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("layout", list(Layout))
def test_one_plane_is_positive_above_zero(layout: Layout) -> None:
    stored = np.array([0.0, -0.0, 1e-45, -1.0, 1.0, 3e38], np.float32)
    contract = segmenter(activation=Activation.SIGMOID)
    decided = label_map(stored, float32(layout, 1, 1, 2, 3), contract)
    assert decided.tolist() == [[0, 0, 1], [0, 1, 1]]


def test_label_map_of_int8_goes_by_real_values() -> None:
    stored = np.array([5, 4, 6, 5, -128, 127], np.int8)
    contract = segmenter(activation=Activation.SIGMOID)
    assert label_map(stored, int8(0.5, 5, 1, 1, 2, 3), contract).tolist() == [[0, 0, 1], [0, 0, 1]]


def test_label_map_of_a_broken_output_is_refused() -> None:
    stored = np.array([0, 0, math.inf, 0, 0, 0], np.float32)
    with pytest.raises(FrameError) as caught:
        label_map(
            stored,
            float32(Layout.CHANNELS_FIRST, 1, 1, 2, 3),
            segmenter(activation=Activation.SIGMOID),
        )
    assert fault_and_problem(caught) == ("not-finite", "the program answers NaN or infinity.")
