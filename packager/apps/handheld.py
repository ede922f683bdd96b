"""Build `scan`, the C++ program that answers frames on a handheld with 64-bit Linux.

The program is made for one contract: the code that `packager code` writes is compiled in,
and a bundle with another contract is refused by it. The same inputs give the same bytes.
"""

import hashlib
import json
import math
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from packager import codegen, shipped, tools
from packager.apps import Payload, PayloadFile
from packager.artifacts import File, Precision, Runtime, TensorIo
from packager.bundles import FORMAT_VERSION, OpenedBundle, open_bundle
from packager.codegen import Language
from packager.codegen.facts import Facts, facts_of, scale_and_zero_point
from packager.contract.golden import output_tolerance
from packager.contract.spec import ImageSource
from packager.devices import Architecture
from packager.devices.kit import INSTALL, Kit
from packager.errors import ConfigError, MissingToolError
from packager.storage import storage_errors

PROGRAM = "scan"
HEADER = "scan_contract.hpp"
BUILD_TIMEOUT_S = 600
VERSION_TIMEOUT_S = 60
SOURCE_SUFFIXES = (".c", ".cmake", ".cpp", ".h", ".hpp", ".txt")

COMPILERS = {
    Architecture.X86_64: "g++",
    Architecture.AARCH64: "aarch64-linux-gnu-g++",
}
"""By what the kit calls them."""

LIBRARIES = {
    Runtime.EXECUTORCH: (
        "libexecutorch.so",
        "libexecutorch_backend_xnnpack.so",
        "libexecutorch_kernels_optimized.so",
        "libexecutorch_kernels_quantized.so",
        "libexecutorch_threadpool.so",
    ),
    Runtime.LITERT: ("libLiteRt.so",),
}
"""What the program loads of each runtime, and so what goes onto the device with it."""

RUNTIME_PACKAGES = {Runtime.EXECUTORCH: "executorch", Runtime.LITERT: "ai-edge-litert"}
"""The Python package that the kit takes each runtime from."""

LINKED = ("libpng16.a", "libz.a", "libmd.a")
LINKED_PACKAGES = ("libpng-dev", "zlib1g-dev", "libmd-dev", "nlohmann-json3-dev")
"""Whose code becomes part of the program, and whose licences go with it."""

HEADER_TEXT = """\
/*
 * What `scan` is built for: the contract of "{name}". Written by packager; not to be edited.
 */
#ifndef SCAN_CONTRACT_HPP
#define SCAN_CONTRACT_HPP

#include "{name}_contract.hpp"

#include "frame.hpp"

#include <cstddef>
#include <cstdint>
#include <string_view>

/* What the generated code has: frames or signals come in, and one of three kinds of answers. */
#define SCAN_READS_SIGNALS {signals}
#define SCAN_ANSWERS_LABELS {labels}
#define SCAN_ANSWERS_BOXES {boxes}

namespace scan_contract = {name}_contract;

namespace scan_build {{

inline constexpr std::int64_t bundle_format = {bundle_format};
inline constexpr std::string_view runtime = "{runtime}";
inline constexpr std::string_view precision = "{precision}";

/* What comes in; of a signal, height is the leads, width the samples of a lead. */
inline constexpr bool reads_signals = {reads_signals};
inline constexpr bool turns_frames = {turns_frames};
inline constexpr scan::Colour colour = scan::Colour::{colour};
inline constexpr std::uint32_t bits = {bits};
inline constexpr std::uint32_t channels = {channels};
inline constexpr std::uint32_t height_px = {height_px}; /* 0: frames may have any size */
inline constexpr std::uint32_t width_px = {width_px};

/* The program's tensors. */
using InputNumber = {input_number};
using OutputNumber = {output_number};
inline constexpr std::size_t input_values = {input_values};
inline constexpr std::size_t output_values = {output_values};

/* What an output stands for: scale * (stored - zero point). */
inline constexpr double output_scale = {output_scale!r};
inline constexpr double output_zero_point = {output_zero_point};

/* How far outputs may be from the golden ones, as a share of the sample's largest golden
   output; 0 asks for equal bits. */
inline constexpr double output_tolerance_ratio = {output_tolerance_ratio!r};

}} // namespace scan_build

#endif
"""


