"""Target profiles: the TOML files under `targets/`, one folder each."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from packager import shipped, strict_toml
from packager.artifacts import Layout, Precision, Runtime
from packager.errors import ConfigError, did_you_mean
from packager.strict_toml import Strict

PROFILE = "target.toml"
Bytes = Annotated[int, Field(ge=1024)]


class Io(Strict):
    """What the app hands to the program, and gets back."""

    layout: Layout
    """Order of the axes of the input."""
    dtype: Precision
    """'int8': the app quantises; 'float32': the program does."""


class Kernels(Strict):
    """What the device's kernels are good at."""

    channel_multiple: Annotated[int, Field(ge=1, le=64)]
    """Channel counts that are a multiple of this waste no lane."""
    gain_from_zeros: bool
    """True where a weight of zero costs no time."""


class Memory(Strict):
    """Hard limits of the device. No defaults: a guessed RAM size is a wrong one."""

    flash_bytes: Bytes
    """For the program file."""
    ram_bytes: Bytes
    """For the working memory of one inference."""


Instructions = Annotated[int, Field(ge=1000)]


class Device(Strict):
    """What the device computes with, and what it has time for.

    An emulator counts instructions and knows no time, so limits are instructions; the
    comment beside each says which wish of a user it stands for.
    """

    cpu: str
    """The core that an emulator imitates, such as `cortex-a72`."""
    max_inference_instructions: Instructions
    """From a program's input to its output, once it is warm."""
    max_startup_instructions: Instructions
    """From the program's first line to the model being ready."""
    timeout_s: Annotated[int, Field(ge=1, le=3600)]
    """For one run of all golden samples, emulated."""


class Target(Strict):
    """One device that a model can be packaged for."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    """Equal to the name of its folder."""
    summary: str
    """One line for a person who chooses."""
    source: str
    """Where the figures come from: board, datasheet."""
    runtime: Runtime
    """The program format, and what runs it."""
    precision: Precision
    """How the program computes."""
    io: Io
    kernels: Kernels
    memory: Memory
    device: Device | None = None
    """None where a bundle is not yet run on the device's own instruction set."""


def find_profiles(root: Path) -> dict[str, Path]:
    """Return every target under `root` by folder name."""
    return {path.parent.name: path for path in sorted(root.glob(f"*/{PROFILE}"))}


def load(name: str, root: Path) -> Target:
    """Read and validate one profile.

    Raises:
        ConfigError: There is no such target, or its file is wrong.
    """
    profiles = find_profiles(root)
    if name not in profiles:
        raise ConfigError("targets", f"no target {name!r}. {did_you_mean(name, profiles)}")
    path = profiles[name]
    target = strict_toml.load(Target, path)
    if target.name != name:
        raise ConfigError(f"{path}.name", f"{target.name!r} differs from its folder {name!r}.")
    if target.precision is Precision.FLOAT32 and target.io.dtype is Precision.INT8:
        raise ConfigError(f"{path}.io.dtype", "a float32 program has float32 inputs and outputs.")
    return target


def default_root() -> Path:
    """Return the folder of built-in targets, in a checkout or an installed copy."""
    return shipped.folder("targets")
