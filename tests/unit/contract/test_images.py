"""An image file is read as the frame that it holds, or is refused."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from packager.contract import Contract
from packager.contract.frames import fit_frame
from packager.contract.images import read_frame
from packager.contract.spec import Colour, Resize, ResizeMode
from packager.errors import DataError
from tests.unit.contract.examples import image_contract, image_source

OWN_COLOUR = "Convert the file, or write the files' own colour into contract.source."
ONLY_GRAY = "Files of 16 bits are read where they are gray."


def of_colour(colour: Colour, bits: int = 8) -> Contract:
    return image_contract(1, 4, 4, source=image_source(colour=colour, bits=bits))


def png(path: Path, pixels: NDArray[np.generic]) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def refusal(path: Path, contract: Contract) -> str:
    with pytest.raises(DataError) as caught:
        read_frame(path, contract)
    return str(caught.value).removeprefix(f"{path}: ")


def test_gray_image_is_read_as_it_is(tmp_path: Path) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    frame = read_frame(png(tmp_path / "a.png", pixels), of_colour(Colour.GRAY))
    assert frame.pixels.dtype == np.uint8
    np.testing.assert_array_equal(frame.pixels, pixels)
    assert frame.orientation == 1
    assert frame.palette is None


COLOURS = np.array([[[255, 0, 0], [0, 255, 0], [1, 2, 3]]], np.uint8)


def test_colours_are_read_in_the_order_of_the_contract(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", COLOURS)
    assert read_frame(path, of_colour(Colour.RGB)).pixels.tolist() == COLOURS.tolist()
    assert read_frame(path, of_colour(Colour.BGR)).pixels.tolist() == COLOURS[..., ::-1].tolist()


@pytest.mark.parametrize("colour", [Colour.RGB, Colour.BGR])
def test_gray_and_palettes_are_colours_too(tmp_path: Path, colour: Colour) -> None:
    gray = png(tmp_path / "gray.png", np.array([[7, 9]], np.uint8))
    assert read_frame(gray, of_colour(colour)).pixels.tolist() == [[[7] * 3, [9] * 3]]
    bits = tmp_path / "bits.png"
    Image.fromarray(np.array([[True, False]])).save(bits)
    assert read_frame(bits, of_colour(colour)).pixels.tolist() == [[[255] * 3, [0] * 3]]
    frame = read_frame(with_palette(tmp_path / "palette.png"), of_colour(colour))
    wanted = [[10, 20, 30], [40, 50, 60], [10, 20, 30]]
    assert frame.pixels.tolist() == [wanted if colour is Colour.RGB else [c[::-1] for c in wanted]]
    assert frame.palette is None


def with_palette(path: Path) -> Path:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1, 0])
    image.save(path)
    return path


def test_palette_comes_with_its_indices(tmp_path: Path) -> None:
    frame = read_frame(with_palette(tmp_path / "a.png"), of_colour(Colour.PALETTE))
    assert frame.pixels.tolist() == [[0, 1, 0]]
    assert frame.palette is not None
    assert frame.palette.dtype == np.uint8
    assert frame.palette[:2].tolist() == [[10, 20, 30], [40, 50, 60]]


def test_black_and_white_is_gray(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[True, False]])).save(path)
    assert read_frame(path, of_colour(Colour.GRAY)).pixels.tolist() == [[255, 0]]


def test_gray_of_16_bits_is_read_where_the_contract_says_so(tmp_path: Path) -> None:
    pixels = np.array([[0, 1, 65_535]], np.uint16)
    frame = read_frame(png(tmp_path / "deep.png", pixels), of_colour(Colour.GRAY, bits=16))
    assert frame.pixels.dtype == np.uint16
    np.testing.assert_array_equal(frame.pixels, pixels)


def test_turn_that_a_camera_noted_comes_with_the_frame(tmp_path: Path) -> None:
    pixels = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6  # show it a quarter clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=turned)
    frame = read_frame(tmp_path / "turned.png", of_colour(Colour.GRAY))
    assert frame.orientation == 6
    np.testing.assert_array_equal(frame.pixels, pixels)
    fitted = fit_frame(frame, image_contract(1, 3, 2))
    np.testing.assert_array_equal(fitted, np.rot90(pixels, -1))


def test_jpeg_is_what_pillow_decodes(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    with Image.open(path) as image:
        expected = np.asarray(image)
    np.testing.assert_array_equal(read_frame(path, of_colour(Colour.RGB)).pixels, expected)


@pytest.mark.parametrize(
    ("mode", "colour"),
    [
        ("RGBA", Colour.RGB),
        ("LA", Colour.GRAY),
        ("L", Colour.PALETTE),
        ("RGB", Colour.YBR),
    ],
)
def test_colours_that_are_not_the_contracts_are_refused(
    tmp_path: Path, mode: str, colour: Colour
) -> None:
    path = tmp_path / "a.png"
    Image.new(mode, (4, 4)).save(path)
    assert refusal(path, of_colour(colour)) == f"pixels are {mode}, not {colour}. {OWN_COLOUR}"


def test_colour_is_no_gray_unless_all_its_channels_are_equal(tmp_path: Path) -> None:
    gray = np.arange(16, dtype=np.uint8).reshape(4, 4)
    colours = Image.fromarray(np.stack([gray, gray, gray], axis=-1))
    indices = Image.fromarray(gray).convert("P")
    for image in (colours, indices):
        path = tmp_path / f"{image.mode}.png"
        image.save(path)
        np.testing.assert_array_equal(read_frame(path, of_colour(Colour.GRAY)).pixels, gray)
    colours.putpixel((2, 1), (6, 6, 7))
    indices.putpalette([7 if place == 18 else place // 3 for place in range(768)])
    for image in (colours, indices):
        path = tmp_path / f"{image.mode}.png"
        image.save(path)
        problem = f"pixels are {image.mode}, not gray. {OWN_COLOUR}"
        assert refusal(path, of_colour(Colour.GRAY)) == problem


def test_alpha_channel_that_hides_nothing_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGBA", (4, 4), (1, 2, 3, 255)).save(path)
    expected = np.broadcast_to(np.array([1, 2, 3], np.uint8), (4, 4, 3))
    np.testing.assert_array_equal(read_frame(path, of_colour(Colour.RGB)).pixels, expected)


def test_transparent_pixels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (4, 4)).save(path, transparency=0)
    assert refusal(path, of_colour(Colour.GRAY)) == f"pixels are L, not gray. {OWN_COLOUR}"


def test_gray_image_of_another_depth_is_refused(tmp_path: Path) -> None:
    deep = png(tmp_path / "deep.png", np.full((4, 4), 1000, np.uint16))
    assert refusal(deep, of_colour(Colour.GRAY)) == (
        f"pixels are I;16B; the contract says gray of 8 bits. {ONLY_GRAY}"
    )
    flat = png(tmp_path / "flat.png", np.full((4, 4), 9, np.uint8))
    assert refusal(flat, of_colour(Colour.GRAY, bits=16)) == (
        f"pixels are L; the contract says gray of 16 bits. {ONLY_GRAY}"
    )


@pytest.mark.parametrize("bits", [8, 16])
def test_colour_image_of_16_bits_is_refused(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "deep.png"
    path.write_bytes(colour_png_of_16_bits())
    with Image.open(path) as image:
        # Why the mode alone is not enough: Pillow calls it 8-bit and drops the low bytes.
        assert image.mode == "RGB"
    assert refusal(path, of_colour(Colour.RGB, bits=bits)) == (
        f"pixels are RGB;16B; the contract says rgb of {bits} bits. {ONLY_GRAY}"
    )


def colour_png_of_16_bits() -> bytes:
    """Return one pixel of a depth that Pillow cannot write itself."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    row = b"\0" + struct.pack(">3H", 300, 300, 300)
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(row)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "BMP"])
def test_truncated_image_is_refused(tmp_path: Path, format_: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    whole = io.BytesIO()
    Image.fromarray(pixels).save(whole, format_)
    path = tmp_path / "cut"
    path.write_bytes(whole.getvalue())
    assert read_frame(path, of_colour(Colour.GRAY)).pixels.shape == (32, 32)
    path.write_bytes(whole.getvalue()[: len(whole.getvalue()) * 2 // 3])
    with pytest.raises(DataError, match=f"^{path}: is not a readable image: .*truncated"):
        read_frame(path, of_colour(Colour.GRAY))


def test_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("not an image")
    with pytest.raises(DataError, match=f"^{path}: is not a readable image: cannot identify"):
        read_frame(path, of_colour(Colour.GRAY))


def test_damaged_image_is_decoded_or_refused_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "damaged.png"
    rng = np.random.default_rng(1)
    whole = png(path, rng.integers(0, 256, (5, 6, 3), np.uint8)).read_bytes()
    resized = of_colour(Colour.RGB).model_copy(update={"resize": Resize(mode=ResizeMode.AREA)})
    outcomes: set[object] = set()
    for _ in range(200):
        content = bytearray(whole)
        for place in rng.integers(len(content), size=2):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            outcomes.add(fit_frame(read_frame(path, resized), resized).shape)
        except DataError:
            outcomes.add("refused")
    assert outcomes == {(4, 4), "refused"}


def test_header_that_pillow_calls_a_wrong_value_is_refused(tmp_path: Path) -> None:
    path = png(tmp_path / "short.png", np.zeros((2, 2), np.uint8))
    content = bytearray(path.read_bytes())
    content[8:12] = struct.pack(">I", 5)  # an IHDR of 5 bytes
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{path}: is not a readable image: Truncated IHDR"):
        read_frame(path, of_colour(Colour.GRAY))
