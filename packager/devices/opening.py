"""Open the device that `--on` names."""

from enum import StrEnum
from typing import assert_never

from packager.devices import Architecture, Device, cpus
from packager.devices.kit import INSTALL, Kit
from packager.errors import ConfigError, DeviceError, did_you_mean

OPTION = "--on"


class DeviceKind(StrEnum):
    """What comes before the colon."""

    HOST = "host"
    """This machine."""
    QEMU_USER = "qemu-user"
    """An emulated processor."""
    QEMU_SYSTEM = "qemu-system"
    """An emulated machine, with a kernel and memory of its own."""
    ADB = "adb"
    """An Android phone on a cable, or what else adb reaches."""
    SSH = "ssh"
    """A machine that runs Linux, on the network."""


def open_device(spec: str, *, kit: Kit, ram_bytes: int, memory_limit_bytes: int | None) -> Device:
    """Return a device by its name; its `with` statement takes it into use.

    Args:
        spec: `host`, `qemu-user:CPU`, `qemu-system:CPU`, `adb`, `adb:SERIAL`,
            `ssh:HOST`, `ssh:USER@HOST`, `ssh:HOST:PORT`.
        kit: Has emulators, and the libraries that go onto a device.
        ram_bytes: Of the device; only an emulated machine can have as much as that.
        memory_limit_bytes: How much of it the program may use; only an emulated machine can
            hold it to that. None for all.

    Raises:
        ConfigError: There is no such kind of device, or no such processor.
        DeviceError: It cannot be reached, or its emulator computes wrongly.
        MissingToolError: A program that it needs is not installed.
        ToolError: Such a program does not work.
    """
    named, _, where = spec.partition(":")
    kind = _kind(named)
    match kind:
        case DeviceKind.HOST:
            from packager.devices.host import Host

            _require(not where, spec, "it is this machine, and no other can be named")
            return Host(kit)
        case DeviceKind.QEMU_USER:
            from packager.devices.qemu_user import QemuUser

            _require_cpu(spec, where, kit)
            return QemuUser(where, kit)
        case DeviceKind.QEMU_SYSTEM:
            from packager.devices.qemu_system import QemuSystem

            _require_cpu(spec, where, kit)
            is_64_bit = cpus.profile(where).architecture is Architecture.AARCH64
            _require(is_64_bit, spec, "a machine is emulated with 64-bit processors only")
            _require_machine(spec, kit)
            return QemuSystem(
                where, kit, ram_bytes=ram_bytes, memory_limit_bytes=memory_limit_bytes
            )
        case DeviceKind.ADB:
            from packager.devices.adb import open_adb

            return open_adb(where or None, kit)
        case DeviceKind.SSH:
            from packager.devices.ssh import address, open_ssh

            return open_ssh(address(where), kit, config=None)
        case _:
            assert_never(kind)


def _kind(name: str) -> DeviceKind:
    try:
        return DeviceKind(name)
    except ValueError:
        problem = f"{name!r} is no kind of device. {did_you_mean(name, [kind.value for kind in DeviceKind])}"
        raise ConfigError(OPTION, problem) from None


def _require(condition: bool, spec: str, problem: str) -> None:  # noqa: FBT001 as assert has it
    if not condition:
        raise ConfigError(OPTION, f"{spec}: {problem}.")


def _require_cpu(spec: str, name: str, kit: Kit) -> None:
    """Fail unless a processor is known, and was emulated without a fault when it was tried out."""
    _require(bool(name), spec, f"name a processor: {', '.join(cpus.PROFILES)}")
    cpus.profile(name)
    emulator = kit.record.emulator
    if emulator is not None and name not in emulator.exact_cpus:
        problem = "the emulator of this machine computed wrongly with it when it was tried out"
        raise DeviceError(spec, f"{problem}. Choose another processor, or another QEMU. {INSTALL}")


def _require_machine(spec: str, kit: Kit) -> None:
    """Fail if the emulated machine did not run a program rightly when it was tried out."""
    emulator = kit.record.emulator
    if emulator is not None and not emulator.boots:
        problem = "the emulated machine did not run a program rightly when it was tried out"
        raise DeviceError(spec, f"{problem}. Use qemu-user, or another QEMU. {INSTALL}")
