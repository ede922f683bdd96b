"""How the report writes numbers and limits."""

import re

MINUS = "\N{MINUS SIGN}"
# Control characters but tab and line ends, and halves of surrogate pairs.
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
SIGNS = (("<=", "≤"), (">=", "≥"), ("auroc", "AUROC"))


def count(number: int) -> str:
    """Write a whole number with its thousands apart, such as `41,226`."""
    return f"{number:,}"


def rounded(number: int) -> str:
    """Write a count in three digits, such as `24.7 M`."""
    return _three_digits(number, 1000, ("", " k", " M", " G", " T"))


def size(size_bytes: int) -> str:
    """Write a size in binary units and three digits, such as `59.5 KiB`."""
    return _three_digits(size_bytes, 1024, (" B", " KiB", " MiB", " GiB", " TiB"))


def _three_digits(number: int, step: int, units: tuple[str, ...]) -> str:
    if number < step:
        return f"{number}{units[0]}"
    value, place = float(number), 0
    # From 999.5 on, three digits would read 1000.
    while value >= 999.5 and place + 1 < len(units):
        value, place = value / step, place + 1
    return f"{value:#.3g}".rstrip(".") + units[place]


def percent(ratio: float) -> str:
    """Write a ratio as percent, such as `44.4 %`."""
    return f"{100 * ratio:.1f} %"


def score(value: float | None) -> str:
    """Write a score from 0 to 1 in three decimals, and a dash for none."""
    return "\N{EN DASH}" if value is None else f"{value:.3f}"


def shade(part: int, row: tuple[int, ...]) -> int:
    """Return how dark to print a cell of a matrix: 0 for none of its row, 8 for all of it."""
    total = sum(row)
    return round(8 * part / total) if total else 0


def typeset(text: str) -> str:
    """Set the signs of a limit or a figure: `auroc drop <= 0.02` as `AUROC drop ≤ 0.02`.

    A hyphen before a digit becomes a minus sign.
    """
    for plain, sign in SIGNS:
        text = text.replace(plain, sign)
    before = " " + text
    return "".join(
        MINUS if sign == "-" and before[i] in " [(" and text[i + 1 : i + 2].isdigit() else sign
        for i, sign in enumerate(text)
    )


def sentence(text: str) -> str:
    """Begin `text` with a capital and end it with one full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:].rstrip(".") + "." if text else ""


def printable(text: str) -> str:
    """Return `text` with what no HTML page may hold, such as NUL, made visible as �."""
    return FORBIDDEN.sub("\ufffd", text)
