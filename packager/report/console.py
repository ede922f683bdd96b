"""Print results to stdout, and everything else to stderr: the only module that prints."""

import json
import sys
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from packager.progress import listening

if TYPE_CHECKING:  # so that `packager doctor` works where a package of the core is missing
    from packager.artifacts import Interval, TensorIo, Visit
    from packager.built import Built, TargetResult
    from packager.bundles import (
        Manifest,
        MeasuredRecord,
        OpenedBundle,
        ParityRecord,
        ValidationRecord,
    )
    from packager.contract import IoContract
    from packager.doctor import Tool
    from packager.kit_record import Emulator, Item, Record
    from packager.seen import InputCheck
    from packager.target import Target
    from packager.validations import InstructionCounts, Validation

SHOWN_OPERATORS = 5
PIPE_WIDTH = 1000
"""Columns where the output is no terminal, so that tables keep one line a row."""


class Bars:
    """Shows each task that is under way as a bar that moves."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def start(self, task: str, total: int) -> None:
        """Show a task of `total` units."""
        self._tasks[task] = self._progress.add_task(task, total=total, note="")

    def advance(self, task: str, note: str) -> None:
        """Count one unit as done."""
        self._progress.update(self._tasks[task], advance=1, note=note)

    def finish(self, task: str) -> None:
        """Let the bar stand still, with its last note."""
        self._progress.stop_task(self._tasks.pop(task))


class Lines:
    """Prints one line when a task starts and one when it ends: for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._totals: dict[str, int] = {}
        self._notes: dict[str, list[str]] = {}

    def start(self, task: str, total: int) -> None:
        """Print that a task of `total` units starts."""
        self._totals[task], self._notes[task] = total, []
        self._console.print(f"{task}: up to {total}")

    def advance(self, task: str, note: str) -> None:
        """Keep the note for the last line."""
        self._notes[task].append(note)

    def finish(self, task: str) -> None:
        """Print how far the task came, with its last note."""
        notes = self._notes.pop(task)
        last = f", {notes[-1]}" if notes and notes[-1] else ""
        self._console.print(f"{task}: {len(notes)} of {self._totals.pop(task)}{last}")


@contextmanager
def progress_shown() -> Iterator[None]:
    """Show on stderr how far the work inside the block is.

    What libraries print meanwhile goes to stderr as well: stdout is for the result.
    """
    console = _console(stderr=True)
    with redirect_stdout(sys.stderr):
        if not console.is_terminal:
            with listening(Lines(console)):
                yield
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console) as progress, listening(Bars(progress)):
            yield


def print_json(plain: object) -> None:
    """Print what a program reads."""
    print(json.dumps(plain, indent=2))


def print_artifact(value: object) -> None:
    """Print a value that flows between stages, as `build.json` holds it."""
    from packager.cache import encode

    print_json(encode(value))


def print_error(message: str) -> None:
    """Print why the command failed."""
    print(f"error: {message}", file=sys.stderr)


def print_traceback() -> None:
    """Print where the exception that is being handled came from."""
    traceback.print_exc()


def print_text(text: str) -> None:
    """Print a result that is one line."""
    print(text)


def print_paths(paths: Iterable[Path]) -> None:
    """Print files that were written, one a line."""
    for path in paths:
        print(path)


def print_summary(built: "Built", out: Path) -> None:
    """Print what came out for each target, and where it lies below `out`."""
    networks = built.networks
    before, after = networks.pruned.before, networks.pruned.after
    share = after.macs / before.macs
    print(
        f"{built.recipe.name}: {before.macs:,} -> {after.macs:,} multiply-accumulates "
        f"({share:.0%} kept), {before.parameters:,} -> {after.parameters:,} parameters"
    )
    table = _table("target", "verdict", "original -> program", "agreement", "checked on", "reused")
    for result in built.targets:
        table.add_row(*_summary_row(result, networks.original.program.size_bytes))
    _console().print(table)
    shared = sum(visit.reused for visit in built.visits)
    print(f"Steps that all targets share: {shared} of {len(built.visits)} reused.")
    for note in _notes(built):
        print(f"note: {note}")
    bundles = [result.bundle for result in built.targets if result.bundle]
    print_paths(out / bundle.archive.path for bundle in bundles)
    print_paths([out / "report.html"])


