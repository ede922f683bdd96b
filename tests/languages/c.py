"""Run cases through generated C on this machine, watched by the sanitizers of the compiler."""

import itertools
import os
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jinja2

from packager.artifacts import Precision, TensorIo
from packager.codegen import Language, generate
from packager.contract import IoContract
from packager.contract.spec import ResizeMode
from tests.conftest import require_program

RUNNERS = Path(__file__).parent / "runners"
WARNINGS = (
    "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wdouble-promotion", "-Werror",
)  # fmt: skip
# The first read out of bounds, overflow or misaligned access ends the program.
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
# Not optimised, as the other programs are: with sanitizers that would take twice as long.
FLAGS = ("-std=c99", "-O0", *WARNINGS)
COMPILERS_AT_ONCE = 2
FILES_A_COMPILER = 6


@dataclass(frozen=True, kw_only=True)
class Called:
    """What the code that calls a contract has to know of it."""

    name: str
    is_image: bool
    is_fixed: bool
    blends: bool
    has_steps: bool
    number: str
    output_number: str
    answers: str


def run(contracts: Sequence[IoContract], cases: Path, folder: Path) -> Path:
    """Generate, compile and run all contracts as one program; return the file of results."""
    compiler = require_program("gcc", "Install a C compiler: apt-get install gcc")
    sources = [*write_contracts(contracts, folder, Language.C), write_calls(contracts, folder)]
    sources += [RUNNERS / "runner.c", RUNNERS / "host.c"]
    command = (compiler, *FLAGS, *SANITIZERS)
    objects = compile_all(command, sources, folder)
    program, results = folder / "runner", folder / "results"
    check_call([*command, *map(str, objects), "-o", str(program)], folder)
    check_call([str(program), str(cases), str(results)], folder)
    return results


def write_contracts(
    contracts: Sequence[IoContract], folder: Path, language: Language
) -> list[Path]:
    """Write the code of every contract as c000, c001, ...; return the files to compile."""
    written = []
    for index, io in enumerate(contracts):
        for file, text in generate(io, f"c{index:03d}", language).items():
            (folder / file).write_text(text, "utf-8")
            written.append(folder / file)
    return [path for path in written if path.suffix == ".c"]


def write_calls(contracts: Sequence[IoContract], folder: Path) -> Path:
    """Write the functions that call the contracts' code, and the table of them."""
    path = folder / "contracts.c"
    path.write_text(calls(contracts, "contracts.c.j2"), "utf-8")
    return path


def calls(contracts: Sequence[IoContract], template: str) -> str:
    """Return the code that calls the contracts' code."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(RUNNERS),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 code is no HTML
    )
    called = [_called(io, f"c{index:03d}") for index, io in enumerate(contracts)]
    return environment.get_template(template).render(contracts=called)


def _called(io: IoContract, name: str) -> Called:
    contract = io.contract
    return Called(
        name=name,
        is_image=contract.is_image,
        is_fixed=contract.is_image and contract.image.size_px is not None,
        blends=contract.resize is not None and contract.resize.mode is not ResizeMode.NEAREST,
        has_steps=contract.signal is not None,
        number=_number(io.input),
        output_number=_number(io.output),
        answers="boxes" if contract.boxes else "segments" if contract.segments else "labels",
    )


def _number(tensor: TensorIo) -> str:
    return "int8_t" if tensor.dtype is Precision.INT8 else "float"


def compile_all(command: Sequence[str], sources: Iterable[Path], folder: Path) -> list[Path]:
    """Compile each source, a few with each call of the compiler; return the object files."""
    waiting = iter(sources)
    batches = iter(lambda: list(itertools.islice(waiting, FILES_A_COMPILER)), [])
    include = ("-I", str(folder), "-I", str(RUNNERS))

    def compile_batch(batch: list[Path]) -> list[Path]:
        check_call([*command, *include, "-c", *map(str, batch)], folder)
        return [folder / f"{source.stem}.o" for source in batch]

    with ThreadPoolExecutor(COMPILERS_AT_ONCE) as pool:
        return [path for paths in pool.map(compile_batch, batches) for path in paths]


def check_call(command: Sequence[str], folder: Path) -> None:
    """Run a program in a folder; where it fails, show what it said."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    program = os.path.basename(command[0])  # noqa: PTH119 a name and no path
    assert done.returncode == 0, f"{program} failed:\n{done.stderr[:4000]}{done.stdout[-2000:]}"
