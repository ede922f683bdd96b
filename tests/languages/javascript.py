"""Run cases through generated JavaScript: all contracts as modules of one Node process."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from packager.artifacts import Precision
from packager.codegen import Language, generate
from packager.contract import IoContract
from tests.conftest import require_program

RUNNER = Path(__file__).parent / "runners" / "runner.mjs"
TIMEOUT_S = 300
# Deprecated calls are errors, and so is code made of text, which most pages' policies forbid.
STRICT = ("--throw-deprecation", "--disallow-code-generation-from-strings")


def run(contracts: Sequence[IoContract], cases: Path, folder: Path) -> Path:
    """Return the file of results of a file of cases.

    Args:
        contracts: The cases' contracts, by number.
        cases: As `protocol.write_cases` writes them.
        folder: An empty one, for the modules and the results.
    """
    node = require_program("node", "Install Node.js 18 or newer.")
    index, results = folder / "index.mjs", folder / "results.bin"
    write_modules(contracts, folder)
    index.write_text(_index(contracts), "utf-8")
    done = subprocess.run(
        [node, *STRICT, str(RUNNER), str(index), str(cases), str(results)],
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return results


def write_modules(contracts: Sequence[IoContract], folder: Path) -> None:
    """Write each contract's module: `c000_contract.mjs`, ..."""
    for i, io in enumerate(contracts):
        for name, text in generate(io, f"c{i:03}", Language.JAVASCRIPT).items():
            (folder / name).write_text(text, "utf-8")


def _index(contracts: Sequence[IoContract]) -> str:
    """Return a module that says what the runner cannot see: what goes into each contract."""
    names = [f"c{i:03}" for i in range(len(contracts))]
    imports = [f'import * as {name} from "./{name}_contract.mjs";\n' for name in names]
    entries = [
        f'  {{ module: {name}, source: "{io.contract.source.kind}", output: {_array(io)} }},\n'
        for name, io in zip(names, contracts, strict=True)
    ]
    return "".join([*imports, "\nexport const CONTRACTS = [\n", *entries, "];\n"])


def _array(io: IoContract) -> str:
    return "Int8Array" if io.output.dtype is Precision.INT8 else "Float32Array"
