"""The plugin that counts instructions: its classes are held against an assembler's encodings."""

import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from packager import tools
from packager.devices import Architecture
from packager.devices.kit import Kit
from packager.devices.plugin import SOURCE, Interface, compile_for
from tests.conftest import require_kit

EXPOSED = """
#include "{source}"
EXPORT unsigned int class_count(void) {{ return CLASS_COUNT; }}
EXPORT const char *class_name(unsigned int place) {{ return CLASSES[place].name; }}
EXPORT bool includes(unsigned int place, uint32_t word) {{ return CLASSES[place].includes(word); }}
"""
MARCH = "-march=armv8.6-a+sve2+sme+fp16+dotprod+i8mm+lse+rcpc+memtag+bf16"
BEGIN = "here they begin:"

INSTRUCTIONS = {
    "sdot v0.4s, v1.16b, v2.16b": {"sdot", "simd"},
    "sdot v0.2s, v1.8b, v2.8b": {"sdot", "simd"},
    "udot v31.4s, v30.16b, v29.16b": {"sdot", "simd"},
    "usdot v0.4s, v1.16b, v2.16b": {"sdot", "simd"},
    "sdot v0.4s, v1.16b, v2.4b[3]": {"sdot", "simd"},
    "udot v0.2s, v1.8b, v31.4b[2]": {"sdot", "simd"},
    "usdot v0.4s, v1.16b, v2.4b[1]": {"sdot", "simd"},
    "sudot v0.4s, v1.16b, v2.4b[1]": {"sdot", "simd"},
    "bfdot v0.4s, v1.8h, v2.8h": {"simd"},
    "bfdot v0.4s, v1.8h, v2.2h[1]": {"simd"},
    "smmla v0.4s, v1.16b, v2.16b": {"smmla", "simd"},
    "ummla v0.4s, v1.16b, v2.16b": {"smmla", "simd"},
    "usmmla v0.4s, v1.16b, v2.16b": {"smmla", "simd"},
    "bfmmla v0.4s, v1.8h, v2.8h": {"simd"},
    "smlal v0.8h, v1.8b, v2.8b": {"smlal", "simd"},
    "smlal2 v0.4s, v1.8h, v2.8h": {"smlal", "simd"},
    "umlal v0.2d, v1.2s, v2.2s": {"smlal", "simd"},
    "smlal v0.4s, v1.4h, v2.h[7]": {"smlal", "simd"},
    "umlal2 v0.2d, v1.4s, v2.s[3]": {"smlal", "simd"},
    "smlsl v0.8h, v1.8b, v2.8b": {"simd"},
    "sqdmlal v0.4s, v1.4h, v2.4h": {"simd"},
    "smull v0.8h, v1.8b, v2.8b": {"smull", "simd"},
    "umull2 v0.4s, v1.8h, v2.8h": {"smull", "simd"},
    "smull v0.4s, v1.4h, v2.h[7]": {"smull", "simd"},
    "pmull v0.8h, v1.8b, v2.8b": {"simd"},
    "mla v0.4s, v1.4s, v2.4s": {"simd"},
    "sadalp v0.4s, v1.8h": {"simd"},
    "fmla v0.4s, v1.4s, v2.4s": {"fmla-f32", "simd"},
    "fmla v0.2s, v1.2s, v2.2s": {"fmla-f32", "simd"},
    "fmla v0.4s, v1.4s, v2.s[3]": {"fmla-f32", "simd"},
    "fmla v0.2d, v1.2d, v2.2d": {"simd"},
    "fmla v0.2d, v1.2d, v2.d[1]": {"simd"},
    "fmls v0.4s, v1.4s, v2.4s": {"simd"},
    "fmla v0.8h, v1.8h, v2.8h": {"fmla-f16", "simd"},
    "fmla v0.4h, v1.4h, v2.h[7]": {"fmla-f16", "simd"},
    "fmul v0.4s, v1.4s, v2.4s": {"simd"},
    "fmadd s0, s1, s2, s3": {"simd"},
    "fcvtzs w0, s1": {"simd"},
    "sdot z0.s, z1.b, z2.b": {"sve"},
    "fmla z0.s, p0/m, z1.s, z2.s": {"sve"},
    "ld1b {z0.b}, p0/z, [x1]": {"sve"},
    "st1w {z0.s}, p0, [x1]": {"sve"},
    "ptrue p0.b": {"sve"},
    "fmopa za0.s, p0/m, p1/m, z0.s, z1.s": {"sme"},
    "smopa za0.s, p0/m, p1/m, z0.b, z1.b": {"sme"},
    "zero {za}": {"sme"},
    "smstart": set(),
    "add x0, x1, x2": set(),
    "subs x0, x0, #1": set(),
    "smaddl x0, w1, w2, x3": set(),
    "b .": set(),
    "ret": set(),
    "svc #0": set(),
    "mrs x0, tpidr_el0": set(),
    "ldr x0, [x1]": {"load"},
    "ldr w0, [x1, x2, lsl #2]": {"load"},
    "ldr x0, [x1], #8": {"load"},
    "ldrb w0, [x1, #1]": {"load"},
    "ldrsb x0, [x1]": {"load"},
    "ldrsb w0, [x1]": {"load"},
    "ldrsh w0, [x1, x2]": {"load"},
    "ldrsw x0, [x1, #4]": {"load"},
    "ldursw x0, [x1, #-4]": {"load"},
    "ldr x0, .": {"load"},
    "ldrsw x0, .": {"load"},
    "ldr q0, .": {"load"},
    "ldp x0, x1, [sp], #16": {"load"},
    "ldpsw x0, x1, [x2]": {"load"},
    "ldnp q0, q1, [x2]": {"load"},
    "ldr q0, [x1]": {"load"},
    "ldr s0, [x1, x2]": {"load"},
    "ldur d0, [x1, #-8]": {"load"},
    "ld1 {v0.16b}, [x1]": {"load"},
    "ld1 {v0.4s-v3.4s}, [x1], #64": {"load"},
    "ld1 {v0.s}[1], [x1]": {"load"},
    "ld1r {v0.4s}, [x1], x2": {"load"},
    "ld4 {v0.8b-v3.8b}, [x1]": {"load"},
    "ldxr x0, [x1]": {"load"},
    "ldaxp x0, x1, [x2]": {"load"},
    "ldar w0, [x1]": {"load"},
    "ldapr x0, [x1]": {"load"},
    "ldapur x0, [x1, #8]": {"load"},
    "ldapursw x0, [x1, #8]": {"load"},
    "ldraa x0, [x1]": {"load"},
    "ldrab x0, [x1, #8]!": {"load"},
    "str x0, [x1]": {"store"},
    "str w0, [x1, x2, lsl #2]": {"store"},
    "strb w0, [x1], #1": {"store"},
    "sturh w0, [x1, #-2]": {"store"},
    "stp x29, x30, [sp, #-16]!": {"store"},
    "stnp q0, q1, [x2]": {"store"},
    "str q0, [x1]": {"store"},
    "str q0, [x1, x2]": {"store"},
    "stur s0, [x1, #-4]": {"store"},
    "st1 {v0.16b}, [x1]": {"store"},
    "st1 {v0.s}[1], [x1], #4": {"store"},
    "st4 {v0.8b-v3.8b}, [x1]": {"store"},
    "stxr w3, x0, [x1]": {"store"},
    "stlr w0, [x1]": {"store"},
    "stlur x0, [x1, #8]": {"store"},
    "cas x0, x1, [x2]": {"load", "store"},
    "casalb w0, w1, [x2]": {"load", "store"},
    "casp x0, x1, x2, x3, [x4]": {"load", "store"},
    "swp x0, x1, [x2]": {"load", "store"},
    "ldadd x0, x1, [x2]": {"load", "store"},
    "ldaddal w0, w1, [x2]": {"load", "store"},
    "stadd x0, [x2]": {"load", "store"},
    "ldumaxb w0, w1, [x2]": {"load", "store"},
    "prfm pldl1keep, [x1]": set(),
    "prfm pldl1keep, [x1, x2]": set(),
    "prfum pldl1keep, [x1, #-8]": set(),
    "prfm pldl1keep, .": set(),
}


