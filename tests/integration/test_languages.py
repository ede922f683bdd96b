"""The code of every language gives the very bytes of the reference, and the same faults.

One batch of contracts and cases is drawn for all of them, and its results are computed once.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest

from packager.artifacts import Layout, Precision, TensorIo
from packager.codegen import Language, generate
from packager.contract import IoContract, document
from packager.contract.spec import (
    MAX_SIDE_PX,
    Activation,
    BoxForm,
    ChannelOrder,
    Colour,
    Contract,
    Fit,
    Orientation,
    Position,
    Resize,
    ResizeMode,
    SignalSource,
    Standardise,
    Taper,
)
from packager.errors import Fault
from tests.contracts import GRAY
from tests.languages import c, cortex_m, cpp, java, javascript, protocol
from tests.languages.protocol import Case, Kind, Result
from tests.languages.strategies import batch

CONTRACTS = 100
CASES = 5_200
SEED = 1

# The slowest ones first, so that none of them is left over at the end.
LANGUAGES: dict[str, ModuleType] = {
    "C++": cpp,
    "C": c,
    "C on a Cortex-M": cortex_m,
    "Java": java,
    "JavaScript": javascript,
}


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What all languages are asked, and what they should answer."""

    contracts: tuple[IoContract, ...]
    cases: tuple[Case, ...]
    expected: tuple[Result, ...]
    file: Path


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    contracts, cases = batch(contracts=CONTRACTS, cases=CASES, seed=SEED)
    pinned = case_on_a_half(contract=len(contracts))
    return ask((*contracts, HALVES), (*cases, pinned), tmp_path_factory.mktemp("cases"))


# Stretched from 3 rows to 128, some sums of shares lie within one unit of a half: a rounding
# that is off by one is seen here, and by chance only elsewhere.
HALVES = IoContract(
    contract=Contract(
        input_shape=(1, 128, 1),
        source=GRAY,
        resize=Resize(mode=ResizeMode.BILINEAR),
        full_scale=255.0,
        mean=(0.0,),
        std=(1.0,),
        activation=Activation.SOFTMAX,
        labels=("cyst", "solid"),
    ),
    input=TensorIo(shape=(1, 1, 128, 1), layout=Layout.CHANNELS_FIRST, dtype=Precision.FLOAT32),
    output=TensorIo(shape=(1, 2), layout=Layout.CHANNELS_FIRST, dtype=Precision.FLOAT32),
)


def case_on_a_half(*, contract: int) -> Case:
    return Case(contract=contract, kind=Kind.PREPARE, height=3, width=1, payload=bytes([0, 1, 0]))


def ask(contracts: tuple[IoContract, ...], cases: tuple[Case, ...], folder: Path) -> Batch:
    """Write the cases to a file, and let the reference answer them."""
    file = folder / "cases.bin"
    protocol.write_cases(file, list(cases))
    expected = tuple(protocol.expected(case, contracts[case.contract]) for case in cases)
    return Batch(contracts=contracts, cases=cases, expected=expected, file=file)


@pytest.fixture(scope="module")
def answered(
    asked: Batch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[list[Result]]]]:
    """Start all languages, two at a time."""

    def run(name: str, folder: Path) -> list[Result]:
        return protocol.read_results(LANGUAGES[name].run(asked.contracts, asked.file, folder))

    with ThreadPoolExecutor(max_workers=2) as pool:
        yield {
            name: pool.submit(run, name, tmp_path_factory.mktemp(LANGUAGES[name].__name__))
            for name in LANGUAGES
        }


@pytest.mark.parametrize("language", LANGUAGES)
def test_tensors_answers_and_faults_are_those_of_the_reference(
    language: str, asked: Batch, answered: dict[str, Future[list[Result]]]
) -> None:
    assert differences(asked, answered[language].result(), language) == ""


