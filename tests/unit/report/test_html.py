import itertools
import re
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from packager.artifacts import File
from packager.built import Built
from packager.contract import Contract
from packager.errors import BundleError
from packager.recipe import UnstructuredPruning
from packager.report import html
from packager.target import Target
from packager.verdicts import Outcome
from tests.built_example import BREACHED, READY, UNCONVERTED, example_built

HOSTILE = "\"'><script>alert(1)</script><img src=x>{{ 7 * 7 }}&amp;\x00"
# Browsers take these without an end tag.
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tags with their attributes in order, and the words that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += re.sub(r"\s+", " ", data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def hostile(value: Any) -> Any:  # noqa: ANN401 - any part of a build
    """Return a build whose every free text ends in markup."""
    if isinstance(value, File | Enum):
        return value
    if isinstance(value, str):
        return value and value + HOSTILE
    if isinstance(value, tuple):
        return tuple(hostile(item) for item in value)
    if isinstance(value, Target | Contract):
        texts = ("labels",) if isinstance(value, Contract) else ("summary", "source")
        return value.model_copy(update={key: hostile(vars(value)[key]) for key in texts})
    if is_dataclass(value) and not isinstance(value, type):
        # The name of a metric is one of ours, and a chart of its own stands for each.
        free = [f.name for f in fields(value) if f.name != "metric"]
        return replace(value, **{name: hostile(getattr(value, name)) for name in free})
    return value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("built")


@pytest.fixture(scope="module")
def built(folder: Path) -> Built:
    return example_built(folder)


@pytest.fixture(scope="module")
def text(built: Built, folder: Path) -> str:
    return html.render(built, folder)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_same_build_gives_the_same_page_in_another_folder(text: str, tmp_path: Path) -> None:
    assert html.render(example_built(tmp_path), tmp_path) == text


def test_every_tag_is_closed(page: Page) -> None:
    assert page.open == []


def test_page_refers_to_nothing_but_itself(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        for name in attributes.keys() & {"href", "src", "xlink:href", "srcset", "action"}:
            inside = attributes[name].removeprefix("#") in ids
            assert inside or attributes[name].startswith("data:image/png;base64,"), (tag, name)
    assert not page.all("script") + page.all("link") + page.all("iframe")


def test_policy_admits_the_pages_own_style_and_pictures_only(page: Page) -> None:
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]

    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[A-Za-z0-9+/]{43}='; img-src data:; "
        r"base-uri 'none'; form-action 'none'",
        policy,
    )
    assert not [tag for tag, attributes in page.tags if "style" in attributes]


def test_markup_in_any_text_of_a_build_is_shown_and_not_obeyed(
    built: Built, folder: Path, page: Page
) -> None:
    attacked = Page(html.render(hostile(built), folder))

    assert [tag for tag, _ in attacked.tags] == [tag for tag, _ in page.tags]
    shown = HOSTILE.replace("\x00", "\ufffd")
    for words in (
        "cyst",
        "solid lesion",
        "speckle, attenuation, one cyst or one solid lesion a frame",
    ):
        assert words + shown in attacked.words
    assert str(getattr(built.targets[1].failure, "message", None)) + shown in attacked.words


def test_verdicts_come_first_and_say_all(page: Page) -> None:
    words = page.words
    order = ["breast-phantom", "1 of 3 targets is ready to ship", "Ready to ship", "Limit breached"]
    order += ["Not built", "Before and after", "Original against target", "Operators and fallbacks"]
    order += ["Pre-flight check", "Training history", "Memory", "Steps of this build"]
    order += ["Where this comes from"]
    places = [words.rindex(name) if name == "Memory" else words.index(name) for name in order]
    assert places == sorted(places)


def test_verdict_says_limit_figure_and_runtime(page: Page) -> None:
    assert "Breached agreement ≥ 0.970 0.927 [0.902, 0.953] " in page.words
    assert "Not enough samples to decide, refused AUROC drop ≤ 0.020 " in page.words
    assert "Answers from LiteRT 2.3.0 on x86_64, against PyTorch 2.13.0 on x86_64." in page.words


def test_failure_says_message_and_exit_code(page: Page, built: Built) -> None:
    for index, ending in (
        (1, "(ParityError, exit code 5)"),
        (2, "(UnsupportedOperatorError, exit code 9)"),
    ):
        failure = built.targets[index].failure
        assert failure is not None
        assert f"{failure.message} {ending}" in page.words


def test_state_is_told_by_word_and_icon_and_never_by_colour_alone(page: Page) -> None:
    icons = [use["href"] for use in page.all("use") if use.get("href", "").startswith("#icon-")]

    # The notice of simulated data, then each target's state and its verdicts.
    assert icons[:12] == [
        "#icon-unsure",
        *["#icon-good"] * 5,
        *["#icon-bad"] * 4,
        "#icon-unsure",
        "#icon-bad",
    ]


def test_runtime_stands_beside_each_limit_where_they_differ(built: Built, folder: Path) -> None:
    first, *others = built.targets[0].verdicts
    mixed = (replace(first, runtime="an emulator"), *others)
    changed = replace(built, targets=(replace(built.targets[0], verdicts=mixed),))

    words = Page(html.render(changed, folder)).words

    assert "0.998 [0.993, 1.000] an emulator" in words
    assert "28.8 dB ExecuTorch 1.5.1 (XNNPACK) on x86_64" in words