@pytest.fixture(scope="module")
def kit() -> Kit:
    return require_kit()


@pytest.fixture(scope="module")
def classes_of(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], set[str]]:
    """Give the plugin's own answer to which classes a word is in."""
    folder = tmp_path_factory.mktemp("classes")
    flags = ["-shared", "-fPIC", "-O1", "-DAPI=1", "-Wl,-z,lazy"]
    sysroot = f"--sysroot={kit.sysroot(Architecture.X86_64)}"
    source, library = folder / "exposed.c", folder / "exposed.so"
    source.write_text(EXPOSED.format(source=SOURCE))
    tools.run_checked([kit.program("gcc"), sysroot, *flags, source, "-o", library], timeout_s=60)
    # What is QEMU's in it is missing here, and is not called.
    plugin = ctypes.CDLL(str(library), mode=os.RTLD_LAZY)
    plugin.class_name.restype, plugin.includes.restype = ctypes.c_char_p, ctypes.c_bool
    names = [plugin.class_name(place).decode() for place in range(plugin.class_count())]
    return lambda word: {name for place, name in enumerate(names) if plugin.includes(place, word)}


def test_each_instruction_is_in_its_classes(
    kit: Kit, classes_of: Callable[[int], set[str]], tmp_path: Path
) -> None:
    source, assembled = tmp_path / "all.s", tmp_path / "all.o"
    source.write_text(f'.ascii "{BEGIN}"\n' + "\n".join(INSTRUCTIONS) + "\n")
    compiler = kit.program("aarch64-linux-gnu-g++")
    tools.run_checked([compiler, MARCH, "-c", source, "-o", assembled], timeout_s=60)
    _, _, code = assembled.read_bytes().partition(BEGIN.encode())
    words = struct.unpack_from(f"<{len(INSTRUCTIONS)}I", code)

    found = {text: classes_of(word) for text, word in zip(INSTRUCTIONS, words, strict=True)}

    assert found == INSTRUCTIONS


@pytest.mark.parametrize("interface", Interface)
def test_the_plugin_compiles_without_a_warning(
    kit: Kit, tmp_path: Path, interface: Interface
) -> None:
    sysroot = f"--sysroot={kit.sysroot(Architecture.X86_64)}"
    strict = ("-Wall", "-Wextra", "-Wconversion", "-Werror")

    compile_for(
        interface, compiler=(str(kit.program("gcc")), sysroot, *strict), into=tmp_path / "count.so"
    )

    assert (tmp_path / "count.so").stat().st_size > 0


@pytest.mark.parametrize("options", ["", ",out=relative", ",other=/x", ",out=/x,more=1"], ids=str)
def test_an_option_that_is_not_understood_is_refused(
    kit: Kit, tmp_path: Path, options: str
) -> None:
    sysroot = f"--sysroot={kit.sysroot(Architecture.X86_64)}"
    place = tmp_path / "count.so"
    compile_for(Interface.FIRST, compiler=(str(kit.program("gcc")), sysroot), into=place)

    refused = tools.run(
        [kit.program("qemu-aarch64"), "-plugin", f"{place}{options}", kit.root / "kit.json"],
        timeout_s=20,
    )

    assert refused.returncode == 1
    assert b"count: use it as count.so,out=/ABSOLUTE/PATH with aarch64 or arm" in refused.stderr