def build(
    opened: OpenedBundle, architecture: Architecture, kit: Kit, *, cache_root: Path
) -> Payload:
    """Return the program for a bundle, built now or found where it was built before.

    Args:
        opened: Its contract is compiled in.
        architecture: Of the device.
        kit: Holds the headers and libraries of the device, and the compilers.
        cache_root: Keeps the program; see `cached`.

    Raises:
        ConfigError: The bundle's runtime, or the architecture, is not one of a handheld.
        MissingToolError: A compiler or a part of the kit is not here.
        ToolError: The program could not be built.
        StorageError: The disk is full or the folder cannot be written.
    """
    runtime = opened.manifest.runtime
    _require_handheld(opened, architecture)
    toolchain = Toolchain.of(kit, runtime, architecture)
    program = cached(toolchain, generated(opened), cache_root)
    return Payload(
        architecture=architecture,
        program=PayloadFile(name=PROGRAM, file=File.of(program)),
        libraries=tuple(
            PayloadFile(name=library.name, file=File.of(library)) for library in toolchain.libraries
        ),
        command=(f"./{PROGRAM}",),
        notices=notices(toolchain),
    )


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """What a program is built with, for one runtime and one architecture.

    Attributes:
        compiler: The C++ compiler.
        sysroot: The device's headers and libraries.
        runtime_version: Such as `2.3.0`; the program's sources are for one, and say so.
        runtime_folder: Holds `lib/` and, of ExecuTorch, `include/`.
        libraries: What the program loads, and goes onto the device with it.
    """

    runtime: Runtime
    architecture: Architecture
    compiler: Path
    sysroot: Path
    runtime_version: str
    runtime_folder: Path
    libraries: tuple[Path, ...]

    @classmethod
    def of(cls, kit: Kit, runtime: Runtime, architecture: Architecture) -> "Toolchain":
        """Find its parts in a kit.

        Raises:
            MissingToolError: One is not there.
        """
        folder = kit.runtime(runtime, architecture)
        libraries = tuple(folder / "lib" / name for name in LIBRARIES[runtime])
        toolchain = cls(
            runtime=runtime,
            architecture=architecture,
            compiler=kit.program(COMPILERS[architecture]),
            sysroot=kit.sysroot(architecture),
            runtime_version=_version(kit, RUNTIME_PACKAGES[runtime]),
            runtime_folder=folder,
            libraries=libraries,
        )
        for part in (*libraries, *toolchain.linked):
            if not part.is_file():
                raise MissingToolError(str(part), needed_by="Building scan", install=INSTALL)
        return toolchain

    @property
    def linked(self) -> tuple[Path, ...]:
        """The libraries that become part of the program."""
        folder = self.sysroot / "usr" / "lib" / f"{self.architecture}-linux-gnu"
        return tuple(folder / name for name in LINKED)


def sources_root() -> Path:
    """Return the folder of the sample apps, in a checkout or an installed copy."""
    return shipped.folder("sample_apps")


def generated(opened: OpenedBundle) -> dict[str, str]:
    """Return what is written for a bundle, by name: its contract, and what `scan` asks of it."""
    files = codegen.generate(opened.contract, opened.manifest.recipe, Language.CPP)
    facts = facts_of(opened.contract, opened.manifest.recipe)
    return files | {HEADER: _header(facts, opened)}


def write(bundle: Path, folder: Path) -> list[Path]:
    """Write what is generated for a bundle to a folder, to build the program by hand.

    Raises:
        BundleError: It is no bundle, or damaged.
        StorageError: The disk is full or the folder cannot be written.
    """
    return codegen.write(generated(open_bundle(bundle)), folder)


