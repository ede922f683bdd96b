"""The handheld's program, built and run on this machine: it answers as the reference does."""

import base64
import hashlib
import json
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from pydicom.uid import UID, JPEG2000Lossless, JPEGBaseline8Bit
from safetensors.numpy import load, save

from packager import bundles, runtimes, tools
from packager.apps import handheld
from packager.artifacts import Converted, Runtime
from packager.contract import Activation, Contract, images
from packager.contract.answers import decisions, ranked
from packager.contract.frames import Frame
from packager.contract.golden import Sample, prepare
from packager.contract.spec import (
    Boxes,
    BoxForm,
    Colour,
    ImageSource,
    Resize,
    ResizeMode,
    Segments,
)
from packager.contract.tensors import dequantise
from tests.conftest import require_kit, require_package
from tests.contracts import SIGNAL
from tests.integration.frame_files import (
    SYNTAXES,
    Look,
    exif,
    noise,
    png_bytes,
    write_dicom,
    write_png,
)
from tests.integration.scan_programs import (
    HERE,
    Line,
    Scan,
    build,
    build_quickly,
    build_watched,
    write_bundle,
)
from tests.networks import Residual, Signal, Wide

require_package("ai_edge_litert", "litert")
require_package("litert_torch", "litert")
require_package("executorch", "android")
require_kit()

from tests.integration import executorch_programs, litert_programs

