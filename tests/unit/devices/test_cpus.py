import pytest

from packager.devices import Architecture, cpus
from packager.devices.cpus import PROFILES, Core
from packager.errors import ConfigError


def test_a_processor_is_found_by_its_name() -> None:
    assert cpus.profile("cortex-a72").title == "Cortex-A72"


@pytest.mark.parametrize("name", ["max", "cortex-a54"])
def test_a_processor_that_is_not_known_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cpus.profile(name)

    assert str(caught.value).startswith(f"--on: {name!r} is no processor that can be emulated. ")


def test_no_profile_is_played_by_a_core_with_every_extension() -> None:
    assert [name for name, of in PROFILES.items() if {"max", "any"} & set(of.cores)] == []


def test_a_stand_in_is_named() -> None:
    one, other = Core(name="cortex-a55", stands_in=False), Core(name="cortex-a76", stands_in=True)
    of = PROFILES["cortex-a55"]

    assert cpus.described(of, one) == "Cortex-A55"
    expected = "Cortex-A55 (played by Cortex-A76, with the same instructions)"
    assert cpus.described(of, other) == expected


def test_a_stand_in_has_the_same_extensions() -> None:
    played = {
        (name, core): (of.features, PROFILES[core].features)
        for name, of in PROFILES.items()
        for core in of.cores[1:]
    }

    assert set(played) == {("cortex-a55", "cortex-a76")}
    assert [pair for pair, (one, other) in played.items() if one != other] == []


def test_cpuinfo_is_as_linux_writes_it() -> None:
    one = (
        "BogoMIPS\t: 100.00\nFeatures\t: fp asimd aes pmull sha1 sha2 crc32 cpuid\n"
        "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\n"
        "CPU part\t: 0xd03\nCPU revision\t: 4\n\n"
    )

    text = cpus.cpuinfo_text(PROFILES["cortex-a53"], cores=2)

    assert text == f"processor\t: 0\n{one}processor\t: 1\n{one}"


def test_cpuinfo_of_32_bits_names_the_model_and_the_board() -> None:
    of = PROFILES["cortex-a7"]

    text = cpus.cpuinfo_text(of, cores=1)

    assert of.architecture is Architecture.ARMV7
    assert text.startswith("processor\t: 0\nmodel name\t: ARMv7 Processor rev 5 (v7l)\n")
    assert "CPU architecture: 7\n" in text
    assert text.endswith("Hardware\t: Generic DT based system\nRevision\t: 0000\n"
                         "Serial\t\t: 0000000000000000\n")  # fmt: skip


def test_files_of_the_processor_agree_with_each_other() -> None:
    files = cpus.system_files(PROFILES["cortex-a76"], cores=4)

    assert files["proc/cpuinfo"] == cpus.cpuinfo_text(PROFILES["cortex-a76"], cores=4)
    assert files["sys/devices/system/cpu/possible"] == "0-3\n"
    assert files["sys/devices/system/cpu/kernel_max"] == "3\n"
    identity = files["sys/devices/system/cpu/cpu3/regs/identification/midr_el1"]
    assert identity == "0x00000000414fd0b1\n"
    assert not any("cpu4" in name for name in files)