def cached(toolchain: Toolchain, files: dict[str, str], cache_root: Path) -> Path:
    """Return the program that these make, from `<cache_root>/apps/<key>/scan`.

    The key is a digest of all that the program depends on. A program is written whole or
    not at all, so that one that is found is one that was finished.

    Raises:
        MissingToolError: CMake, Ninja or a compiler is not here.
        ToolError: The program could not be built.
        StorageError: The disk is full or the folder cannot be written.
    """
    place = cache_root / "apps" / _key(toolchain, files)
    program = place / PROGRAM
    if program.is_file():
        return program
    with storage_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".building-") as folder:
            made = compile_program(toolchain, files, Path(folder))
            finished = Path(folder) / "finished"
            finished.mkdir()
            shutil.copy(made, finished / PROGRAM)
            _keep(finished, place)
    return program


def compile_program(
    toolchain: Toolchain, files: dict[str, str], folder: Path, *options: str
) -> Path:
    """Build the program in an empty folder; return where it lies.

    Args:
        toolchain: For one runtime and one architecture.
        files: Generated code, by name.
        folder: For sources, objects and the program.
        options: More of CMake's, such as `-DSCAN_SANITIZE=ON`.

    Raises:
        MissingToolError: CMake or Ninja is not here.
        ToolError: The program could not be built.
    """
    code, objects = folder / "generated", folder / "objects"
    code.mkdir()
    for name, text in files.items():
        (code / name).write_text(text, "utf-8")
    source = sources_root() / "handheld" / "cpp"
    settings = {
        "CMAKE_MAKE_PROGRAM": _build_tool("ninja"),
        "CMAKE_CXX_COMPILER": toolchain.compiler,
        "SCAN_RUNTIME": toolchain.runtime,
        "SCAN_RUNTIME_DIR": toolchain.runtime_folder.resolve(),
        "SCAN_RUNTIME_VERSION": toolchain.runtime_version,
        "SCAN_SYSROOT": toolchain.sysroot.resolve(),
        "SCAN_GENERATED": code.resolve(),
    }
    if toolchain.architecture is not Architecture.X86_64:
        settings["CMAKE_TOOLCHAIN_FILE"] = (
            source / "cmake" / f"{toolchain.architecture}-linux-gnu.cmake"
        )
    cmake = _build_tool("cmake")
    defined = [f"-D{name}={value}" for name, value in settings.items()]
    configure: list[str | Path] = [
        cmake,
        "-S",
        source,
        "-B",
        objects,
        "-G",
        "Ninja",
        *defined,
        *options,
    ]
    tools.run_checked(configure, timeout_s=BUILD_TIMEOUT_S, env=_environment())
    tools.run_checked([cmake, "--build", objects], timeout_s=BUILD_TIMEOUT_S, env=_environment())
    return objects / PROGRAM


def notices(toolchain: Toolchain) -> str:
    """Return the licences of all that is linked into the program, or goes onto the device.

    Raises:
        MissingToolError: The kit lacks one.
    """
    documents = toolchain.sysroot / "usr" / "share" / "doc"
    licences = [(package, documents / package / "copyright") for package in LINKED_PACKAGES]
    licences.append((toolchain.runtime, toolchain.runtime_folder / "LICENSE"))
    parts = []
    for name, place in licences:
        if not place.is_file():
            raise MissingToolError(str(place), needed_by="The program's notices", install=INSTALL)
        parts.append(f"{name}\n{'=' * len(name)}\n\n{place.read_text('utf-8').strip()}\n")
    return "\n\n".join(parts)


def _require_handheld(opened: OpenedBundle, architecture: Architecture) -> None:
    where = opened.manifest.target
    match opened.manifest.runtime:
        case Runtime.EXECUTORCH | Runtime.LITERT:
            pass
        case Runtime.TFLITE_MICRO:
            problem = "is a microcontroller's bundle, which no handheld runs"
            raise ConfigError(where, f"{problem}. Validate it on an emulated board.")
        case Runtime.TFLITE_LEGACY:
            problem = "is a 32-bit handheld's bundle, which needs another app"
            raise ConfigError(where, f"{problem}. See packager.apps.legacy.")
        case _:
            assert_never(opened.manifest.runtime)
    if architecture not in COMPILERS:
        known = ", ".join(COMPILERS)
        raise ConfigError(where, f"the handheld app is built for {known}, not for {architecture}.")