def differences(asked: Batch, given: Sequence[Result], language: str) -> str:
    """Return how many results differ, with the smallest case of them; empty for none."""
    if len(given) != len(asked.cases):
        return f"{language} gives {len(given)} results of {len(asked.cases)} cases."
    wrong = [
        index
        for index, (result, wanted) in enumerate(zip(given, asked.expected, strict=True))
        if (result.status, sha256(result)) != (wanted.status, sha256(wanted))
    ]
    if not wrong:
        return ""
    smallest = min(wrong, key=lambda index: len(asked.cases[index].payload))
    case, wanted = asked.cases[smallest], asked.expected[smallest]
    return (
        f"{language}: {len(wrong)} of {len(given)} results differ. The smallest case:\n"
        f"{document.text(asked.contracts[case.contract])}{in_words(case)}\n"
        f"{difference(given[smallest], wanted)}"
    )


def sha256(result: Result) -> str:
    return hashlib.sha256(result.payload).hexdigest()


def in_words(case: Case) -> str:
    """Return a case without most of its payload."""
    short = replace(case, payload=case.payload[:48], palette=case.palette[:12])
    return f"{short}, {len(case.payload)} bytes and {len(case.palette)} of a palette"


def difference(given: Result, wanted: Result) -> str:
    """Return where two results differ first."""
    pairs = enumerate(zip(given.payload, wanted.payload, strict=False))
    shorter = min(len(given.payload), len(wanted.payload))
    first = next((at for at, (one, other) in pairs if one != other), shorter)
    return (
        f"expected status {wanted.status}, {len(wanted.payload)} bytes, SHA-256 {sha256(wanted)}\n"
        f"given    status {given.status}, {len(given.payload)} bytes, SHA-256 {sha256(given)}\n"
        f"first differing byte {first}: expected {wanted.payload[first : first + 8].hex() or None}, "
        f"given {given.payload[first : first + 8].hex() or None}"
    )


# What the batch has in it


def statuses(asked: Batch, kind: Kind) -> set[str]:
    """Return the outcomes of all cases of a kind."""
    names = {0: "ok"} | {fault.number: fault.value for fault in Fault}
    return {
        names[result.status]
        for case, result in zip(asked.cases, asked.expected, strict=True)
        if case.kind is kind
    }


def test_batch_has_every_outcome_of_every_kind_of_case(asked: Batch) -> None:
    assert len(asked.contracts) == CONTRACTS + 1
    assert len(asked.cases) == CASES + 1
    every = {fault.value for fault in Fault}
    assert statuses(asked, Kind.PREPARE) == (every | {"ok"}) - {"unknown-version"}
    assert statuses(asked, Kind.ANSWER) == {"ok", "wrong-size", "truncated", "not-finite"}
    assert statuses(asked, Kind.VERSION) == {"ok", "unknown-version"}
    tensors = [
        result.payload
        for case, result in zip(asked.cases, asked.expected, strict=True)
        if case.kind is Kind.PREPARE and result.status == 0
    ]
    assert len(tensors) >= 2_000
    assert len(set(tensors)) >= 1_200


def taken(asked: Batch) -> list[IoContract]:
    """Return the contracts of which at least one frame became a tensor."""
    good = {
        case.contract
        for case, result in zip(asked.cases, asked.expected, strict=True)
        if case.kind is Kind.PREPARE and result.status == 0
    }
    return [asked.contracts[index] for index in sorted(good)]


def test_batch_has_every_kind_of_image(asked: Batch) -> None:
    images = [io.contract for io in taken(asked) if io.contract.is_image]
    resized = [contract for contract in images if contract.resize]
    assert {(k.image.colour, k.image.bits) for k in images} == {
        (colour, bits) for colour in Colour for bits in (8, 16)
    }
    assert {(k.image.colour, k.input_shape[0]) for k in images} == {
        (colour, channels) for colour in Colour for channels in (1, 3)
    }
    assert {k.image.orientation for k in images} == set(Orientation)
    assert {k.channel_order for k in images} == set(ChannelOrder)
    assert {(k.resize.mode, k.resize.fit) for k in resized if k.resize} == {
        (mode, fit) for mode in ResizeMode for fit in Fit
    }
    assert {(k.resize.mode, k.image.bits) for k in resized if k.resize} == {
        (mode, bits) for mode in ResizeMode for bits in (8, 16)
    }
    assert {k.crop.kind if k.crop else "none" for k in images} == {"none", "box", "centre"}
    for yes_or_no in (
        {k.resize is None for k in images},
        {k.sector is None for k in images},
        {k.image.size_px is None for k in images},
        {k.image.pixel_aspect == (1, 1) for k in images},
        {max(k.input_shape) > 100 for k in images},
    ):
        assert yes_or_no == {True, False}


