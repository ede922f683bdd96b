import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from packager import progress, target
from packager.artifacts import File, Finding, Interval, Layout, Precision, TensorIo
from packager.built import Built
from packager.bundles import (
    BundledFile,
    Manifest,
    MeasuredRecord,
    OpenedBundle,
    OperatorRecord,
    ParityRecord,
    ValidationRecord,
)
from packager.contract import IoContract
from packager.distributions import Distribution
from packager.doctor import Tool
from packager.kit_record import Pinned
from packager.recipe import Recipe
from packager.report import console
from packager.verdicts import Outcome, Verdict
from tests.built_example import READY, RECIPE, example_built
from tests.unit.devices import kit_example
from tests.validation_example import VALIDATION

UNFITTED = "note: layers that could not be refitted before fine-tuning: stem.0"


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return example_built(tmp_path)


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines on stdout without the padding of tables; stderr must be empty."""
    captured = capsys.readouterr()
    assert captured.err == ""
    return [line.rstrip() for line in captured.out.splitlines()]


def test_summary_has_verdict_sizes_agreement_runtime_and_reuse_of_each_target(
    built: Built, capsys: pytest.CaptureFixture[str]
) -> None:
    console.print_summary(built, Path("dist"))
    lines = printed(capsys)
    assert lines[0] == (
        "breast-phantom: 24,674,304 -> 10,953,216 multiply-accumulates (44% kept), "
        "94,978 -> 41,226 parameters"
    )
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[1:5]]
    ready, breached, unconverted = built.targets
    assert ready.parity is not None
    assert breached.parity is not None
    assert rows == [
        ["target", "verdict", "original -> program", "agreement", "checked on", "reused"],
        [
            "android-arm64-executorch",
            "ready",
            "421.8 KiB -> 59.5 KiB",
            f"{ready.parity.whole.agreement.estimate:.1%}",
            "ExecuTorch 1.5.1 (XNNPACK) on x86_64",
            "1 of 5",
        ],
        [
            "ultrasound-handheld-arm64",
            "no bundle: ParityError",
            "421.8 KiB -> 56.1 KiB",
            f"{breached.parity.whole.agreement.estimate:.1%}",
            "LiteRT 2.3.0 on x86_64",
            "1 of 4",
        ],
        ["cortex-m4-tflm", "no bundle: UnsupportedOperatorError", "-", "-", "-", "1 of 1"],
    ]
    assert unconverted.converted is None
    assert lines[5:] == [
        "Steps that all targets share: 3 of 6 reused.",
        UNFITTED,
        (
            "note: android-arm64-executorch: aten.mean.dim (1x) runs outside the fast path: "
            "XNNPACK takes a mean over height and width only; runs as portable code"
        ),
        "dist/android-arm64-executorch.zip",
        "dist/report.html",
    ]


def notes(built: Built, capsys: pytest.CaptureFixture[str]) -> list[str]:
    console.print_summary(built, Path("dist"))
    return [line for line in printed(capsys) if line.startswith("note: ") and line != UNFITTED]


def test_an_applied_rewrite_is_told(built: Built, capsys: pytest.CaptureFixture[str]) -> None:
    finding = Finding(
        rule="unsupported-operator",
        operator="aten.gelu.default",
        where="model.py:33",
        problem="no kernel",
        advice="Train with ReLU.",
        blocking=True,
        rewrite="gelu-to-sigmoid",
        applied=True,
    )
    result = replace(built.targets[2], findings=(finding,))
    expected = "note: cortex-m4-tflm: aten.gelu.default was rewritten by 'gelu-to-sigmoid'"
    assert notes(replace(built, targets=(result,)), capsys) == [expected]


def test_an_undecided_limit_that_was_accepted_is_told(
    built: Built, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = replace(
        built.targets[0].verdicts[-1],
        limit="accuracy drop <= 0.020",
        figure="+0.0100 [-0.0100, +0.0300]",
        outcome=Outcome.UNDECIDED,
        accepted=True,
    )
    result = replace(built.targets[2], verdicts=(verdict,))
    assert notes(replace(built, targets=(result,)), capsys) == [
        (
            "note: cortex-m4-tflm: accuracy drop <= 0.020 is accepted with not enough samples to "
            "decide: +0.0100 [-0.0100, +0.0300]"
        )
    ]
    refused = replace(result, verdicts=(replace(verdict, accepted=False),))
    assert notes(replace(built, targets=(refused,)), capsys) == []


def test_pruning_without_gain_is_told(built: Built, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Recipe.model_validate(
        RECIPE | {"prune": {"method": "unstructured", "sparsity_ratio": 0.5}}
    )
    sparse = replace(built, recipe=recipe, targets=built.targets[2:])
    assert notes(sparse, capsys) == [
        (
            "note: cortex-m4-tflm computes zeros like any other weight: unstructured pruning makes "
            "the download smaller, and nothing faster."
        )
    ]


def test_steps_are_listed_in_order_with_the_reason(
    built: Built, capsys: pytest.CaptureFixture[str]
) -> None:
    console.print_steps(built)
    lines = printed(capsys)
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    assert len(rows) == 1 + 6 + 5 + 4 + 1
    assert rows[0] == ["step", "for", "what became of it", "why"]
    assert rows[1] == [
        "samples",
        "all targets",
        "reused",
        "nothing that it depends on has changed",
    ]
    assert rows[4] == ["prune", "all targets", "ran", "inputs.1.macs_ratio: 0.6 -> 0.45"]
    assert rows[-1][:3] == ["lint", "cortex-m4-tflm", "reused"]


def test_targets_are_listed_with_their_memory(capsys: pytest.CaptureFixture[str]) -> None:
    device = target.load("cortex-m4-tflm", target.default_root())
    console.print_targets([device])
    row = [cell.strip() for cell in printed(capsys)[1].split("  ") if cell.strip()]
    assert row == [
        "cortex-m4-tflm",
        "tflite-micro",
        "int8",
        "1.0 MiB",
        "256.0 KiB",
        device.summary,
    ]


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 * 2**29, "1.5 GiB")],
)
def test_sizes_are_in_the_largest_unit_that_fits(
    size_bytes: int, shown: str, built: Built, capsys: pytest.CaptureFixture[str]
) -> None:
    device = built.targets[0].target
    memory = device.memory.model_copy(update={"ram_bytes": size_bytes})
    console.print_targets([device.model_copy(update={"memory": memory})])
    assert f" {shown} " in printed(capsys)[1]


def test_a_missing_tool_is_shown_with_its_remedy_brackets_and_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tool = Tool(
        name="torchao",
        needed_for=("android",),
        wanted="",
        found=None,
        usable=False,
        remedy="pip install 'packager[android]'",
    )
    console.print_tools([tool])
    row = [cell.strip() for cell in printed(capsys)[1].split("  ") if cell.strip()]
    assert row == ["torchao", "android", "any", "missing", "pip install 'packager[android]'"]


def test_a_kit_is_shown_with_faults_and_all_that_is_not_as_pinned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = kit_example.item(name="libpng-dev", pinned=Pinned.NEWER)
    record = kit_example.write(tmp_path, packages=(kit_example.item(), newer))
    problems = ("W: A list is missing.\nW: So is another.",)
    console.print_kit(replace(record, problems=problems), tmp_path, made=False)
    programs = [f"  {name:<21}  host/run/{name}" for name in record.programs]
    assert printed(capsys) == [
        f"{tmp_path}: whole, every file as it was made; 77 B",
        "",
        "emulator",
        "  version              QEMU 7.2.22",
        "  exact on             cortex-a53",
        "  counts instructions  yes",
        "  boots a machine      yes",
        "  fault                -cpu max computes a wrong answer to the known int8 network",
        "",
        "programs",
        *programs,
        "",
        "packages",
        "  as pinned          1",
        "  newer than pinned  1",
        "  libpng-dev         1:1.2.13 is newer than pinned (sysroot/aarch64)",
        "",
        "left out",
        "    W: A list is missing.",
        "    W: So is another.",
    ]


RECORD = ValidationRecord(
    validation=VALIDATION,
    verdicts=(
        Verdict(
            limit="inputs equal",
            figure="0 of 16 differ",
            outcome=Outcome.MET,
            accepted=True,
            runtime="LiteRT 2.3.0 on aarch64, qemu-system:cortex-a72",
        ),
    ),
    files=("scan-aarch64",),
)


def test_what_a_device_showed_is_printed_with_what_it_could_not_tell(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.print_validation(RECORD)
    assert [" ".join(line.split()) for line in printed(capsys)] == [
        f"{VALIDATION.device}: {VALIDATION.description}, {VALIDATION.runtime}",
        "",
        "verdicts",
        "inputs equal met: 0 of 16 differ",
        "",
        "measured here",
        "start-up 9,000,000 instructions",
        "an inference 8,000,000 instructions, the first 8,200,000",
        "a frame to input 41,000 instructions",
        "output to answer 900 instructions",
        "counted by a plugin inside the emulator",
        "a second run the same to the digit",
        "of them sdot 1,300,000",
        "conv #1 75% of an inference",
        "linear #2 25% of an inference",
        "peak memory 2,809,856 bytes of 268,435,456 allowed",
        "system calls 100, recorded by strace 6.1",
        "",
        "not measured here",
        "latency an emulator knows no time",
        "",
    ]


def opened(built: Built) -> OpenedBundle:
    result, networks = built.targets[0], built.networks
    assert result.parity is not None
    assert result.converted is not None
    assert result.measured is not None
    program = result.converted.program
    whole = replace(result.parity.whole, agreement=Interval(estimate=0.99, low=0.98, high=1.0))
    int8 = TensorIo(
        shape=(1, 64, 64, 1),
        layout=Layout.CHANNELS_LAST,
        dtype=Precision.INT8,
        scale=0.25,
        zero_point=-3,
    )
    return OpenedBundle(
        archive=File(path=Path("dist/a.zip"), sha256="f6" * 32, size_bytes=71_338),
        manifest=Manifest(
            packager="0.1.0",
            target=READY,
            recipe="breast-phantom",
            runtime=result.converted.runtime,
            precision=result.converted.precision,
            model="model.pte",
            files=(
                BundledFile(name="model.pte", sha256=program.sha256, size_bytes=program.size_bytes),
            ),
            built_with=(Distribution(name="torch", version="2.13.0"),),
        ),
        contract=IoContract(contract=networks.contract, input=int8, output=result.converted.output),
        parity=ParityRecord(
            runtime=result.parity.runtime,
            reference_runtime="PyTorch 2.13.0 on x86_64",
            origin="simulated by this program",
            simulated=True,
            pruning=result.parity.pruning,
            conversion=result.parity.conversion,
            whole=whole,
            verdicts=result.verdicts[:1],
        ),
        measured=MeasuredRecord(
            program=result.measured,
            original=networks.pruned.before,
            pruned=networks.pruned.after,
        ),
        operators=OperatorRecord(
            operators=result.converted.operators[:1], fallbacks=(), findings=()
        ),
    )


def test_a_bundle_is_shown_section_by_section(
    built: Built, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = replace(opened(built), validations=(RECORD,))
    whole, verdict = bundle.parity.whole, bundle.parity.verdicts[0]
    console.print_bundle(bundle)
    drops = [
        f"{m.metric:<20}"[:20].rstrip() + f" {m.reference_score:.4f} -> {m.candidate_score:.4f}"
        for m in whole.metrics
    ]
    assert [" ".join(line.split()) for line in printed(capsys)] == [
        "dist/a.zip: whole, every file as its manifest says",
        "",
        "bundle",
        "model breast-phantom",
        "target android-arm64-executorch",
        "runtime executorch, int8",
        "program model.pte",
        "packager 0.1.0",
        "",
        "contract",
        "takes frames of 8-bit gray, 64 x 64 pixels (height x width)",
        "turned upright as their EXIF orientation says",
        "normalised: (value / 255 - 0.33) / 0.21",
        "sample 1 x 64 x 64, channels first",
        "answer softmax over cyst, solid lesion",
        "input 1 x 64 x 64 x 1 channels-last, int8, scale 0.25, zero point -3",
        "output 1 x 2 channels-first, float32",
        "",
        "parity",
        "checked on ExecuTorch 1.5.1 (XNNPACK) on x86_64, against PyTorch 2.13.0 on x86_64",
        "samples 400, simulated: simulated by this program",
        f"same decision 99.0% [98.0%, 100.0%]; {whole.decisions_changed} changed",
        *drops,
        f"{verdict.limit} {verdict.outcome}: {verdict.figure}",
        "",
        "device",
        "flash 60,944 bytes",
        "RAM unknown (ExecuTorch on this machine does not tell its delegate's working memory)",
        "multiply-accumulates 24,674,304 -> 10,953,216",
        "parameters 94,978 -> 41,226",
        "",
        "operators",
        "aten.convolution.default 7 x int8",
        "",
        "outside the fast path",
        "none",
        "",
        "devices that ran it",
        "qemu-system:cortex-a72 1 of 1 verdicts met, by LiteRT 2.3.0 on aarch64",
        "",
        "files",
        f"model.pte 60,944 bytes sha256 {'e5' * 32}",
        "",
        "built with",
        "software 1 packages, by exact version in the manifest",
    ]


def test_a_bundle_cannot_steer_the_terminal(
    built: Built, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = opened(built)
    hostile = replace(bundle.parity, origin="good\x1b[2Jbad\u202e\x9b1m")
    console.print_bundle(replace(bundle, parity=hostile))
    console.print_artifact(hostile.origin)
    lines = printed(capsys)
    assert "simulated: good\\x1b[2Jbad\\u202e\\x9b1m" in "".join(lines)
    assert json.loads(lines[-1]) == hostile.origin
    assert all(line.isprintable() for line in lines)


def test_errors_and_tracebacks_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        int("five")
    except ValueError:
        console.print_traceback()
    console.print_error("It is broken.")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[0] == "Traceback (most recent call last):"
    assert captured.err.splitlines()[-2:] == [
        "ValueError: invalid literal for int() with base 10: 'five'",
        "error: It is broken.",
    ]


def test_without_a_terminal_a_task_is_one_line_when_it_starts_and_one_when_it_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with console.progress_shown(), progress.track("fine-tune", 3) as done:
        done("loss 0.5")
        done("loss 0.4")
    with console.progress_shown(), progress.track("prune", 1):
        pass
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "fine-tune: up to 3",
        "fine-tune: 2 of 3, loss 0.4",
        "prune: up to 1",
        "prune: 0 of 1",
    ]


def test_on_a_terminal_a_bar_counts_and_shows_the_last_note(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    with console.progress_shown(), progress.track("fine-tune", 3) as done:
        done("loss 0.5")
        done("loss 0.4")
    last = terminal.getvalue().splitlines()[-2]
    assert "fine-tune" in last
    assert "2/3" in last
    assert "loss 0.4" in last


def test_two_tasks_of_one_name_after_each_other_are_two_bars() -> None:
    with Progress(console=Console(file=io.StringIO())) as bars:
        listener = console.Bars(bars)
        for _ in range(2):
            listener.start("train", 2)
            listener.advance("train", "")
            listener.finish("train")
        assert [(task.completed, task.total) for task in bars.tasks] == [(1, 2), (1, 2)]


def test_nobody_listens_after_the_block(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress_shown():
        pass
    with progress.track("train", 1) as done:
        done("")
    assert capsys.readouterr().err == ""