pytestmark = [
    # litert-torch, ExecuTorch and PyTorch warn of their own code.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

HEIGHT_PX, WIDTH_PX = 40, 33
LOCAL_HEADER_BYTES = 30
BAD_BUNDLE, BAD_FRAME, DIFFERS, USAGE, REFUSED = 12, 15, 5, 2, 17


def contract_of(source: ImageSource, shape: tuple[int, ...], labels: str) -> Contract:
    channels = shape[0]
    return Contract(
        input_shape=shape,
        source=source,
        resize=Resize(mode=ResizeMode.ANTIALIAS),
        full_scale=float(2**source.bits - 1),
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        activation=Activation.SOFTMAX,
        labels=tuple(labels),
        top_k=len(labels),
    )


GRAY = ImageSource(kind="image", colour=Colour.GRAY, bits=8)
GRAY_16 = ImageSource(kind="image", colour=Colour.GRAY, bits=16)
RGB = ImageSource(kind="image", colour=Colour.RGB, bits=8)
PALETTE = ImageSource(kind="image", colour=Colour.PALETTE, bits=8)


def frames(*shape: int, bits: int = 8) -> list[Frame]:
    """Return golden samples: three of noise, of which one is turned."""
    orientations = (1, 6, 3)
    return [
        Frame(pixels=noise(*shape, bits=bits, seed=seed), orientation=orientation)
        for seed, orientation in enumerate(orientations)
    ]


@cache
def litert() -> Converted:
    return litert_programs.convert(Residual, litert_programs.HANDHELD)


@cache
def executorch() -> Converted:
    return executorch_programs.convert(Wide, executorch_programs.FLOAT32)


@pytest.fixture(scope="module")
def gray() -> Scan:
    """LiteRT, int8, watched by the sanitizers."""
    contract = contract_of(GRAY, (1, 28, 28), "ab")
    return build_watched(write_bundle(litert(), contract, frames(HEIGHT_PX, WIDTH_PX)))


@pytest.fixture(scope="module")
def gray_16() -> Scan:
    contract = contract_of(GRAY_16, (1, 28, 28), "ab")
    return build_quickly(write_bundle(litert(), contract, frames(HEIGHT_PX, WIDTH_PX, bits=16)))


@pytest.fixture(scope="module")
def rgb() -> Scan:
    """ExecuTorch, float32, as it is shipped."""
    contract = contract_of(RGB, (3, 16, 16), "abcd")
    return build(write_bundle(executorch(), contract, frames(HEIGHT_PX, WIDTH_PX, 3)))


@pytest.fixture(scope="module")
def palette() -> Scan:
    contract = contract_of(PALETTE, (3, 16, 16), "abcd")
    samples = [
        Frame(pixels=frame.pixels, palette=noise(256, 3, seed=9))
        for frame in frames(HEIGHT_PX, WIDTH_PX)
    ]
    return build_quickly(write_bundle(executorch(), contract, samples))


@pytest.fixture(scope="module")
def signal() -> Scan:
    contract = Contract(
        input_shape=(1, 140),
        source=SIGNAL,
        full_scale=1.0,
        mean=(0.0,),
        std=(1.0,),
        activation=Activation.SOFTMAX,
        labels=tuple("abcde"),
    )
    converted = litert_programs.convert(Signal, litert_programs.HANDHELD)
    return build_quickly(write_bundle(converted, contract, list(signals(2))))


def signals(count: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(5).standard_normal((count, 1, 140)).astype(np.float32)


def expected(scan: Scan, path: Path, samples: Sequence[Sample]) -> list[Line]:
    """Return the lines that the reference would print for the frames of a file."""
    return [_expected(scan, path, place, sample) for place, sample in enumerate(samples)]


def _expected(scan: Scan, path: Path, place: int, sample: Sample) -> Line:
    io, contract = scan.opened.contract, scan.opened.contract.contract
    converted = litert() if scan.opened.manifest.runtime is Runtime.LITERT else executorch()
    if not contract.is_image:
        converted = litert_programs.convert(Signal, litert_programs.HANDHELD)
    output = runtimes.open_session(converted).run(prepare(sample, io))
    logits = dequantise(output, io.output).reshape(1, -1)
    return {
        "event": "result",
        "source": str(path),
        "frame": place,
        "label": contract.labels[int(decisions(logits, contract)[0])],
        "probabilities": [
            {"label": contract.labels[scored.label], "probability": scored.probability}
            for scored in ranked(logits[0], contract)
        ],
        "output_sha256": hashlib.sha256(output.tobytes()).hexdigest(),
    }


def answers(scan: Scan, path: Path, *options: str) -> list[Line]:
    ended = scan.run(*options, path)
    assert ended.returncode == 0, ended
    return ended.of("result")


def rebuilt(scan: Scan, path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Write the bundle again, with other files and a manifest that agrees with them."""
    with zipfile.ZipFile(scan.bundle) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    manifest = json.loads(files.pop("manifest.json"))
    manifest["files"] = [
        {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
        for name, data in files.items()
    ]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("manifest.json", json.dumps(manifest))
    return path


# The self-test


def test_self_test_passes_with_both_runtimes(gray: Scan, rgb: Scan) -> None:
    for scan in (gray, rgb):
        ended = scan.run("--selftest")
        golden = load(bundles.read_file(scan.opened, bundles.GOLDEN))
        assert ended.returncode == 0, ended
        assert ended.of("golden") == [
            {
                "event": "golden",
                "index": place,
                "input_equal": True,
                "output": base64.b64encode(golden["outputs"][place].tobytes()).decode(),
                "decision": int(golden["decisions"][place]),
                "wanted_decision": int(golden["decisions"][place]),
                "max_abs_error": 0,
                "within": True,
            }
            for place in range(3)
        ]
        assert ended.of("selftest") == [
            {"event": "selftest", "passed": True, "samples": 3, "failed": 0}
        ]


def test_program_says_first_what_it_is(gray: Scan) -> None:
    digests = {file.name: file.sha256 for file in gray.opened.manifest.files}
    assert gray.run("--selftest").lines[0] == {
        "event": "program",
        "app": "1.0.0",
        "runtime": "LiteRT 2.3.0",
        "architecture": str(HERE),
        "target": "handheld",
        "model_sha256": digests["model.tflite"],
        "contract_sha256": digests["contract.json"],
        "threads": 1,
    }


def test_marks_enclose_each_step_of_each_sample(gray: Scan) -> None:
    tags = [line["tag"] for line in gray.run("--selftest", "--marks").of("mark")]
    assert tags == [1, 2, *([10, 11, 20, 21, 30, 31] * 3), 3]


def test_bench_times_each_inference_and_names_operators(gray: Scan, rgb: Scan) -> None:
    for scan, convolution in ((gray, "Convolution (NHWC, QC8) IGEMM #1"), (rgb, "Convolution")):
        ended = scan.run("--bench", "3", "--operators")
        (bench,), (operators,) = ended.of("bench"), ended.of("operators")
        assert [len(bench[key]) for key in ("prepare_ns", "infer_ns", "answer_ns")] == [3, 3, 3]  # type: ignore[arg-type]
        named = [operator["name"] for operator in operators["operators"]]  # type: ignore[attr-defined]
        assert any(name.startswith(convolution) for name in named), named
        assert len(set(named)) == len(named)


def test_wrong_golden_output_fails_the_self_test_and_stops_inference(
    gray: Scan, tmp_path: Path
) -> None:
    def spoil(files: dict[str, bytes]) -> None:
        golden = dict(load(files["golden.safetensors"]))
        golden["outputs"] = golden["outputs"] + np.float32(0.5)
        files["golden.safetensors"] = save(golden)

    spoilt = rebuilt(gray, tmp_path / "spoilt.zip", spoil)
    ended = gray.run("--selftest", bundle=spoilt)
    assert ended.returncode == DIFFERS
    assert ended.of("selftest") == [
        {"event": "selftest", "passed": False, "samples": 3, "failed": 3}
    ]
    png = write_png(tmp_path / "frame.png", Image.fromarray(noise(HEIGHT_PX, WIDTH_PX)))
    assert gray.run(png, bundle=spoilt).problem == (
        DIFFERS,
        "this device does not answer the first golden sample as the bundle promises."
        + " `scan --selftest` says more.",
    )


@pytest.mark.parametrize(("change", "within"), [(0.9e-5, True), (2e-5, False)])
def test_float32_outputs_may_differ_by_the_tolerance(
    rgb: Scan, tmp_path: Path, change: float, *, within: bool
) -> None:
    def move(files: dict[str, bytes]) -> None:
        golden = dict(load(files["golden.safetensors"]))
        outputs = golden["outputs"].copy()
        largest = np.abs(outputs).argmax(axis=1)
        outputs[np.arange(3), largest] *= np.float32(1 + change)
        golden["outputs"] = outputs
        files["golden.safetensors"] = save(golden)

    ended = rgb.run("--selftest", bundle=rebuilt(rgb, tmp_path / "moved.zip", move))
    assert [line["within"] for line in ended.of("golden")] == [within] * 3
    assert ended.returncode == (0 if within else DIFFERS)


def test_golden_frame_that_gives_another_input_fails_the_self_test(
    gray: Scan, tmp_path: Path
) -> None:
    def turn(files: dict[str, bytes]) -> None:
        golden = dict(load(files["golden.safetensors"]))
        golden["orientations"] = np.array([2, 6, 3])
        files["golden.safetensors"] = save(golden)

    ended = gray.run("--selftest", bundle=rebuilt(gray, tmp_path / "turned.zip", turn))
    assert [line["input_equal"] for line in ended.of("golden")] == [False, True, True]
    assert ended.returncode == DIFFERS


# Files of frames


def modes(mode: str) -> Image.Image:
    """Return a picture that a contract of gray takes, in a mode of Pillow's."""
    gray_image = Image.fromarray(noise(HEIGHT_PX, WIDTH_PX))
    if mode == "RGBA":
        return Image.merge("RGBA", (*[gray_image] * 3, Image.new("L", gray_image.size, 255)))
    if mode == "P":
        image = Image.fromarray(noise(HEIGHT_PX, WIDTH_PX, bits=7))
        image.putpalette([value for level in range(128) for value in (2 * level,) * 3])
        return image
    return gray_image.convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_png_of_each_kind_is_read_as_the_reference_reads_it(
    gray: Scan, tmp_path: Path, mode: str
) -> None:
    path = write_png(tmp_path / "frame.png", modes(mode))
    frame = images.read_frame(path, gray.opened.contract.contract)
    assert answers(gray, path) == expected(gray, path, [frame])


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("interlaced", [False, True])
def test_png_of_few_bits_is_read_as_the_reference_reads_it(
    gray: Scan, tmp_path: Path, bits: int, *, interlaced: bool
) -> None:
    path = tmp_path / "frame.png"
    path.write_bytes(png_bytes(noise(5, 9, bits=bits), bits, interlaced=interlaced))
    frame = images.read_frame(path, gray.opened.contract.contract)
    assert answers(gray, path) == expected(gray, path, [frame])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("place", ["before", "after"])
def test_png_is_turned_as_its_exif_says(
    gray: Scan, tmp_path: Path, orientation: int, place: str
) -> None:
    path, pixels = tmp_path / "frame.png", noise(HEIGHT_PX, WIDTH_PX)
    if place == "before":
        write_png(path, Image.fromarray(pixels), exif=exif(orientation))
    else:
        chunk = (b"eXIf", exif(orientation))
        path.write_bytes(png_bytes(pixels, 8, interlaced=False, after=(chunk,)))
    frame = images.read_frame(path, gray.opened.contract.contract)
    assert frame.orientation == orientation
    assert answers(gray, path) == expected(gray, path, [frame])


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("XML:com.adobe.xmp", '<rdf:Description tiff:Orientation="8"/>'),
        ("XML:com.adobe.xmp", "<tiff:Orientation>8</tiff:Orientation>"),
        ("Raw profile type exif", "\nexif\n      26\n" + (b"Exif\0\0" + exif(8)).hex() + "\n"),
    ],
)
def test_png_is_turned_as_its_text_says(gray: Scan, tmp_path: Path, key: str, text: str) -> None:
    info = PngImagePlugin.PngInfo()
    if key.startswith("XML"):
        info.add_itxt(key, text, zip=True)
    else:
        info.add_text(key, text, zip=True)
    image = Image.fromarray(noise(HEIGHT_PX, WIDTH_PX))
    path = write_png(tmp_path / "frame.png", image, pnginfo=info)
    frame = images.read_frame(path, gray.opened.contract.contract)
    assert frame.orientation == 8
    assert answers(gray, path) == expected(gray, path, [frame])


def test_png_of_16_bits_is_read_where_the_contract_is_gray(
    gray: Scan, gray_16: Scan, tmp_path: Path
) -> None:
    pixels = noise(HEIGHT_PX, WIDTH_PX, bits=16)
    path = write_png(tmp_path / "frame.png", Image.fromarray(pixels))
    assert answers(gray_16, path) == expected(gray_16, path, [Frame(pixels=pixels)])
    assert gray.run(path).problem == (
        BAD_FRAME,
        f"{path}: has pixels of 16 bits; the contract says gray of 8 bits. "
        + "Files of 16 bits are read where they are gray.",
    )


def test_png_of_colours_and_palettes_is_read_as_rgb(rgb: Scan, tmp_path: Path) -> None:
    coloured = Image.fromarray(noise(HEIGHT_PX, WIDTH_PX, 3))
    for name, image in {
        "rgb": coloured,
        "gray": coloured.convert("L"),
        "palette": coloured.quantize(17),
        "black-and-white": coloured.convert("1"),
    }.items():
        path = write_png(tmp_path / f"{name}.png", image)
        frame = images.read_frame(path, rgb.opened.contract.contract)
        assert answers(rgb, path) == expected(rgb, path, [frame])


def test_png_of_a_palette_keeps_its_indices_where_the_contract_says_so(
    palette: Scan, tmp_path: Path
) -> None:
    for colours in (2, 3, 16, 200):
        image = Image.fromarray(noise(HEIGHT_PX, WIDTH_PX, 3)).quantize(colours)
        path = write_png(tmp_path / f"{colours}.png", image)
        frame = images.read_frame(path, palette.opened.contract.contract)
        assert answers(palette, path) == expected(palette, path, [frame])


@pytest.mark.parametrize(
    ("mode", "problem"),
    [
        ("LA", "has pixels that are not opaque. Convert it to one without alpha."),
        ("RGBA", "has pixels that are not opaque. Convert it to one without alpha."),
        ("RGB", "has pixels that are rgb, not gray."),
    ],
)
def test_png_that_does_not_state_the_contracts_colour_is_refused(
    gray: Scan, tmp_path: Path, mode: str, problem: str
) -> None:
    channels = {"LA": 2, "RGBA": 4, "RGB": 3}[mode]
    path = write_png(tmp_path / "frame.png", Image.fromarray(noise(8, 8, channels), mode))
    assert gray.run(path).problem == (BAD_FRAME, f"{path}: {problem}")


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("count", [1, 3])
def test_dicom_of_each_syntax_and_every_frame_of_a_cine_is_read(
    gray: Scan, tmp_path: Path, syntax: UID, count: int
) -> None:
    pixels = noise(count, HEIGHT_PX, WIDTH_PX)
    pixels[:, :7] = 200  # runs, for the run lengths
    path = write_dicom(tmp_path / "cine.dcm", pixels, Look(syntax=syntax))
    samples = [Frame(pixels=frame) for frame in pixels]
    assert answers(gray, path) == expected(gray, path, samples)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_dicom_of_12_bits_in_16_is_read(gray_16: Scan, tmp_path: Path, syntax: UID) -> None:
    pixels = noise(2, HEIGHT_PX, WIDTH_PX, bits=12)
    path = write_dicom(tmp_path / "deep.dcm", pixels, Look(syntax=syntax, bits_stored=12))
    samples = [Frame(pixels=frame) for frame in pixels]
    assert answers(gray_16, path) == expected(gray_16, path, samples)


def test_dicom_whose_black_is_the_highest_value_is_turned_round(
    gray: Scan, gray_16: Scan, tmp_path: Path
) -> None:
    for scan, bits in ((gray, 8), (gray_16, 12)):
        pixels = noise(1, HEIGHT_PX, WIDTH_PX, bits=bits)
        path = tmp_path / f"{bits}.dcm"
        write_dicom(path, pixels, Look(photometric="MONOCHROME1", bits_stored=bits))
        white = pixels.dtype.type(2**bits - 1)
        assert answers(scan, path) == expected(scan, path, [Frame(pixels=white - pixels[0])])


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("planar", [False, True])
def test_dicom_of_colours_is_read_pixel_by_pixel_and_plane_by_plane(
    rgb: Scan, tmp_path: Path, syntax: UID, *, planar: bool
) -> None:
    pixels = noise(2, HEIGHT_PX, WIDTH_PX, 3)
    path = tmp_path / "colour.dcm"
    write_dicom(path, pixels, Look(syntax=syntax, photometric="RGB", planar=planar))
    samples = [Frame(pixels=frame) for frame in pixels]
    assert answers(rgb, path) == expected(rgb, path, samples)


def test_dicom_of_a_palette_is_read_as_indices_and_as_colours(
    palette: Scan, rgb: Scan, tmp_path: Path
) -> None:
    indices, colours = noise(1, HEIGHT_PX, WIDTH_PX), noise(256, 3, seed=1)
    path = tmp_path / "palette.dcm"
    write_dicom(path, indices, Look(photometric="PALETTE COLOR", palette=colours))
    as_indices = Frame(pixels=indices[0], palette=colours)
    assert answers(palette, path) == expected(palette, path, [as_indices])
    as_colours = Frame(pixels=colours[indices[0]])
    assert answers(rgb, path) == expected(rgb, path, [as_colours])


@pytest.mark.parametrize(
    ("syntax", "name"),
    [(JPEGBaseline8Bit, "JPEG Baseline"), (JPEG2000Lossless, "JPEG 2000 Lossless"),
     (UID("1.2.3"), "an unknown transfer syntax (1.2.3)")],
)  # fmt: skip
def test_dicom_that_is_compressed_otherwise_is_refused_by_name(
    gray: Scan, tmp_path: Path, syntax: UID, name: str
) -> None:
    path = write_dicom(tmp_path / "packed.dcm", noise(1, 8, 8), Look(syntax=syntax))
    assert gray.run(path).problem == (
        BAD_FRAME,
        f"{path}: is compressed as {name}. Store it uncompressed, as Explicit VR Little Endian, "
        + "or convert it: `dcmdjpeg` and `gdcmconv --raw` do.",
    )


def test_raw_frames_are_read_one_after_the_other(gray: Scan, gray_16: Scan, tmp_path: Path) -> None:
    for scan, bits in ((gray, 8), (gray_16, 16)):
        pixels = noise(2, HEIGHT_PX, WIDTH_PX, bits=bits)
        path = tmp_path / f"{bits}.raw"
        path.write_bytes(pixels.tobytes())
        samples = [Frame(pixels=frame) for frame in pixels]
        found = answers(scan, path, "--raw", f"{HEIGHT_PX}x{WIDTH_PX}x1")
        assert found == expected(scan, path, samples)


def test_signals_are_read_one_after_the_other(signal: Scan, tmp_path: Path) -> None:
    path, samples = tmp_path / "leads.f32", signals(3)
    path.write_bytes(samples.tobytes())
    assert answers(signal, path) == expected(signal, path, list(samples))
    assert signal.run("--selftest").returncode == 0


def test_raw_file_of_another_size_is_refused(gray: Scan, signal: Scan, tmp_path: Path) -> None:
    path = tmp_path / "frame.raw"
    path.write_bytes(bytes(100))
    assert gray.run(path).problem == (
        BAD_FRAME,
        f"{path}: is neither PNG nor DICOM. Give the size of raw frames: "
        + "--raw HEIGHTxWIDTHxCHANNELS.",
    )
    assert signal.run(path).problem == (
        BAD_FRAME,
        f"{path}: holds 100 bytes, which are no frames of 560 bytes.",
    )
    assert gray.run("--raw", "10x10x3", path).problem[0] == BAD_FRAME


def test_command_line_that_cannot_be_meant_is_refused(gray: Scan) -> None:
    for arguments in (
        (), ("--selftest", "frame.png"), ("--bench", "0"), ("--bench", "x"), ("--raw", "1x2"),
        ("--threads", "-1", "--selftest"), ("--operators", "--selftest"), ("--nothing",),
        ("--selftest", "--bench", "1"), ("--bench",),
    ):  # fmt: skip
        assert gray.run(*arguments).returncode == USAGE, arguments


# Bundles that are not to be trusted


def resized(files: dict[str, bytes]) -> None:
    contract = json.loads(files["contract.json"])
    contract["contract"]["resize"]["mode"] = "area"
    files["contract.json"] = json.dumps(contract).encode()


def newer(files: dict[str, bytes]) -> None:
    contract = json.loads(files["contract.json"])
    contract["format_version"] = 3
    files["contract.json"] = json.dumps(contract).encode()


def manifest_says(key: str, value: object) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        manifest = json.loads(files["manifest.json"])
        manifest[key] = value
        files["manifest.json"] = json.dumps(manifest).encode()

    return change


def other_model(files: dict[str, bytes]) -> None:
    files["model.tflite"] = b"TFL3" * 64


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (resized, "contract.json is not the contract that this program is built for."),
        (newer, "contract.json is of format 3, and this program knows 2."),
        (manifest_says("format_version", 9), "is of format 9, and this program reads 2."),
        (manifest_says("runtime", "executorch"), "its runtime is executorch"),
        (manifest_says("precision", "float32"), "its precision is float32"),
        (manifest_says("model", "../model.tflite"), "../model.tflite is missing."),
        (lambda files: files.pop("golden.safetensors"), "golden.safetensors is missing."),
        (lambda files: files.update({"golden.safetensors": b"\xff" * 64}), "a header that does"),
    ],
)
def test_bundle_that_is_for_another_program_is_refused(
    gray: Scan, tmp_path: Path, change: Callable[[dict[str, bytes]], None], problem: str
) -> None:
    other = rebuilt(gray, tmp_path / "other.zip", change)
    code, message = gray.run("--selftest", bundle=other).problem
    assert (code, problem in message) == (BAD_BUNDLE, True), message


