"""Run cases through the Java that is generated for contracts: one compilation, one machine."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from packager.artifacts import Precision
from packager.codegen import Language, generate
from packager.contract import IoContract
from tests.conftest import require_program

RUNNER = Path(__file__).parent / "runners" / "Runner.java"
REMEDY = "Install a JDK, 17 or newer."

COMPILE = (
    "-J-XX:TieredStopAtLevel=1",  # halves the time: the compiler ends before C2 has paid off
    "-Xlint:all,-options",  # -options: newer compilers say that Java 8 is old
    "-Werror",
    "--release",
    "8",
    "-encoding",
    "US-ASCII",
)

SUBJECTS = """\
final class Subjects {{
    static Runner.Subject[] all() {{
        return new Runner.Subject[] {{{made}}};
    }}
{classes}}}
"""
SUBJECT = """
    private static final class {name} implements Runner.Subject {{
        @Override
        public byte[] prepare(Runner.Case given) throws Runner.Refusal {{
            try {{
                return {prepared};
            }} catch ({name}Contract.FrameException refused) {{
                throw new Runner.Refusal(refused.fault().number);
            }}
        }}

        @Override
        public byte[] answer(Runner.Case given) throws Runner.Refusal {{
            try {{
                {answered}
            }} catch ({name}Contract.FrameException refused) {{
                throw new Runner.Refusal(refused.fault().number);
            }}
        }}

        @Override
        public void requireVersion(int version) throws Runner.Refusal {{
            try {{
                {name}Contract.requireVersion(version);
            }} catch ({name}Contract.FrameException refused) {{
                throw new Runner.Refusal(refused.fault().number);
            }}
        }}
    }}
"""
FRAME = (
    "new {name}Contract.Frame(given.payload, given.height, given.width, given.channels, "
    "given.bits, given.orientation, given.palette.length > 0 ? given.palette : null)"
)
SIGNAL = "new {name}Contract.Signal(given.payload, given.height, given.width, given.bits)"
ANSWER = """\
{name}Contract.Answer answer = {name}Contract.answer({output});
                java.nio.ByteBuffer written = Runner.room(8 + 16 * answer.ranked.size());
                written.putInt(answer.label).putInt(0);
                for ({name}Contract.Scored scored : answer.ranked) {{
                    written.putInt(scored.label).putInt(0).putDouble(scored.probability);
                }}
                return written.array();"""
BOXES = """\
java.util.List<{name}Contract.Box> boxes =
                        {name}Contract.boxes({output}, given.height, given.width);
                java.nio.ByteBuffer written = Runner.room(8 + 32 * boxes.size());
                written.putInt(boxes.size()).putInt(0);
                for ({name}Contract.Box box : boxes) {{
                    written.putInt(box.label).putInt(0).putDouble(box.probability);
                    written.putInt(box.left).putInt(box.top);
                    written.putInt(box.right).putInt(box.bottom);
                }}
                return written.array();"""
LABEL_MAP = "return {name}Contract.labelMap({output});"


def run(contracts: Sequence[IoContract], cases: Path, folder: Path) -> Path:
    """Return the file of results of cases, as `protocol` says.

    Args:
        contracts: In the order of their numbers in the cases.
        cases: As `protocol.write_cases` writes them.
        folder: An empty one, for sources, classes and results.
    """
    javac, java = (require_program(program, REMEDY) for program in ("javac", "java"))
    names = [f"C{index:03}" for index in range(len(contracts))]
    for name, io in zip(names, contracts, strict=True):
        for file, text in generate(io, name.lower(), Language.JAVA).items():
            (folder / file).write_text(text, encoding="ascii")
    (folder / "Subjects.java").write_text(_subjects(names, contracts), encoding="ascii")
    sources = [str(RUNNER), *(str(path) for path in sorted(folder.glob("*.java")))]
    compiled, results = folder / "classes", folder / "results"
    subprocess.run([javac, *COMPILE, "-d", str(compiled), *sources], check=True, timeout=300)
    command = [java, "-cp", str(compiled), "Runner", str(cases), str(results)]
    subprocess.run(command, check=True, timeout=300)
    return results


def _subjects(names: Sequence[str], contracts: Sequence[IoContract]) -> str:
    made = ", ".join(f"new {name}()" for name in names)
    classes = "".join(map(_subject, names, contracts))
    return SUBJECTS.format(made=made, classes=classes)


def _subject(name: str, io: IoContract) -> str:
    given = (FRAME if io.contract.is_image else SIGNAL).format(name=name)
    prepared = f"{name}Contract.prepare({given})"
    if io.input.dtype is Precision.FLOAT32:
        prepared = f"Runner.bytes({prepared})"
    output = "given.payload" if io.output.dtype is Precision.INT8 else "given.floats()"
    contract = io.contract
    answered = BOXES if contract.boxes else LABEL_MAP if contract.segments else ANSWER
    return SUBJECT.format(
        name=name, prepared=prepared, answered=answered.format(name=name, output=output)
    )
