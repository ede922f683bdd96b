from dataclasses import replace
from pathlib import Path

import pytest

from packager.devices.cpus import PROFILES
from packager.devices.host import Host
from packager.devices.kit import Kit
from packager.devices.opening import open_device
from packager.errors import ConfigError, DeviceError
from tests.unit.devices import kit_example


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    record = kit_example.record(folders={})
    emulator = replace(kit_example.EMULATOR, exact_cpus=("cortex-a53", "cortex-a7"))
    return Kit(root=tmp_path, record=replace(record, emulator=emulator))


UNKNOWN = "is no processor that can be emulated."


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("qemu-usr:cortex-a53", "'qemu-usr' is no kind of device. Did you mean 'qemu-user'?"),
        ("", "'' is no kind of device. Known: adb, host, qemu-system, qemu-user, ssh."),
        ("host:there", "host:there: it is this machine, and no other can be named."),
        ("qemu-user:cortex-a35", f"'cortex-a35' {UNKNOWN} Did you mean 'cortex-a55'?"),
        ("qemu-system:max", f"'max' {UNKNOWN} Known: {', '.join(sorted(PROFILES))}."),
        ("qemu-user", f"qemu-user: name a processor: {', '.join(PROFILES)}."),
        (
            "qemu-system:cortex-a7",
            "qemu-system:cortex-a7: a machine is emulated with 64-bit processors only.",
        ),
        ("ssh:", "'' is no address. Write ssh:HOST, ssh:USER@HOST or ssh:USER@HOST:PORT."),
    ],
)
def test_a_device_that_cannot_be_meant_is_an_error(kit: Kit, spec: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_device(spec, kit=kit, ram_bytes=2**28, memory_limit_bytes=None)

    assert str(caught.value) == f"--on: {problem}"


@pytest.mark.parametrize("kind", ["qemu-user", "qemu-system"])
def test_a_processor_that_is_emulated_wrongly_is_refused(kit: Kit, kind: str) -> None:
    spec = f"{kind}:cortex-a76"

    with pytest.raises(DeviceError) as caught:
        open_device(spec, kit=kit, ram_bytes=2**28, memory_limit_bytes=None)

    assert str(caught.value) == (
        f"{spec}: the emulator of this machine computed wrongly with it when it was tried out. "
        "Choose another processor, or another QEMU. Run `packager setup-device qemu`."
    )


def test_this_machine_is_a_device(kit: Kit) -> None:
    place = kit.root / kit.record.programs["strace"]
    place.parent.mkdir(parents=True)
    place.touch(mode=0o755)

    device = open_device("host", kit=kit, ram_bytes=2**28, memory_limit_bytes=None)

    assert isinstance(device, Host)