def test_model_that_the_runtime_refuses_is_named_so(gray: Scan, tmp_path: Path) -> None:
    other = rebuilt(gray, tmp_path / "other.zip", other_model)
    assert gray.run("--selftest", bundle=other).problem[0] == REFUSED


def archive_with(name: str, content: bytes = b"x", **fields: int) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo(name)
        for field, value in fields.items():
            setattr(entry, field, value)
        archive.writestr(entry, content)
    return buffer.getvalue()


def bomb() -> bytes:
    """Return an archive whose entry claims to be far larger than what it is made of."""
    content = bytearray(archive_with("manifest.json", bytes(2000), compress_type=8))
    place = content.index(b"PK\x01\x02")
    struct.pack_into("<I", content, place + 24, 0x7000_0000)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is too small for a zip archive."),
        (b"PK" * 100, "it does not end as a zip archive without a comment."),
        (archive_with("../evil"), "holds a file whose name is not a plain one."),
        (archive_with("/etc/passwd"), "holds a file whose name is not a plain one."),
        (archive_with("a\0b"), "manifest.json is missing."),
        (archive_with("link", external_attr=0o120777 << 16), "link is a link or a device"),
        (archive_with("readme"), "manifest.json is missing."),
        (archive_with("manifest.json", b"[" * 100_000), "is not the JSON object"),
        (archive_with("manifest.json", b"{}"), "does not say what a bundle's does."),
        (bomb(), "manifest.json claims to unpack to more than it can."),
    ],
)
def test_archive_that_is_no_bundle_is_refused(
    gray: Scan, tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "other.zip"
    path.write_bytes(content)
    code, message = gray.run("--selftest", bundle=path).problem
    assert (code, problem in message) == (BAD_BUNDLE, True), message


def test_each_changed_byte_and_each_lost_byte_of_a_bundle_is_noticed(
    gray: Scan, tmp_path: Path
) -> None:
    """No change of what the program uses may go by, wherever in the archive it is."""
    whole = gray.bundle.read_bytes()
    path = tmp_path / "changed.zip"
    for place in places_of_content(gray.bundle):
        changed = bytearray(whole)
        changed[place] ^= 0x20
        path.write_bytes(changed)
        assert gray.run("--selftest", bundle=path).returncode == BAD_BUNDLE, place
    for length in np.linspace(0, len(whole) - 1, 12).astype(int).tolist():
        path.write_bytes(whole[:length])
        assert gray.run("--selftest", bundle=path).returncode == BAD_BUNDLE, length


def places_of_content(bundle: Path) -> list[int]:
    """Return places all over the packed content of what the program reads."""
    places: list[int] = []
    with zipfile.ZipFile(bundle) as archive:
        for name in ("model.tflite", "golden.safetensors", "contract.json", "manifest.json"):
            entry = archive.getinfo(name)
            first = entry.header_offset + LOCAL_HEADER_BYTES + len(name)
            # The last byte may hold bits that mean nothing.
            places += np.linspace(first, first + entry.compress_size - 2, 12).astype(int).tolist()
    return places


# Files that are made to harm: the program is watched by the sanitizers


def corpus(folder: Path) -> list[bytes]:
    """Return a valid file of each kind."""
    small = noise(2, 9, 7)
    gray_image = Image.fromarray(small[0])
    grays = np.stack([np.arange(256)] * 3, axis=1)
    looks = [
        *(Look(syntax=syntax) for syntax in SYNTAXES),
        Look(photometric="PALETTE COLOR", palette=grays),
    ]
    files = [write_dicom(folder / f"{place}.dcm", small, look) for place, look in enumerate(looks)]
    equal = np.stack([small] * 3, axis=3)
    planes = Look(photometric="RGB", planar=True)
    files.append(write_dicom(folder / "rgb.dcm", equal, planes))
    files.append(write_png(folder / "gray.png", gray_image, exif=exif(6)))
    files.append(write_png(folder / "palette.png", gray_image.convert("P")))
    return [file.read_bytes() for file in files]


@st.composite
def changes(draw: st.DrawFn) -> tuple[int, list[tuple[float, bytes]], float]:
    """Return which file, what is written where (as a share of its length), and what is left."""
    which = draw(st.integers(0, 6))
    value = st.sampled_from([b"\0", b"\xff", b"\x80", b"\xff\xff\xff\xff", b"\0\0\0\0"])
    place = st.floats(0.0, 1.0)
    written = draw(
        st.lists(st.tuples(place, value | st.binary(min_size=1, max_size=4)), max_size=4)
    )
    return which, written, draw(st.sampled_from([1.0, 1.0, 1.0, 0.9, 0.5]))


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changed=changes())
def test_damaged_file_is_answered_or_refused_and_never_crashes(
    gray: Scan, tmp_path: Path, changed: tuple[int, list[tuple[float, bytes]], float]
) -> None:
    which, written, kept = changed
    content = bytearray(corpus_of(tmp_path)[which])
    for share, value in written:
        at = int(share * (len(content) - 1))
        content[at : at + len(value)] = value
    path = tmp_path / "damaged"
    path.write_bytes(content[: int(kept * len(content))])
    ended = gray.run(path)
    assert ended.returncode in (0, BAD_FRAME), (ended.returncode, ended.stderr[-3000:])