def _summary_row(result: "TargetResult", original_bytes: int) -> tuple[str, ...]:
    parity, converted = result.parity, result.converted
    size = f"{_size(original_bytes)} -> {_size(converted.program.size_bytes)}" if converted else "-"
    reused = sum(visit.reused for visit in result.visits)
    return (
        result.target.name,
        f"no bundle: {result.failure.error}" if result.failure else "ready",
        size,
        f"{parity.whole.agreement.estimate:.1%}" if parity else "-",
        parity.runtime if parity else "-",
        f"{reused} of {len(result.visits)}",
    )


def _notes(built: "Built") -> Iterator[str]:
    """Yield what a target does other than the user may expect, one sentence each."""
    from packager.built import pruning_note
    from packager.verdicts import Outcome

    unfitted = built.networks.tuned.unfitted_layers
    if unfitted:
        yield f"layers that could not be refitted before fine-tuning: {', '.join(unfitted)}"
    for result in built.targets:
        name = result.target.name
        gainless = pruning_note(built.recipe, result.target)
        if gainless:
            yield gainless
        for fallback in result.converted.fallbacks if result.converted else ():
            what = f"{fallback.operator} ({fallback.count}x) runs outside the fast path"
            yield f"{name}: {what}: {fallback.reason}"
        for finding in result.findings:
            if finding.applied:
                yield f"{name}: {finding.operator} was rewritten by {finding.rewrite!r}"
        for verdict in result.verdicts:
            if verdict.accepted and verdict.outcome is not Outcome.MET:
                yield f"{name}: {verdict.limit} is accepted with {verdict.outcome}: {verdict.figure}"


def print_steps(built: "Built") -> None:
    """Print which steps ran and which were reused, and why."""
    table = _table("step", "for", "what became of it", "why")
    for visit in built.visits:
        table.add_row(*_step_row(visit, "all targets"))
    for result in built.targets:
        for visit in result.visits:
            table.add_row(*_step_row(visit, result.target.name))
    _console().print(table)


def _step_row(visit: "Visit", subject: str) -> tuple[str, ...]:
    if visit.reused:
        return visit.step, subject, "reused", "nothing that it depends on has changed"
    return visit.step, subject, "ran", visit.reason


def print_input_check(check: "InputCheck") -> None:
    """Print what a program answers to an image, with each resizer."""
    ours = check.seen[0]
    _console().print(f"{check.image.name} on {check.target}, by {check.runtime}")
    _console().print(f"{check.golden} golden samples of the bundle: prepared byte for byte")
    table = _table("resizer", "pixels changed", "most", "decides", f"chance of {ours.label}")
    for seen in check.seen:
        table.add_row(
            seen.resizer,
            f"{seen.pixels_changed_ratio:.1%}",
            str(seen.max_difference),
            seen.label if seen.label == ours.label else f"{seen.label} (another)",
            f"{seen.probability:.4f}",
        )
    _console().print(table)
    if not check.resizes:
        _console().print("The contract does not resize: with each, the program sees the same.")


def print_validation(record: "ValidationRecord") -> None:
    """Print what a device showed when a bundle ran on it."""
    validation = record.validation
    told = f"{validation.device}: {validation.description}, {validation.runtime}"
    print(_visible(told))
    for title, rows in _validation_sections(record).items():
        _print_section(title, rows)
    print()


def _validation_sections(record: "ValidationRecord") -> dict[str, list[tuple[str, str]]]:
    validation = record.validation
    sections = {
        "verdicts": [
            (verdict.limit, f"{verdict.outcome}: {verdict.figure}") for verdict in record.verdicts
        ],
        "measured here": _measured_rows(validation),
        "not measured here": [(each.what, each.reason) for each in validation.not_measured],
    }
    return {title: rows for title, rows in sections.items() if rows}