def _version(kit: Kit, package: str) -> str:
    """Return the version of a package that the kit holds, the same for all architectures."""
    versions = {item.version for item in kit.record.packages if item.name == package}
    if len(versions) != 1:
        raise MissingToolError(package, needed_by="Building scan", install=INSTALL)
    return versions.pop()


def _header(facts: Facts, opened: OpenedBundle) -> str:
    contract, io = facts.contract, opened.contract
    source = contract.source
    if isinstance(source, ImageSource):
        height_px, width_px = source.size_px or (0, 0)
        colour, channels = str(source.colour), source.colour.channels
    else:
        height_px, width_px = contract.input_shape[0], source.length or contract.input_shape[1]
        colour, channels = "gray", 1
    scale, zero_point = scale_and_zero_point(io.output) if facts.int8_output else (1.0, 0)
    return HEADER_TEXT.format(
        name=facts.name,
        signals=int(not contract.is_image),
        labels=int(not (contract.boxes or contract.segments)),
        boxes=int(contract.boxes is not None),
        bundle_format=FORMAT_VERSION,
        runtime=opened.manifest.runtime,
        precision=opened.manifest.precision,
        reads_signals=_word(not contract.is_image),
        turns_frames=_word(facts.turns),
        colour=colour,
        bits=facts.bits,
        channels=channels,
        height_px=height_px,
        width_px=width_px,
        input_number=_number(io.input),
        output_number=_number(io.output),
        input_values=math.prod(contract.input_shape),
        output_values=contract.outputs,
        output_scale=scale,
        output_zero_point=zero_point,
        output_tolerance_ratio=output_tolerance(
            opened.manifest.precision, opened.manifest.runtime, opened.operators.operators
        ).ratio,
    )


def _word(value: bool) -> str:  # noqa: FBT001 it is one word of C++
    return "true" if value else "false"


def _number(tensor: TensorIo) -> str:
    return "std::int8_t" if tensor.dtype is Precision.INT8 else "float"


def _key(toolchain: Toolchain, files: dict[str, str]) -> str:
    """Return a digest of all that makes the program what it is."""
    source = sources_root() / "handheld" / "cpp"
    compiler = tools.run_checked([toolchain.compiler, "--version"], timeout_s=VERSION_TIMEOUT_S)
    parts = {
        "architecture": toolchain.architecture,
        "runtime": f"{toolchain.runtime} {toolchain.runtime_version}",
        "compiler": compiler.stdout.decode(errors="replace"),
        "generated": {name: _digest(text.encode()) for name, text in files.items()},
        "sources": {
            str(path.relative_to(source)): _digest(path.read_bytes())
            for path in sorted(source.rglob("*"))
            if path.suffix in SOURCE_SUFFIXES
        },
        "libraries": {
            path.name: File.of(path).sha256 for path in (*toolchain.libraries, *toolchain.linked)
        },
    }
    return _digest(json.dumps(parts, sort_keys=True).encode())[:32]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _keep(finished: Path, place: Path) -> None:
    """Move a finished folder into place, unless another process was faster."""
    try:
        finished.rename(place)
    except OSError:
        if not (place / PROGRAM).is_file():
            raise


def _build_tool(name: str) -> str:
    """Return CMake or Ninja: those beside this Python first, as pip installs them there.

    Raises:
        MissingToolError: It is not here.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    if found is None:
        install = "pip install 'packager[device]'"
        raise MissingToolError(name, needed_by="Building scan", install=install)
    return found


def _environment() -> dict[str, str]:
    """Return an environment in which nothing of the user's changes what is built."""
    kept = {name: os.environ[name] for name in ("HOME", "PATH", "TMPDIR") if name in os.environ}
    # The date that __DATE__ would give, should a header ever ask for it.
    return kept | {"LC_ALL": "C", "SOURCE_DATE_EPOCH": "0"}