CORPUS: list[bytes] = []


def corpus_of(folder: Path) -> list[bytes]:
    if not CORPUS:
        CORPUS.extend(corpus(folder))
    return CORPUS


def test_sanitizers_watch_the_program(gray: Scan) -> None:
    """A negative control: without them, a fault of memory might go by unseen."""
    assert b"__asan_init" in (gray.folder / "scan").read_bytes()


# The build


def test_same_inputs_give_the_same_bytes_and_name_no_path(rgb: Scan, tmp_path: Path) -> None:
    toolchain = handheld.Toolchain.of(require_kit(), Runtime.EXECUTORCH, HERE)
    again = handheld.compile_program(toolchain, handheld.generated(rgb.opened), tmp_path)
    content = (rgb.folder / "scan").read_bytes()
    assert again.read_bytes() == content
    for private in (str(tmp_path), str(Path.home()), str(handheld.sources_root())):
        assert private.encode() not in content


@pytest.mark.parametrize(
    "answers",
    [
        {"boxes": Boxes(candidates=4, form=BoxForm.CORNERS, min_score=0.5, max_overlap_ratio=0.5,
                        max_boxes=2)},
        {"segments": Segments(size_px=(8, 8))},
    ],
)  # fmt: skip
def test_program_compiles_for_models_that_find_and_mark(
    gray: Scan, tmp_path: Path, answers: dict[str, object]
) -> None:
    """No build makes such bundles yet, so there is no program to run."""
    io = gray.opened.contract
    contract = Contract.model_validate({**io.contract.model_dump(), "top_k": 1, **answers})
    files = handheld.generated(replace(gray.opened, contract=replace(io, contract=contract)))
    for name, text in files.items():
        (tmp_path / name).write_text(text, "utf-8")
    toolchain = handheld.Toolchain.of(require_kit(), Runtime.LITERT, HERE)
    sources = handheld.sources_root() / "handheld" / "cpp" / "src"
    tools.run_checked(
        [
            toolchain.compiler, f"--sysroot={toolchain.sysroot}", "-std=c++17", "-fsyntax-only",
            "-Wall", "-Wextra", "-Wconversion", "-Werror", '-DSCAN_VERSION="0"',
            "-I", tmp_path, "-I", sources, sources / "model_contract.cpp", sources / "main.cpp",
        ],
        timeout_s=120,
    )  # fmt: skip