def _measured_rows(validation: "Validation") -> list[tuple[str, str]]:
    rows = _instruction_rows(validation.instructions) if validation.instructions else []
    if validation.memory:
        memory = validation.memory
        allowed = f" of {memory.limit_bytes:,} allowed" if memory.limit_bytes else ""
        rows.append(("peak memory", f"{memory.peak_bytes:,} bytes{allowed}"))
    if validation.latency:
        latency = validation.latency
        figure = f"median {latency.median_ms:.2f} ms, p95 {latency.p95_ms:.2f} ms"
        rows.append(("an inference", f"{figure} over {latency.inferences}"))
    if validation.offline and validation.offline.source:
        made = sum(count for _, count in validation.offline.calls)
        rows.append(("system calls", f"{made:,}, recorded by {validation.offline.source}"))
    return rows


def _instruction_rows(counted: "InstructionCounts") -> list[tuple[str, str]]:
    unit = "instructions"
    operators = counted.operators[:SHOWN_OPERATORS]
    inference = f"{counted.inference:,} {unit}, the first {counted.first_inference:,}"
    # Where the program does not run the contract, neither was counted.
    contract = {"a frame to input": counted.prepare, "output to answer": counted.answer}
    return [
        ("start-up", f"{counted.startup:,} {unit}"),
        ("an inference", inference),
        *((what, f"{count:,} {unit}") for what, count in contract.items() if count is not None),
        ("", counted.source),
        ("a second run", "the same to the digit" if counted.repeats else "other counts"),
        *((f"of them {simd.name}", f"{simd.instructions:,}") for simd in counted.simd),
        *((cost.name, f"{cost.share_ratio:.0%} of an inference") for cost in operators),
    ]


def print_targets(targets: "Iterable[Target]") -> None:
    """Print what can be built for."""
    table = _table("target", "runtime", "precision", "flash", "RAM", "what it is")
    for target in targets:
        memory = target.memory
        table.add_row(
            target.name,
            target.runtime,
            target.precision,
            _size(memory.flash_bytes),
            _size(memory.ram_bytes),
            target.summary,
        )
    _console().print(table)


def print_tools(tools: "Iterable[Tool]") -> None:
    """Print which packages are here, which are not, and how to get them."""
    table = _table("package", "needed for", "wanted", "found", "how to get it")
    for tool in tools:
        found = tool.found or "missing"
        users = ", ".join(tool.needed_for)
        table.add_row(tool.name, users, tool.wanted or "any", found, tool.remedy or "-")
    _console().print(table)


def print_kit(record: "Record", root: Path, *, made: bool) -> None:
    """Print a device kit: where it is, what it was made of, and what its emulator can do."""
    size_bytes = sum(contents.size_bytes for contents in record.folders.values())
    done = "made anew, and tried out" if made else "whole, every file as it was made"
    print(f"{root}: {done}; {_size(size_bytes)}")
    sections = {
        "emulator": _emulator_rows(record.emulator) if record.emulator else [],
        "programs": list(record.programs.items()),
        "packages": _package_rows(record.packages),
        "left out": [("", line) for said in record.problems for line in said.splitlines()],
    }
    for title, rows in sections.items():
        if rows:
            _print_section(title, rows)


def _emulator_rows(emulator: "Emulator") -> list[tuple[str, str]]:
    return [
        ("version", f"QEMU {emulator.version}"),
        ("exact on", ", ".join(emulator.exact_cpus)),
        ("counts instructions", "yes" if emulator.counts else "no: it takes no plugin"),
        ("boots a machine", "yes" if emulator.boots else "no"),
        *(("fault", fault) for fault in emulator.faults),
    ]


def _package_rows(packages: "Iterable[Item]") -> list[tuple[str, str]]:
    """Return how many are as pinned, and each one that is not."""
    counted = Counter(item.pinned for item in packages)
    others = [item for item in packages if item.pinned != "as pinned"]
    return [
        *((str(pinned), str(count)) for pinned, count in sorted(counted.items())),
        *((item.name, f"{item.version} is {item.pinned} ({item.part})") for item in others),
    ]