def test_batch_has_frames_of_the_longest_side_and_of_one_pixel(asked: Batch) -> None:
    sides = {
        (asked.contracts[case.contract].contract.resize is not None, side)
        for case, result in zip(asked.cases, asked.expected, strict=True)
        if case.kind is Kind.PREPARE and case.bits <= 16 and result.status == 0
        for side in (case.height, case.width)
    }
    assert sides >= {(True, MAX_SIDE_PX), (True, 1), (False, 1)}


def test_batch_turns_frames_in_every_way(asked: Batch) -> None:
    turned = {
        case.orientation
        for case, result in zip(asked.cases, asked.expected, strict=True)
        if case.kind is Kind.PREPARE and result.status == 0
        if turns(asked.contracts[case.contract].contract)
    }
    assert turned == set(range(1, 9))


def turns(contract: Contract) -> bool:
    return contract.is_image and contract.image.orientation is Orientation.EXIF


def test_batch_has_every_kind_of_signal(asked: Batch) -> None:
    signals = [io.contract for io in taken(asked) if not io.contract.is_image]
    steps = [contract.signal for contract in signals if contract.signal]
    samples = [k.source.samples for k in signals if isinstance(k.source, SignalSource)]
    assert set(samples) == {"float32", "int16"}
    assert {s.standardise for s in steps} == set(Standardise)
    assert {s.taper for s in steps} == set(Taper)
    assert {s.position for s in steps} == set(Position)
    for yes_or_no in (
        {k.signal is None for k in signals},
        {s.resample_hz is None for s in steps},
        {s.fir == () for s in steps},
    ):
        assert yes_or_no == {True, False}


def test_batch_has_every_kind_of_tensor(asked: Batch) -> None:
    assert kinds_of_tensors(io.input for io in taken(asked)) == EVERY_TENSOR
    maps = [io for io in asked.contracts if io.contract.segments]
    assert kinds_of_tensors(io.output for io in maps) == EVERY_TENSOR


EVERY_TENSOR = {(layout, precision) for layout in Layout for precision in Precision}


def kinds_of_tensors(tensors: Iterator[TensorIo]) -> set[tuple[Layout, Precision]]:
    return {(tensor.layout, tensor.dtype) for tensor in tensors}


def test_batch_has_every_kind_of_answer(asked: Batch) -> None:
    contracts = [io.contract for io in asked.contracts]
    answers = {(answer(io.contract), io.contract.activation, io.output.dtype)
               for io in asked.contracts}  # fmt: skip
    assert answers == {
        (kind, activation, precision)
        for kind in ("labels", "boxes", "segments")
        for activation in Activation
        for precision in Precision
    }
    assert {k.boxes.form for k in contracts if k.boxes} == set(BoxForm)
    classifies = [k for k in contracts if answer(k) == "labels"]
    assert {k.threshold is None for k in classifies} == {True, False}
    assert {k.top_k > 1 for k in classifies} == {True, False}
    assert {(k.boxes.form, suppresses(asked, index)) for index, k in enumerate(contracts) if k.boxes
            } >= {(form, True) for form in BoxForm}  # fmt: skip


def suppresses(asked: Batch, index: int) -> bool:
    """Return whether a contract's limit of overlaps leaves out a box in any of its cases."""
    io = asked.contracts[index]
    assert io.contract.boxes, "the contract finds boxes"
    every = io.contract.boxes.model_copy(update={"max_overlap_ratio": 1.0})
    lax = replace(io, contract=io.contract.model_copy(update={"boxes": every}))
    return any(
        protocol.expected(case, lax) != result
        for case, result in zip(asked.cases, asked.expected, strict=True)
        if case.contract == index and case.kind is Kind.ANSWER
    )


def answer(contract: Contract) -> str:
    return "boxes" if contract.boxes else "segments" if contract.segments else "labels"


# A check must be able to fail