def test_want_of_samples_is_its_own_state(built: Built, folder: Path) -> None:
    result = built.targets[1]
    doubts = tuple(v for v in result.verdicts if v.outcome is Outcome.UNDECIDED)
    doubtful = replace(built, targets=(replace(result, verdicts=doubts),))

    page = Page(html.render(doubtful, folder))

    assert "Not enough samples to decide ultrasound-handheld-arm64" in page.words
    assert {"class": "verdict is-unsure", "aria-labelledby": "verdict-1"} in page.all("article")


def test_simulated_data_is_said_loudly_and_only_then(
    built: Built, folder: Path, page: Page
) -> None:
    dataset = replace(built.networks.dataset, simulated=False, origin="a clinic")
    networks = replace(built.networks, dataset=dataset)
    real = replace(built, networks=networks, targets=built.targets[2:])

    words = Page(html.render(real, folder)).words

    assert page.words.index("Simulated data.") < page.words.index("Ready to ship")
    assert "imulated" not in words
    assert "Samples a clinic" in words


def test_page_tells_no_time_and_no_latency(page: Page) -> None:
    assert not re.search(r"\d{4}-\d\d-\d\d|\d\d:\d\d|\b20[23]\d\b(?!\.)", page.words)
    assert not re.search(r"\d\s*(ms|µs|us|s|Hz|fps)\b|millisecond|per second", page.words)
    assert "No figure on this page is a latency." in page.words


def test_fallback_is_reported_with_its_reason(page: Page, built: Built, folder: Path) -> None:
    limits = built.recipe.limits.model_copy(update={"allowed_fallbacks": ()})
    recipe = built.recipe.model_copy(update={"limits": limits})
    refused = replace(built, recipe=recipe, targets=built.targets[:1])

    reason = "XNNPACK takes a mean over height and width only; runs as portable code."
    assert f"aten.mean.dim, 1×, allowed by the recipe: {reason}" in page.words  # noqa: RUF001
    words = Page(html.render(refused, folder)).words
    assert f"aten.mean.dim, 1×, not allowed by the recipe: {reason}" in words  # noqa: RUF001


def test_findings_say_where_and_what_to_do(page: Page) -> None:
    advice = "List 'gelu-to-sigmoid' in convert.rewrites, or train with ReLU."
    assert "Blocks this target: aten.gelu.default at model.py:33" in page.words
    assert f"TFLite-Micro has no GELU kernel. {advice}" in page.words


def test_applied_rewrite_is_no_longer_a_warning(built: Built, folder: Path) -> None:
    result = built.targets[2]
    mended = replace(result, findings=(replace(result.findings[0], applied=True),))

    words = Page(html.render(replace(built, targets=(mended,)), folder)).words

    assert "Rewritten: aten.gelu.default at model.py:33" in words
    assert "the rewrite gelu-to-sigmoid was applied, as the recipe asks." in words


def test_unknown_memory_is_said_with_the_reason(page: Page) -> None:
    assert "not known; the limit is 256 MiB ExecuTorch on this machine does not tell" in page.words
    assert "183,296 bytes, 0.1 % of 256 MiB" in page.words
    assert "not measured; the limit is 1.00 MiB" in page.words


def test_layers_that_could_not_be_pruned_are_named(page: Page) -> None:
    assert "the network's own code holds their sizes: head.0." in page.words
    assert "could not be refitted to the original before fine-tuning: stem.0." in page.words


def test_pruning_that_gains_nothing_is_said(built: Built, folder: Path) -> None:
    table = UnstructuredPruning(method="unstructured", sparsity_ratio=0.5)
    recipe = built.recipe.model_copy(update={"prune": table})
    sparse = replace(built, recipe=recipe, targets=built.targets[2:])

    words = Page(html.render(sparse, folder)).words

    assert f"{UNCONVERTED} computes zeros like any other weight" in words


def test_steps_say_what_ran_and_why(page: Page) -> None:
    assert "6 of 16 steps were reused." in page.words
    assert "prune▸ raninputs.1.macs_ratio: 0.6 -> 0.45" in page.words


def test_pictures_and_charts_are_described(page: Page) -> None:
    for svg in page.all("svg"):
        described = svg.get("role") == "img" and svg.get("aria-label")
        assert described or svg.get("aria-hidden") == "true"
    assert len(page.all("img")) == 24
    assert all(image["alt"] for image in page.all("img"))


def test_headings_skip_no_level(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]

    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_nothing_that_was_not_compared_is_judged(built: Built, folder: Path) -> None:
    words = Page(html.render(replace(built, targets=built.targets[2:]), folder)).words

    assert "0 of 1 target is ready to ship. Nothing could be compared with the original." in words
    assert "There is no converted program to compare." in words


def test_missing_evidence_is_an_error_and_no_empty_chart(built: Built, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is missing"):
        html.render(built, tmp_path)


def test_page_is_small(text: str) -> None:
    assert len(text.encode()) < 400_000


def test_targets_are_all_there(page: Page) -> None:
    for name in (READY, BREACHED, UNCONVERTED):
        # Its verdict, and each section after it.
        assert page.words.count(name) >= 6
