import pytest

from packager.report import wording


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (41_226, "41.2 k"),
        (999_499, "999 k"),
        (999_500, "1.00 M"),
        (10_953_216, "11.0 M"),
        (4_100_000_000, "4.10 G"),
    ],
)
def test_count_is_rounded_to_three_digits(number: int, text: str) -> None:
    assert wording.rounded(number) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (60_944, "59.5 KiB"),
        (1_048_000, "0.999 MiB"),
        (104_857_600, "100 MiB"),
        (2**40, "1.00 TiB"),
    ],
)
def test_size_is_written_in_binary_units(size_bytes: int, text: str) -> None:
    assert wording.size(size_bytes) == text


def test_missing_score_is_a_dash_and_not_a_zero() -> None:
    assert (wording.score(None), wording.score(0.0)) == ("–", "0.000")  # noqa: RUF001


def test_minus_is_set_before_numbers_only() -> None:
    figure = "-0.0025 [-0.0074, +0.0024] on cortex-m4 in int8-2"

    assert wording.typeset(figure) == "−0.0025 [−0.0074, +0.0024] on cortex-m4 in int8-2"  # noqa: RUF001


def test_limit_is_set_with_its_sign() -> None:
    assert wording.typeset("auroc drop <= 0.020") == "AUROC drop ≤ 0.020"
    assert wording.typeset("SQNR >= 15.0 dB") == "SQNR ≥ 15.0 dB"


@pytest.mark.parametrize(
    "text", ["a mean is not a pooling", "A mean is not a pooling.", " a mean is not a pooling. "]
)
def test_sentence_begins_large_and_ends_with_one_stop(text: str) -> None:
    assert wording.sentence(text) == "A mean is not a pooling."


def test_empty_sentence_stays_empty() -> None:
    assert wording.sentence("") == ""


def test_shade_is_the_share_of_the_row() -> None:
    assert [wording.shade(part, (0, 3, 1)) for part in (0, 1, 3)] == [0, 2, 6]
    assert wording.shade(4, (4, 0)) == 8
    assert wording.shade(0, (0, 0)) == 0


def test_what_no_page_may_hold_becomes_visible() -> None:
    assert wording.printable("a\x00b\x1b[0m\ud800\n") == "a�b�[0m�\n"
