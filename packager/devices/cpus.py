"""The processors that emulated devices can have: data in `cpus.toml`.

A runtime chooses its kernels by what the processor says of itself, so an emulated one must say
what the silicon says: its instruction set extensions, and its maker's number for the core.

The emulator's `max`, which has every extension, is not among them: no device is like it, and
that of QEMU 7.2 computes int8 networks wrongly.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from packager import tools
from packager.devices import Architecture
from packager.errors import ConfigError, ToolError, did_you_mean

DATA = Path(__file__).with_name("cpus.toml")
ASK_TIMEOUT_S = 10


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A processor.

    Attributes:
        name: As on the command line, such as `cortex-a53`.
        title: As its maker writes it.
        architecture: Of the programs that it runs.
        cores: Names of the emulator's processors that can play it, the best first.
        implementer: This and the next three are fields of its MIDR register.
        features: Its extensions, as Linux names them.
    """

    name: str
    title: str
    architecture: Architecture
    cores: tuple[str, ...]
    implementer: int
    part: int
    variant: int
    revision: int
    features: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Core:
    """What an emulator plays a processor with.

    Attributes:
        name: For its `-cpu` option.
        stands_in: True where the emulator lacks the processor itself, and this one, which runs
            the same instructions, plays it.
    """

    name: str
    stands_in: bool


def _profiles() -> dict[str, Profile]:
    table = tomllib.loads(DATA.read_text("utf-8"))
    return {name: _profile(name, entry) for name, entry in table.items()}


def _profile(name: str, entry: dict[str, object]) -> Profile:
    match entry:
        case {
            "title": str(title), "architecture": str(architecture), "cores": list(cores),
            "implementer": int(implementer), "part": int(part), "variant": int(variant),
            "revision": int(revision), "features": list(features), **others,
        } if not others:  # fmt: skip
            return Profile(
                name=name, title=title, architecture=Architecture(architecture),
                cores=tuple(cores), implementer=implementer, part=part, variant=variant,
                revision=revision, features=tuple(features),
            )  # fmt: skip
    raise AssertionError(f"{DATA.name}: [{name}] is not a profile")


PROFILES = _profiles()
"""All of them, by name."""


def profile(name: str) -> Profile:
    """Return a processor by its name.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in PROFILES:
        problem = f"{name!r} is no processor that can be emulated. {did_you_mean(name, PROFILES)}"
        raise ConfigError("--on", problem)
    return PROFILES[name]


def core(of: Profile, emulator: Path) -> Core:
    """Return what an emulator plays a processor with, the processor itself if it can.

    Raises:
        ToolError: It can play neither that one nor a substitute.
    """
    known = offered(emulator)
    for name in of.cores:
        if name in known:
            return Core(name=name, stands_in=name != of.cores[0])
    problem = f"has none of the processors {', '.join(of.cores)}"
    raise ToolError(emulator.name, problem, printed=" ".join(sorted(known)))


def offered(emulator: Path) -> frozenset[str]:
    """Return the processors that an emulator says it has."""
    machine = ("-M", "virt") if "system" in emulator.name else ()
    asked = [str(emulator), *machine, "-cpu", "help"]
    # The user emulator of QEMU 7.2 answers, and then ends with exit code 1.
    printed = tools.run(asked, timeout_s=ASK_TIMEOUT_S).stdout.decode(errors="replace")
    return frozenset(line.strip() for line in printed.splitlines() if line.startswith(" "))


def described(of: Profile, played_by: Core) -> str:
    """Return the processor in words; a stand-in is named."""
    if not played_by.stands_in:
        return of.title
    return f"{of.title} (played by {PROFILES[played_by.name].title}, with the same instructions)"


def cpuinfo_text(of: Profile, *, cores: int) -> str:
    """Return `/proc/cpuinfo` as Linux on the device writes it."""
    is_64_bit = of.architecture is Architecture.AARCH64
    model = "" if is_64_bit else f"model name\t: ARMv7 Processor rev {of.revision} (v7l)\n"
    one = (
        f"{model}BogoMIPS\t: 100.00\nFeatures\t: {' '.join(of.features)}\n"
        f"CPU implementer\t: {of.implementer:#04x}\nCPU architecture: {8 if is_64_bit else 7}\n"
        f"CPU variant\t: {of.variant:#x}\nCPU part\t: {of.part:#05x}\n"
        f"CPU revision\t: {of.revision}\n\n"
    )
    board = "Hardware\t: Generic DT based system\nRevision\t: 0000\nSerial\t\t: 0000000000000000\n"
    last = "" if is_64_bit else board
    return "".join(f"processor\t: {number}\n{one}" for number in range(cores)) + last


def system_files(of: Profile, *, cores: int) -> dict[str, str]:
    """Return the files below `/` in which a runtime looks for the processor, by path.

    They describe `cores` equal cores with one second-level cache. Frequency and cache are no
    device's own: they are there so that those of the machine that emulates are not seen.
    """
    all_cores = f"0-{cores - 1}\n" if cores > 1 else "0\n"
    folder = "sys/devices/system/cpu"
    files = {
        "proc/cpuinfo": cpuinfo_text(of, cores=cores),
        **{f"{folder}/{name}": all_cores for name in ("online", "possible", "present")},
        f"{folder}/kernel_max": f"{cores - 1}\n",
    }
    one = {
        "topology/physical_package_id": "0\n",
        "topology/cluster_cpus_list": all_cores,
        "topology/core_siblings_list": all_cores,
        "topology/package_cpus_list": all_cores,
        "cpufreq/cpuinfo_min_freq": "1000000\n",
        "cpufreq/cpuinfo_max_freq": "1000000\n",
        "cache/index2/level": "2\n",
        "cache/index2/size": "512K\n",
        "cache/index2/shared_cpu_list": all_cores,
        "regs/identification/midr_el1": f"{main_id(of):#018x}\n",
    }
    for number in range(cores):
        files |= {f"{folder}/cpu{number}/{name}": content for name, content in one.items()}
    return files


def main_id(of: Profile) -> int:
    """Return the processor's main identity register, of which the fields of a profile are part."""
    described_by_features = 0xF << 16
    identity = of.implementer << 24 | of.variant << 20 | of.part << 4 | of.revision
    return identity | described_by_features
