"""What a browser makes of the report: Chromium opens the page from disk, with no network."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from packager.report import html
from tests.built_example import example_built
from tests.conftest import require_package, require_program

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
WIDTHS_PX = (390, 1280)
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# WCAG 2.2, 1.4.3, level AA, for text of any size.
LEAST_CONTRAST = 4.5
CONTRASTS = """() => {
  const parse = (text) => {
    const [r, g, b, alpha = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, alpha];
  };
  const over = (top, below) =>
    [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat([1]);
  const luminance = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((part) => {
      const v = part / 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      layers.unshift(parse(getComputedStyle(e).backgroundColor));
    }
    return layers.reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const faint = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const words = texts.currentNode.textContent.trim();
    if (!words) continue;
    const element = texts.currentNode.parentElement;
    const style = getComputedStyle(element);
    const below = ground(element.closest("svg")?.parentElement ?? element);
    const ink = over(parse(element.closest("svg") ? style.fill : style.color), below);
    const [bright, dark] = [luminance(ink), luminance(below)].sort((a, b) => b - a);
    const contrast = (bright + 0.05) / (dark + 0.05);
    if (contrast < LEAST) faint.push(`${words.slice(0, 40)}: ${contrast.toFixed(2)}`);
  }
  return faint;
}""".replace("LEAST", str(LEAST_CONTRAST))


@dataclass(frozen=True, kw_only=True)
class Visit:
    """What happened while a browser opened a page.

    Attributes:
        asked: Every address asked for besides the page itself and what it holds.
        sent: Those that no policy of the page's stopped: they went out to the network.
        complaints: Errors of scripts and of the console, policy violations among them.
        overflow_px: By how much the page is wider than the window.
        faint: Texts with too little contrast.
    """

    asked: tuple[str, ...]
    sent: tuple[str, ...]
    complaints: tuple[str, ...]
    overflow_px: int
    faint: tuple[str, ...]


CLEAN = Visit(asked=(), sent=(), complaints=(), overflow_px=0, faint=())


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    require_package("playwright", "dev")
    chromium = require_program("chromium", "Install Debian's package chromium.")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    page = folder / "report.html"
    page.write_text(html.render(example_built(folder), folder), "utf-8")
    return page


def visit(browser: "Browser", path: Path, *, width_px: int, scheme: Scheme = "light") -> Visit:
    asked: list[str] = []
    sent: list[str] = []
    complaints: list[str] = []
    size = {"width": width_px, "height": 900}
    with browser.new_context(viewport=size, color_scheme=scheme) as context:  # type: ignore[arg-type]
        page = context.new_page()
        page.route(re.compile("^(https?|wss?):"), lambda route: _refuse(route, sent))
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        return Visit(
            asked=tuple(u for u in asked if u != path.as_uri() and not u.startswith("data:")),
            sent=tuple(sent),
            complaints=tuple(complaints),
            overflow_px=_overflow_px(page),
            faint=tuple(page.evaluate(CONTRASTS)),
        )


def _refuse(route: "Route", sent: list[str]) -> None:
    """Record what would go out, and let it go nowhere: a test reaches out to nobody."""
    sent.append(route.request.url)
    route.abort()


def _overflow_px(page: "Page") -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


def write(folder: Path, body: str) -> Path:
    page = folder / "page.html"
    page.write_text(f"<!doctype html><title>t</title><body>{body}", "utf-8")
    return page


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width_px", WIDTHS_PX)
def test_report_fetches_nothing_fits_and_is_legible(
    browser: "Browser", report: Path, width_px: int, scheme: Scheme
) -> None:
    assert visit(browser, report, width_px=width_px, scheme=scheme) == CLEAN


def test_external_picture_is_caught(browser: "Browser", tmp_path: Path) -> None:
    page = write(tmp_path, '<img src="https://picture.invalid/a.png" alt="">')

    seen = visit(browser, page, width_px=390)

    assert seen.asked == seen.sent == ("https://picture.invalid/a.png",)


def test_too_wide_a_page_is_caught(browser: "Browser", tmp_path: Path) -> None:
    page = write(tmp_path, '<div style="width: 500px; height: 1px">')

    assert visit(browser, page, width_px=390).overflow_px > 100


def test_faint_text_is_caught(browser: "Browser", tmp_path: Path) -> None:
    page = write(tmp_path, '<p style="color: #8a8a8a">gray on white</p>')

    assert visit(browser, page, width_px=390).faint == ("gray on white: 3.45",)


@pytest.mark.parametrize(
    "planted",
    [
        "<script>document.title = 'x'</script>",
        '<img src="https://picture.invalid/a.png" alt="">',
        '<p style="color: red">styled</p>',
        "<style>p { color: red }</style>",
    ],
)
def test_policy_of_the_page_stops_what_was_planted(
    browser: "Browser", report: Path, tmp_path: Path, planted: str
) -> None:
    page = tmp_path / "planted.html"
    page.write_text(report.read_text("utf-8").replace("<main>", f"<main>{planted}"), "utf-8")

    seen = visit(browser, page, width_px=1280)

    assert seen.sent == ()
    assert len(seen.complaints) == 1
    assert "Content Security Policy" in seen.complaints[0]


@pytest.mark.parametrize("width_px", WIDTHS_PX)
def test_verdict_of_each_target_can_be_seen(
    browser: "Browser", report: Path, width_px: int
) -> None:
    with browser.new_context(viewport={"width": width_px, "height": 900}) as context:
        page = context.new_page()
        page.goto(report.as_uri())
        for state in ("Ready to ship", "Limit breached", "Not built"):
            assert page.get_by_text(state, exact=True).is_visible()
        for outcome, times in (("Met", 4), ("Breached", 3)):
            assert page.locator(".outcome", has_text=outcome).count() == times


def test_each_chart_is_drawn_with_ink(browser: "Browser", report: Path) -> None:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.goto(report.as_uri())
        boxes = page.locator(".chart").evaluate_all(
            "charts => charts.map(chart => chart.getBBox().width * chart.getBBox().height)"
        )
        inks = page.locator(".chart .fill-device").evaluate_all(
            "marks => marks.map(mark => getComputedStyle(mark).fill)"
        )

    assert len(boxes) == 11
    assert min(boxes) > 10_000
    assert set(inks) == {"rgb(31, 111, 159)"}
