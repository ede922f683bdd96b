import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from packager import bundles, tools
from packager.apps import handheld
from packager.apps.handheld import LINKED_PACKAGES, PROGRAM, Toolchain
from packager.artifacts import Layout, Precision, Runtime, TensorIo
from packager.bundles import OpenedBundle
from packager.contract import Activation, Contract, IoContract
from packager.contract.spec import Boxes, BoxForm, Segments
from packager.devices import Architecture
from packager.devices.kit import Kit
from packager.errors import ConfigError, MissingToolError, StorageError, ToolError
from packager.kit_record import Item, Pinned, Record
from packager.tools import Finished
from tests.bundle_example import CONTRACT, write_bundle
from tests.contracts import GRAY, RGB, SIGNAL

FLOAT = TensorIo(shape=(1, 2), layout=Layout.CHANNELS_FIRST, dtype=Precision.FLOAT32)


WHEEL: Any = {
    "architecture": "cp311-cp311-manylinux_2_27_x86_64",
    "part": "runtime/x86_64",
    "sha256": None,
    "size_bytes": None,
    "pinned": Pinned.EQUAL,
}


def record_of(*packages: Item) -> Record:
    """Return the record of a kit that holds packages, and a compiler."""
    return Record(
        format=1,
        source_sha256="",
        programs={"g++": "g++"},
        packages=packages,
        problems=(),
        folders={},
        emulator=None,
    )


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenedBundle:
    """A bundle that says it is for a handheld."""
    example = bundles.open_bundle(write_bundle(tmp_path / "bundle", monkeypatch))
    manifest = replace(example.manifest, runtime=Runtime.LITERT, target="handheld")
    return replace(example, manifest=manifest)


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    """A kit whose files are no libraries and no compiler."""
    root = tmp_path / "kit"
    runtime = root / "runtime" / "litert" / "x86_64"
    linked = root / "sysroot" / "x86_64" / "usr" / "lib" / "x86_64-linux-gnu"
    for place in (runtime / "lib" / "libLiteRt.so", *(linked / name for name in handheld.LINKED)):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(place.name)
    for package in LINKED_PACKAGES:
        licence = root / "sysroot" / "x86_64" / "usr" / "share" / "doc" / package / "copyright"
        licence.parent.mkdir(parents=True)
        licence.write_text(f"Licence of {package}\n")
    (runtime / "LICENSE").write_text("Licence of LiteRT\n")
    compiler = root / "g++"
    compiler.write_text("#!/bin/sh\necho a compiler\n")
    compiler.chmod(0o755)
    return Kit(root=root, record=record_of(Item(name="ai-edge-litert", version="2.3.0", **WHEEL)))


