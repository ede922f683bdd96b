"""Run cases through generated C++, and through the C beneath it compiled as C++."""

from collections.abc import Sequence
from pathlib import Path

from packager.codegen import Language
from packager.contract import IoContract
from tests.conftest import require_program
from tests.languages.c import RUNNERS, WARNINGS, calls, check_call, compile_all, write_contracts

# Products are fused with sums wherever this machine and its compiler can, as they are by
# default outside of standard C: no result may depend on it.
FUSED = ("-march=native", "-ffp-contract=fast", "-fexpensive-optimizations")
FLAGS = ("-std=c++17", "-O1", *FUSED, *WARNINGS)


def run(contracts: Sequence[IoContract], cases: Path, folder: Path) -> Path:
    """Generate, compile and run all contracts as one program; return the file of results."""
    compiler = require_program("g++", "Install a C++ compiler: apt-get install g++")
    sources = write_contracts(contracts, folder, Language.CPP)
    written = folder / "contracts.cpp"
    written.write_text(calls(contracts, "contracts.cpp.j2"), "utf-8")
    sources = [written, RUNNERS / "runner.cpp", *sources]
    objects = compile_all((compiler, *FLAGS, "-x", "c++"), sources, folder)
    program, results = folder / "runner", folder / "results"
    check_call([compiler, *map(str, objects), "-o", str(program)], folder)
    check_call([str(program), str(cases), str(results)], folder)
    return results
