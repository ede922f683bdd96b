"""Prove that a bundle's model answers on this device as the bundle promises.

For handhelds with 32-bit Arm, on which TensorFlow Lite is Python's tflite-runtime. Needs
Python 3.11, NumPy 1 and tflite-runtime 2.14, and opens no connection.

It begins at the program's input: golden inputs go into the model, and what comes out is
compared with the golden outputs. Frames are not prepared here and answers not worded:
`packager code` writes the contract as C, C++ or Java for the app that does so.

Every line of output is a JSON object; `event` says of which kind. Exit codes: 0 all as
promised, 5 an output differs, 2 wrong arguments, 12 a damaged bundle, 17 tflite-runtime
refuses the model, 1 anything else.
"""

import argparse
import base64
import contextlib
import gc
import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import struct
import sys
import time
import zipfile
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NoReturn

RUNTIME = "tflite-runtime"
MANIFEST, CONTRACT, GOLDEN = "manifest.json", "contract.json", "golden.safetensors"
MAX_MANIFEST_BYTES = 2**20
MAX_HEADER_BYTES = 2**20
MAX_TOTAL_BYTES = 128 * 2**20
"""Of all files together: more than any bundle for a device with this little memory has."""
CHUNK_BYTES = 2**16

TOLERANCE_RATIO = {"int8": 0.03, "float32": 1e-5}
"""How far an output may be off, as a share of the largest golden one of all samples. The golden
ones are of another processor, on which tflite-runtime rounds a few int8 sums otherwise."""
TYPES = {"F32": "<f4", "I8": "i1", "I64": "<i8"}

MARK = 0x4D41524B
"""What getpriority is asked for to mark a place: it refuses, and a counter has seen it."""

# What reading an archive raises that is damaged, or was made to harm.
UNREADABLE = (
    zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, RuntimeError, ValueError,
    TypeError, KeyError, OverflowError,
)  # fmt: skip


class Exit(IntEnum):
    """How a run ended."""

    SUCCESS = 0
    OTHER = 1
    USAGE = 2
    DIFFERS = 5
    BAD_BUNDLE = 12
    REFUSED = 17


class Tag(IntEnum):
    """The places of a run that are counted between."""

    STARTED = 1
    READY = 2
    DONE = 3
    INFERRING = 20
    INFERRED = 21


class RefusalError(Exception):
    """Why the program stops."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code


class Parser(argparse.ArgumentParser):
    """A parser whose errors are refusals like any other."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments."""
        raise RefusalError(Exit.USAGE, f"{message}. `scan.py --help` says how it is called.")


class Marks:
    """When the run passed which place, kept until it ends: printing is no part of it."""

    def __init__(self, wanted: bool) -> None:  # noqa: FBT001 as it is on the command line
        self._wanted = wanted
        self._passed: list[tuple[Tag, int]] = []

    def pass_by(self, tag: Tag) -> None:
        """Note a place, and show it to whoever counts."""
        if self._wanted:
            with contextlib.suppress(OSError):  # it is meant to be refused
                os.getpriority(MARK, tag)
            self._passed.append((tag, time.monotonic_ns()))

    def say(self) -> None:
        """Print all places."""
        for tag, clock_ns in self._passed:
            say("mark", tag=int(tag), clock_ns=clock_ns)


@dataclass(frozen=True)
class Bundle:
    """What is used of a bundle, every file of which was verified."""

    target: str
    precision: str
    model: bytes
    model_sha256: str
    contract_sha256: str
    golden: bytes


def say(event: str, **values: object) -> None:
    """Print one line."""
    line = json.dumps({"event": event, **values}, allow_nan=False)
    sys.stdout.write(f"{line}\n")