def test_one_wrong_bit_and_one_wrong_fault_are_found(asked: Batch) -> None:
    asked_of = len(asked.cases)
    for index in (0, asked_of // 2, asked_of - 1):
        given = list(asked.expected)
        right = given[index]
        if right.payload:
            given[index] = replace(right, payload=bytes([right.payload[0] ^ 1]) + right.payload[1:])
        else:
            given[index] = replace(right, status=right.status + 1)
        report = differences(asked, given, "C")
        assert report.startswith(f"C: 1 of {asked_of} results differ. The smallest case:\n")
        assert in_words(asked.cases[index]) in report
    assert differences(asked, asked.expected[1:], "C") == (
        f"C gives {asked_of - 1} results of {asked_of} cases."
    )
    assert differences(asked, asked.expected, "C") == ""


Break = Callable[[str], str]


def instead(pattern: str, replacement: str) -> Break:
    """Return what replaces text in generated code."""
    return lambda code: re.sub(pattern, replacement, code)


def swapped(code: str) -> str:
    """Exchange the first and the last of three channels."""
    return re.sub(r"taken\[at( \+ 2)?\] =", lambda m: f"taken[at{'' if m[1] else ' + 2'}] =", code)


def turned_the_other_way(code: str) -> str:
    """Exchange what is done for the EXIF orientations 6 and 8."""
    six = "{ first: bottom, across: -width, down: 1 }, // 6"
    eight = "{ first: right, across: width, down: -1 }, // 8"
    return code.replace(six, "\0").replace(eight, six).replace("\0", eight)


MISTAKES: dict[str, Break] = {
    "sums are rounded down": instead(
        r"(sum = |sums\.fill\()\d+(\)?;) // a half, to round half up", r"\g<1>0\g<2>"
    ),
    "rows are one too far down": instead(r"\(start \+ k\) \*", "(start + k + 1) *"),
    "one column is left out": instead("k < shares.length", "k < shares.length - 1"),
    "red is blue": swapped,
    "left is right": turned_the_other_way,
    "luma is cut off": instead(r"\* blue \+ 32768\) >>> 16", "* blue) >>> 16"),
    "edges are outside of the fan": instead(r" >= y \*", " > y *"),
    "halves are rounded towards zero": instead(
        r"\? -0\.5 : 0\.5", "? -0.4999999999999999 : 0.4999999999999999"
    ),
    "a quotient is not rounded to float32": instead(
        r"Math\.fround\(value / FULL_SCALE\)", "value / FULL_SCALE"
    ),
    "long frames are taken": instead(r"pixels\.length !== wanted", "pixels.length < wanted"),
    "the 16th digit of an exponential is wrong": instead(r"(0\.9\d{14})\d\b", r"\g<1>1"),
    "the last of equal logits decides": instead("logit > largest", "logit >= largest"),
    "boxes are rounded up": instead(r"cut\.(left|top) \+ Math\.floor", r"cut.\1 + Math.ceil"),
}


@pytest.fixture(scope="module")
def right(asked: Batch) -> dict[str, dict[str, str]]:
    """Return each contract's JavaScript, by the name that it runs under."""
    names = {f"c{index:03}": io for index, io in enumerate(asked.contracts)}
    return {name: generate(io, name, Language.JAVASCRIPT) for name, io in names.items()}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_generated_code_is_found(
    mistake: str,
    asked: Batch,
    right: dict[str, dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = {
        name: {file: MISTAKES[mistake](text) for file, text in files.items()}
        for name, files in right.items()
    }
    monkeypatch.setattr(javascript, "generate", lambda _io, name, _language: wrong[name])
    (tmp_path / "run").mkdir()
    part = only(asked, {index for index, name in enumerate(right) if right[name] != wrong[name]})
    protocol.write_cases(tmp_path / "cases", list(part.cases))
    results = javascript.run(part.contracts, tmp_path / "cases", tmp_path / "run")
    report = differences(part, protocol.read_results(results), "JavaScript")
    assert re.match(r"JavaScript: [1-9]\d* of \d+ results differ\. The smallest case:\n", report)


def only(asked: Batch, contracts: Collection[int]) -> Batch:
    """Leave out the cases of other contracts."""
    kept = [index for index, case in enumerate(asked.cases) if case.contract in contracts]
    return replace(
        asked,
        cases=tuple(asked.cases[index] for index in kept),
        expected=tuple(asked.expected[index] for index in kept),
    )