def print_bundle(bundle: "OpenedBundle") -> None:
    """Print what a verified bundle is: manifest, contract, operators, parity and sizes."""
    manifest, parity = bundle.manifest, bundle.parity
    print(f"{bundle.archive.path}: whole, every file as its manifest says")
    sections = {
        "bundle": _manifest_rows(manifest),
        "contract": _contract_rows(bundle.contract),
        "parity": _parity_rows(parity),
        "device": _device_rows(bundle.measured),
        "operators": [
            (use.operator, f"{use.count} x {use.dtype}") for use in bundle.operators.operators
        ],
        "outside the fast path": [
            (use.operator, f"{use.count} x: {use.reason}") for use in bundle.operators.fallbacks
        ],
        "devices that ran it": [
            (record.validation.device, _validated(record)) for record in bundle.validations
        ],
        "files": [
            (file.name, f"{file.size_bytes:>9,} bytes  sha256 {file.sha256}")
            for file in manifest.files
        ],
        "built with": [
            ("software", f"{len(manifest.built_with)} packages, by exact version in the manifest")
        ],
    }
    for title, rows in sections.items():
        _print_section(title, rows)


def _validated(record: "ValidationRecord") -> str:
    met = sum(verdict.accepted for verdict in record.verdicts)
    return f"{met} of {len(record.verdicts)} verdicts met, by {record.validation.runtime}"


def _manifest_rows(manifest: "Manifest") -> list[tuple[str, str]]:
    return [
        ("model", manifest.recipe),
        ("target", manifest.target),
        ("runtime", f"{manifest.runtime}, {manifest.precision}"),
        ("program", manifest.model),
        ("packager", manifest.packager),
    ]


def _contract_rows(io: "IoContract") -> list[tuple[str, str]]:
    from packager.contract import words

    contract = io.contract
    first, *rest = words.steps(contract)
    return [
        ("takes", first),
        *(("", step) for step in rest),
        ("sample", f"{_shape(contract.input_shape)}, channels first"),
        ("answer", f"{contract.activation} over {', '.join(contract.labels)}"),
        ("input", _tensor(io.input)),
        ("output", _tensor(io.output)),
    ]


def _parity_rows(parity: "ParityRecord") -> list[tuple[str, str]]:
    whole = parity.whole
    drops = [
        (f"{metric.metric}", f"{metric.reference_score:.4f} -> {metric.candidate_score:.4f}")
        for metric in whole.metrics
    ]
    return [
        ("checked on", f"{parity.runtime}, against {parity.reference_runtime}"),
        (
            "samples",
            f"{whole.samples}, {'simulated' if parity.simulated else 'real'}: {parity.origin}",
        ),
        ("same decision", f"{_interval(whole.agreement)}; {whole.decisions_changed} changed"),
        *drops,
        *((verdict.limit, f"{verdict.outcome}: {verdict.figure}") for verdict in parity.verdicts),
    ]


def _device_rows(measured: "MeasuredRecord") -> list[tuple[str, str]]:
    program, before, after = measured.program, measured.original, measured.pruned
    ram = "unknown" if program.ram_bytes is None else f"{program.ram_bytes:,} bytes"
    return [
        ("flash", f"{program.flash_bytes:,} bytes"),
        ("RAM", f"{ram} ({program.ram_source})"),
        ("multiply-accumulates", f"{before.macs:,} -> {after.macs:,}"),
        ("parameters", f"{before.parameters:,} -> {after.parameters:,}"),
    ]


def _print_section(title: str, rows: list[tuple[str, str]]) -> None:
    print(f"\n{title}")
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        print(f"  {_visible(name):<{width}}  {_visible(value)}")
    if not rows:
        print("  none")


def _visible(text: str) -> str:
    """Return `text` with what would steer the terminal escaped: a bundle comes from anywhere."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _tensor(io: "TensorIo") -> str:
    plain = f"{_shape(io.shape)} {io.layout}, {io.dtype}"
    return plain if io.scale is None else f"{plain}, scale {io.scale:g}, zero point {io.zero_point}"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in shape)


def _interval(interval: "Interval") -> str:
    return f"{interval.estimate:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def _table(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    return table


def _size(size_bytes: int) -> str:
    """Return a size for people: 1,048,576 is `1.0 MiB`."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    if size_bytes < 1024**2:
        return f"{size_bytes / 1024:.1f} KiB"
    if size_bytes < 1024**3:
        return f"{size_bytes / 1024**2:.1f} MiB"
    return f"{size_bytes / 1024**3:.1f} GiB"


def _console(*, stderr: bool = False) -> Console:
    """Return a console that prints brackets as they are, and leaves numbers uncoloured."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(stderr=stderr, width=width, markup=False, highlight=False)