def open_bundle(path: str) -> Bundle:
    """Verify the bundle, as if an enemy had packed it, and read what is needed of it.

    Raises:
        RefusalError: It is damaged, or holds other files than its manifest says.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_bundle(archive)
    except UNREADABLE as error:
        words = f"{type(error).__name__}: {error}"
        raise RefusalError(Exit.BAD_BUNDLE, f"{path}: is no sound bundle ({words}).") from None


def _read_bundle(archive: zipfile.ZipFile) -> Bundle:
    if sum(entry.file_size for entry in archive.infolist()) > MAX_TOTAL_BYTES:
        raise ValueError(f"it unpacks to more than {MAX_TOTAL_BYTES} bytes")
    manifest = json.loads(_read(archive, MANIFEST, MAX_MANIFEST_BYTES))
    if manifest["runtime"] != RUNTIME:
        raise ValueError(f"it is made for {manifest['runtime']!r}, and this is {RUNTIME}")
    listed = {file["name"]: file for file in manifest["files"]}
    if sorted(archive.namelist()) != sorted([*listed, MANIFEST]):
        raise ValueError("it holds other files than its manifest lists")
    for name, file in listed.items():
        if _sha256(archive, name) != file["sha256"]:
            raise ValueError(f"{name!r} is not the file that the manifest describes")
    model = manifest["model"]
    return Bundle(
        target=str(manifest["target"]),
        precision=str(manifest["precision"]),
        model=_read(archive, model, MAX_TOTAL_BYTES),
        model_sha256=listed[model]["sha256"],
        contract_sha256=listed[CONTRACT]["sha256"],
        golden=_read(archive, GOLDEN, MAX_TOTAL_BYTES),
    )


def _read(archive: zipfile.ZipFile, name: str, most_bytes: int) -> bytes:
    with archive.open(name) as stream:
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"{name!r} is larger than {most_bytes} bytes")
    return content


def _sha256(archive: zipfile.ZipFile, name: str) -> str:
    digest, left = hashlib.sha256(), MAX_TOTAL_BYTES
    with archive.open(name) as stream:
        while left > 0 and (chunk := stream.read(CHUNK_BYTES)):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()


class Golden:
    """The golden inputs and outputs of a bundle, one a row."""

    def __init__(self, content: bytes) -> None:
        try:
            (header_bytes,) = struct.unpack_from("<Q", content)
            if header_bytes > MAX_HEADER_BYTES:
                raise ValueError("the header is too large")
            self._header = json.loads(content[8 : 8 + header_bytes])
            self._values = content[8 + header_bytes :]
            self.inputs = self._array("inputs")
            self.outputs = self._array("outputs")
            self.decisions = self._array("decisions").tolist()
            if not 0 < len(self.inputs) == len(self.outputs) == len(self.decisions):
                raise ValueError("there is not one output and one decision for each input")
        except UNREADABLE as error:
            words = f"{type(error).__name__}: {error}"
            raise RefusalError(Exit.BAD_BUNDLE, f"{GOLDEN}: is damaged ({words}).") from None

    def _array(self, name: str) -> Any:  # noqa: ANN401 an array of NumPy, which is not imported yet
        import numpy as np

        stated = self._header[name]
        begin, end = stated["data_offsets"]
        if not 0 <= begin <= end <= len(self._values):
            raise ValueError(f"{name!r} lies outside the file")
        values = np.frombuffer(self._values[begin:end], TYPES[stated["dtype"]])
        return values.reshape(stated["shape"])


class Model:
    """A program in tflite-runtime."""

    def __init__(self, content: bytes, threads: int) -> None:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError as error:
            problem = f"this device has no usable tflite-runtime ({error})."
            raise RefusalError(Exit.OTHER, problem) from None
        try:
            self._interpreter = Interpreter(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise _refused(error) from None
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def run(self, sample: Any) -> Any:  # noqa: ANN401 arrays
        """Return the output (1, ...) of one input (1, ...)."""
        try:
            self._interpreter.set_tensor(self._input, sample)
            self._interpreter.invoke()
            return self._interpreter.get_tensor(self._output)
        except (ValueError, RuntimeError) as error:
            raise _refused(error) from None


def _refused(error: Exception) -> RefusalError:
    first = str(error).partition("\n")[0]
    return RefusalError(Exit.REFUSED, f"tflite-runtime refuses the model: {first}")


def selftest(model: Model, golden: Golden, tolerance_ratio: float, marks: Marks) -> Exit:
    """Run every golden input, then print how each output compares with the golden one."""
    allowed = tolerance_ratio * float(abs(golden.outputs.astype("f8")).max())
    outputs = []
    for sample in golden.inputs:
        marks.pass_by(Tag.INFERRING)
        outputs.append(model.run(sample[None]))
        marks.pass_by(Tag.INFERRED)
    failed = 0
    for index, (output, wanted) in enumerate(zip(outputs, golden.outputs, strict=True)):
        error, within = difference(output[0], wanted, allowed)
        failed += not within
        say(
            "golden",
            index=index,
            # The contract is not run here: neither the input is made nor an answer given.
            input_equal=None,
            output=base64.b64encode(output.tobytes()).decode(),
            decision=None,
            wanted_decision=golden.decisions[index],
            max_abs_error=error,
            within=within,
        )
    say("selftest", passed=failed == 0, samples=len(outputs), failed=failed)
    return Exit.DIFFERS if failed else Exit.SUCCESS


def difference(output: Any, wanted: Any, allowed: float) -> tuple[float | None, bool]:  # noqa: ANN401
    """Return the largest absolute error, and whether it is one of those that are allowed.

    Returns:
        None and False where the outputs cannot be compared: one is NaN, infinite, of
        another type or of another shape.
    """
    import numpy as np

    if (output.dtype, output.shape) != (wanted.dtype, wanted.shape):
        return None, False
    if not (np.isfinite(output).all() and np.isfinite(wanted).all()):
        return None, False
    error = float(np.abs(output.astype(np.float64) - wanted).max())
    return error, error <= allowed


def bench(model: Model, golden: Golden, repeats: int, marks: Marks) -> None:
    """Run the first golden input many times, and print how long each took."""
    infer_ns = []
    for _ in range(repeats):
        marks.pass_by(Tag.INFERRING)
        begun = time.monotonic_ns()
        model.run(golden.inputs[:1])
        infer_ns.append(time.monotonic_ns() - begun)
        marks.pass_by(Tag.INFERRED)
    say("bench", repeats=repeats, prepare_ns=[], infer_ns=infer_ns, answer_ns=[])


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """Return what is to be done.

    Raises:
        RefusalError: That cannot be told from the arguments.
    """
    parser = Parser(prog="scan.py", description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--bundle", required=True, metavar="B.zip", help="what packager built")
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--selftest", action="store_true", help="run the golden inputs")
    task.add_argument("--bench", type=int, metavar="N", help="run the first one N times")
    parser.add_argument("--marks", action="store_true", help="say when which part began")
    parser.add_argument("--operators", action="store_true", help="say what each operator took")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="1 unless given")
    asked = parser.parse_args(arguments)
    if asked.threads < 1 or (asked.bench is not None and asked.bench < 1):
        parser.error("--bench and --threads want a number from 1")
    return asked


def run(asked: argparse.Namespace) -> Exit:
    """Verify, load, do what is asked, and print it."""
    marks = Marks(asked.marks)
    marks.pass_by(Tag.STARTED)
    bundle = open_bundle(asked.bundle)
    golden = Golden(bundle.golden)
    model = Model(bundle.model, asked.threads)
    gc.collect()
    gc.disable()  # it would count as part of whichever inference it strikes
    marks.pass_by(Tag.READY)
    code = Exit.SUCCESS
    say(
        "program",
        runtime=f"{RUNTIME} {importlib.metadata.version(RUNTIME)}",
        architecture=platform.machine(),
        target=bundle.target,
        model_sha256=bundle.model_sha256,
        contract_sha256=bundle.contract_sha256,
        threads=asked.threads,
    )
    if asked.selftest:
        code = selftest(model, golden, TOLERANCE_RATIO[bundle.precision], marks)
    else:
        bench(model, golden, asked.bench, marks)
    marks.pass_by(Tag.DONE)
    if asked.operators:
        say("operators", operators=None, reason="tflite-runtime does not tell them apart")
    marks.say()
    # Linux counts it in KiB.
    say("memory", peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    return code


def main(arguments: list[str]) -> int:
    """Run, and turn a refusal into a line and an exit code."""
    try:
        return run(read_arguments(arguments))
    except RefusalError as refusal:
        say("error", code=int(refusal.code), message=str(refusal))
        sys.stderr.write(f"scan.py: {refusal}\n")
        return refusal.code
    except MemoryError:
        say("error", code=int(Exit.OTHER), message="there is not enough memory.")
        return Exit.OTHER


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
