import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from packager.artifacts import Epoch, File, Interval, Tuned
from packager.report import charts
from packager.report.charts import Bar, Chart, Drop, Ink

NOWHERE = File(path=Path("tuned.pt2"), sha256="0" * 64, size_bytes=1)


def elements(chart: Chart) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(f"<svg>{chart.body}</svg>").iter())  # noqa: S314


def words(chart: Chart) -> list[str]:
    return [element.text or "" for element in elements(chart) if element.tag == "text"]


def marks(chart: Chart, ink: Ink) -> int:
    """Count the points that are drawn in `ink`."""
    wanted = f"fill-{ink.name.lower()}"
    return sum(
        element.tag == "use" and wanted in element.get("class", "").split()
        for element in elements(chart)
    )


def bar_widths(chart: Chart) -> list[float]:
    filled = [e for e in elements(chart) if "fill-" in e.get("class", "")]
    paths = [element.get("d", "") for element in filled if element.tag == "path"]
    return [max(map(float, re.findall(r"L ([\d.]+) ", path))) for path in paths]


def bars() -> Chart:
    rows = (
        Bar(name="Original", value=2.0, text="2.00 k", ink=Ink.ORIGINAL),
        Bar(name="Pruned", value=1.0, text="1.00 k", ink=Ink.PRUNED),
    )
    return charts.bars("macs", "MACs: 2 k, 1 k.", rows, full=2.0)


def scatter(key: str = "scatter0") -> Chart:
    return charts.scatter(
        key,
        "One of three changed.",
        original=np.array([0.1, 0.6, 0.9]),
        converted=np.array([0.1, 0.4, 0.8]),
        changed=np.array([False, True, False]),
        boundary=0.5,
    )


def drops() -> Chart:
    rows = (
        Drop(name="met", drop=Interval(estimate=0.0, low=-0.01, high=0.01), text="0"),
        Drop(name="breached", drop=Interval(estimate=0.05, low=0.03, high=0.07), text="0.05"),
    )
    return charts.drops("drop", "Two drops.", rows, limit=0.02)


def history() -> Chart:
    epochs = tuple(
        Epoch(train_loss_error=0.9 * e, validation_loss_error=e, validation_accuracy_score=0.5)
        for e in (0.6, 0.3, 0.4)
    )
    return charts.history("tuning", "Losses.", Tuned(program=NOWHERE, history=epochs, best_epoch=1))


ALL = {"bars": bars, "scatter": scatter, "drops": drops, "history": history}


@pytest.mark.parametrize("name", ALL)
def test_chart_is_the_same_every_time(name: str) -> None:
    assert ALL[name]() == ALL[name]()


@pytest.mark.parametrize("name", ALL)
def test_chart_takes_colour_and_font_from_the_page(name: str) -> None:
    chart = ALL[name]()

    assert "style" not in chart.body
    assert "font-family" not in chart.body
    assert not re.search(r"#[0-9a-f]{6}", chart.body)


@pytest.mark.parametrize("name", ALL)
def test_chart_refers_to_its_own_parts_only(name: str) -> None:
    chart = ALL[name]()
    key = {"bars": "macs", "scatter": "scatter0", "drops": "drop", "history": "tuning"}[name]

    ids = {element.get("id") for element in elements(chart)} - {None}
    referred = set(re.findall(r'="(?:url\()?#([^")]+)', chart.body))
    assert referred == ids
    assert all(str(found).startswith(f"{key}-") for found in ids)
    assert "http" not in chart.body


@pytest.mark.parametrize("name", ALL)
def test_settings_of_the_user_change_no_chart(name: str) -> None:
    import matplotlib

    before = ALL[name]()
    with matplotlib.rc_context({"font.size": 30, "lines.marker": "s", "svg.fonttype": "path"}):
        assert ALL[name]() == before


def test_drawing_leaves_the_users_settings_alone() -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 30}):
        bars()
        assert matplotlib.rcParams["font.size"] == 30


def test_bars_are_long_in_proportion() -> None:
    assert bar_widths(bars()) == [300.0, 300.0, 300.0, 150.0]
    assert words(bars()) == ["Original", "2.00 k", "Pruned", "1.00 k"]


def test_changed_decisions_are_marked_apart() -> None:
    assert (marks(scatter(), Ink.DEVICE), marks(scatter(), Ink.CHANGED)) == (2, 1)


def test_two_scatter_charts_on_a_page_share_no_id() -> None:
    def ids(chart: Chart) -> set[str]:
        return {str(e.get("id")) for e in elements(chart) if e.get("id")}

    assert not ids(scatter("scatter0")) & ids(scatter("scatter1"))


def test_drop_beyond_its_limit_is_marked_apart() -> None:
    assert (marks(drops(), Ink.DEVICE), marks(drops(), Ink.CHANGED)) == (1, 1)
    assert words(drops())[-4:] == ["met", "0", "breached", "0.05"]


def test_chart_of_a_limit_of_zero_that_is_kept_is_drawn() -> None:
    row = Drop(name="same", drop=Interval(estimate=0.0, low=0.0, high=0.0), text="0")

    assert marks(charts.drops("drop", "None.", (row,), limit=0.0), Ink.DEVICE) == 1


def test_kept_epoch_is_marked() -> None:
    assert marks(history(), Ink.DEVICE) == 1


def test_history_of_one_epoch_is_drawn() -> None:
    epoch = Epoch(train_loss_error=0.0, validation_loss_error=0.0, validation_accuracy_score=1.0)
    one = Tuned(program=NOWHERE, history=(epoch,), best_epoch=0)

    assert marks(charts.history("tuning", "One.", one), Ink.DEVICE) == 1


def test_text_is_never_read_as_mathematics() -> None:
    row = Bar(name="$\\frac{$", value=1.0, text="a & b < c", ink=Ink.DEVICE)

    assert words(charts.bars("odd", "Odd.", (row,), full=1.0)) == ["$\\frac{$", "a & b < c"]