@pytest.fixture
def toolchain(kit: Kit) -> Toolchain:
    return Toolchain.of(kit, Runtime.LITERT, Architecture.X86_64)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Write a program without a compiler; remember what each was made of."""
    made: list[dict[str, str]] = []

    def compile_program(_toolchain: Toolchain, files: dict[str, str], folder: Path) -> Path:
        made.append(files)
        (folder / PROGRAM).write_text("a program")
        return folder / PROGRAM

    monkeypatch.setattr(handheld, "compile_program", compile_program)
    monkeypatch.setattr(tools, "run_checked", lambda *_args, **_kwargs: version("1.0"))
    return made


def version(text: str) -> Finished:
    return Finished(returncode=0, stdout=text.encode(), stderr=b"")


def with_contract(opened: OpenedBundle, contract: Contract, output: TensorIo) -> OpenedBundle:
    return replace(
        opened, contract=IoContract(contract=contract, input=opened.contract.input, output=output)
    )


def constants(opened: OpenedBundle) -> dict[str, str]:
    """Return what the generated header defines, by name."""
    header = handheld.generated(opened)[handheld.HEADER]
    pattern = r"#define SCAN_(\w+) (\d)|constexpr [\w:]+ (\w+) = (.*?);|using (\w+) = (.*?);"
    found = [tuple(filter(None, match)) for match in re.findall(pattern, header)]
    return {name: value.rsplit("::", maxsplit=1)[-1] for name, value in found}


def test_header_says_what_the_contract_says(opened: OpenedBundle) -> None:
    assert constants(opened) == {
        "READS_SIGNALS": "0",
        "ANSWERS_LABELS": "1",
        "ANSWERS_BOXES": "0",
        "bundle_format": "2",
        "runtime": '"litert"',
        "precision": '"int8"',
        "reads_signals": "false",
        "turns_frames": "true",
        "colour": "gray",
        "bits": "8",
        "channels": "1",
        "height_px": "0",
        "width_px": "0",
        "InputNumber": "int8_t",
        "OutputNumber": "int8_t",
        "input_values": "16",
        "output_values": "2",
        "output_scale": "0.5",
        "output_zero_point": "3",
        "output_tolerance_ratio": "0.0",
    }


def test_header_of_a_signal_states_its_leads_and_samples(opened: OpenedBundle) -> None:
    contract = CONTRACT.model_copy(update={"input_shape": (1, 140), "source": SIGNAL})
    said = constants(with_contract(opened, contract, FLOAT))
    names = ("READS_SIGNALS", "bits", "channels", "height_px", "width_px", "OutputNumber")
    assert [said[name] for name in names] == ["1", "32", "1", "1", "140", "float"]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (
            {
                "boxes": Boxes(
                    candidates=8,
                    form=BoxForm.CORNERS,
                    min_score=0.5,
                    max_overlap_ratio=0.5,
                    max_boxes=2,
                )
            },
            ("0", "1", "48"),
        ),
        ({"segments": Segments(size_px=(4, 4))}, ("0", "0", "32")),
    ],
)
def test_header_names_the_kind_of_answer(
    opened: OpenedBundle, answers: dict[str, object], expected: tuple[str, ...]
) -> None:
    contract = Contract.model_validate(
        {
            "input_shape": (1, 4, 4),
            "source": GRAY,
            "full_scale": 255.0,
            "mean": (0.5,),
            "std": (0.5,),
            "activation": Activation.SOFTMAX,
            "labels": ("dark", "bright"),
            **answers,
        }
    )
    said = constants(with_contract(opened, contract, FLOAT))
    names = ("ANSWERS_LABELS", "ANSWERS_BOXES", "output_values")
    assert tuple(said[name] for name in names) == expected


def test_float32_outputs_may_differ_by_the_bundles_own_tolerance(opened: OpenedBundle) -> None:
    manifest = replace(opened.manifest, precision=Precision.FLOAT32)
    said = constants(replace(opened, manifest=manifest))
    assert (said["precision"], said["output_tolerance_ratio"]) == ('"float32"', "1e-05")


def test_payload_is_the_program_the_runtime_and_their_licences(
    opened: OpenedBundle, kit: Kit, tmp_path: Path, compiled: list[dict[str, str]]
) -> None:
    payload = handheld.build(opened, Architecture.X86_64, kit, cache_root=tmp_path / "cache")
    assert payload.program.file.path.read_text() == "a program"
    assert [library.name for library in payload.libraries] == ["libLiteRt.so"]
    assert payload.command == ("./scan",)
    assert re.findall("Licence of (.*)", payload.notices) == [*LINKED_PACKAGES, "LiteRT"]
    assert compiled == [handheld.generated(opened)]


def test_program_is_built_once_for_the_same_inputs(
    toolchain: Toolchain, tmp_path: Path, compiled: list[dict[str, str]]
) -> None:
    first = handheld.cached(toolchain, {"a.c": "1"}, tmp_path / "cache")
    assert handheld.cached(toolchain, {"a.c": "1"}, tmp_path / "cache") == first
    assert len(compiled) == 1


def test_program_is_built_anew_for_each_input_that_differs(
    toolchain: Toolchain,
    tmp_path: Path,
    compiled: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sources = tmp_path / "apps" / "handheld" / "cpp"
    sources.mkdir(parents=True)
    (sources / "main.cpp").write_text("1")
    monkeypatch.setattr(handheld, "sources_root", lambda: tmp_path / "apps")

    def build() -> Path:
        return handheld.cached(toolchain, {"a.c": "1"}, tmp_path / "cache")

    places = {build()}
    (sources / "main.cpp").write_text("2")
    places.add(build())
    toolchain.libraries[0].write_text("another version")
    places.add(build())
    toolchain.linked[0].write_text("another version")
    places.add(build())
    monkeypatch.setattr(tools, "run_checked", lambda *_args, **_kwargs: version("2.0"))
    places.add(build())
    places.add(handheld.cached(toolchain, {"a.c": "2"}, tmp_path / "cache"))
    assert len(places) == len(compiled) == 6


def test_build_that_fails_leaves_nothing_behind(
    toolchain: Toolchain,
    tmp_path: Path,
    compiled: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_arguments: object) -> Path:
        raise ToolError("cmake", "ended with exit code 1", printed="no")

    monkeypatch.setattr(handheld, "compile_program", fail)
    with pytest.raises(ToolError):
        handheld.cached(toolchain, {}, tmp_path / "cache")
    assert list((tmp_path / "cache" / "apps").iterdir()) == []
    assert compiled == []


def test_cache_that_cannot_be_written_is_named(
    toolchain: Toolchain, tmp_path: Path, compiled: list[dict[str, str]]
) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(StorageError, match=re.escape(str(tmp_path / "cache"))):
        handheld.cached(toolchain, {}, tmp_path / "cache")
    assert compiled == []


def test_bundle_of_a_microcontroller_is_refused(opened: OpenedBundle, kit: Kit) -> None:
    manifest = replace(opened.manifest, runtime=Runtime.TFLITE_MICRO)
    with pytest.raises(ConfigError) as caught:
        handheld.build(
            replace(opened, manifest=manifest), Architecture.X86_64, kit, cache_root=Path()
        )
    assert str(caught.value) == (
        "handheld: is a microcontroller's bundle, which no handheld runs. "
        "Validate it on an emulated board."
    )


def test_architecture_that_the_app_is_not_built_for_is_refused(
    opened: OpenedBundle, kit: Kit
) -> None:
    with pytest.raises(ConfigError) as caught:
        handheld.build(opened, Architecture.ARMV7, kit, cache_root=Path())
    assert str(caught.value) == (
        "handheld: the handheld app is built for x86_64, aarch64, not for armv7l."
    )


@pytest.mark.parametrize(
    "part",
    [
        "runtime/litert/x86_64/lib/libLiteRt.so",
        "sysroot/x86_64/usr/lib/x86_64-linux-gnu/libz.a",
        "runtime/litert/x86_64/LICENSE",
        "g++",
    ],
)
def test_part_that_the_kit_lacks_is_named_with_what_to_do(
    opened: OpenedBundle,
    kit: Kit,
    tmp_path: Path,
    compiled: list[dict[str, str]],
    part: str,
) -> None:
    (kit.root / part).unlink()
    with pytest.raises(MissingToolError, match="packager setup-device qemu"):
        handheld.build(opened, Architecture.X86_64, kit, cache_root=tmp_path / "cache")
    assert len(compiled) <= 1


def test_runtime_that_the_kit_holds_in_no_or_two_versions_is_refused(kit: Kit) -> None:
    one = Item(name="ai-edge-litert", version="2.3.0", **WHEEL)
    for packages in ((), (one, replace(one, version="2.4.0"))):
        other = replace(kit, record=record_of(*packages))
        with pytest.raises(MissingToolError, match="ai-edge-litert"):
            Toolchain.of(other, Runtime.LITERT, Architecture.X86_64)


def test_cmake_that_is_missing_is_named_with_what_to_do(
    toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(MissingToolError) as caught:
        handheld.compile_program(toolchain, {}, tmp_path)
    assert str(caught.value) == (
        "Building scan needs 'ninja', which is not installed. pip install 'packager[device]'"
    )


def test_generated_code_is_written_for_a_build_by_hand(
    opened: OpenedBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handheld, "open_bundle", lambda _path: opened)
    written = handheld.write(tmp_path / "bundle.zip", tmp_path / "generated")
    assert sorted(path.name for path in written) == [
        "lamp_contract.c",
        "lamp_contract.h",
        "lamp_contract.hpp",
        "scan_contract.hpp",
    ]


def test_every_source_is_built(opened: OpenedBundle) -> None:
    """A file that CMake does not know is dead code, whatever it looks like."""
    folder = handheld.sources_root() / "handheld" / "cpp"
    listed = (folder / "CMakeLists.txt").read_text()
    either = {"src/runtime_executorch.cpp", "src/runtime_litert.cpp"}
    sources = {str(path.relative_to(folder)) for path in (folder / "src").glob("*.cpp")} - either
    assert sources == set(re.findall(r"src/\w+\.cpp", listed))
    assert opened.manifest.runtime in {"executorch", "litert"}


def test_colours_have_the_same_names_in_contract_and_program() -> None:
    folder = handheld.sources_root() / "handheld" / "cpp" / "src"
    (named,) = re.findall(r"enum class Colour \{(.*?)\}", (folder / "frame.hpp").read_text())
    colours = type(RGB.colour)
    assert [name.strip() for name in named.split(",")] == [str(colour) for colour in colours]
