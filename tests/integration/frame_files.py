"""PNG and DICOM files of every kind that the handheld's program reads, and of some it refuses."""

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
)

from packager.contract.images import EXIF_ORIENTATION

Pixels = npt.NDArray[np.generic]

SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless)
"""Those that are read."""
ADAM7 = (
    (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
    (1, 0, 2, 1),
)  # fmt: skip
"""First row, first column and the steps of each pass of an interlaced PNG."""


def noise(*shape: int, bits: int = 8, seed: int = 0) -> Pixels:
    values = np.random.default_rng(seed).integers(0, 2**bits, shape)
    return values.astype(np.uint16 if bits > 8 else np.uint8)


def write_png(path: Path, image: Image.Image, **chunks: object) -> Path:
    image.save(path, "PNG", **chunks)
    return path


def png_bytes(
    pixels: Pixels, bits: int, *, interlaced: bool, after: tuple[tuple[bytes, bytes], ...] = ()
) -> bytes:
    """Write gray pixels of 1 to 8 bits, row by row or in passes, which Pillow does not.

    Args:
        pixels: (height, width).
        bits: Of a pixel.
        interlaced: In passes.
        after: Chunks behind the pixels, by name.
    """
    rows = []
    for top, left, down, right in ADAM7 if interlaced else ((0, 0, 1, 1),):
        part = pixels[top::down, left::right]
        if part.size:
            digits = np.unpackbits(part[..., np.newaxis].astype(np.uint8), axis=2)[..., -bits:]
            rows += [b"\0" + np.packbits(row.reshape(-1)).tobytes() for row in digits]
    height, width = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, int(interlaced))
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + checksum


def exif(orientation: int) -> bytes:
    """Return a block of EXIF, without the name that JPEG puts before it."""
    block = Image.Exif()
    block[EXIF_ORIENTATION] = orientation
    return block.tobytes()[6:]


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a DICOM object stores its pixels.

    Attributes:
        bits_stored: All of a value's where it is None.
        planar: Plane by plane.
        palette: (entries, 3), of 8 bits.
    """

    syntax: UID = ExplicitVRLittleEndian
    photometric: str = "MONOCHROME2"
    bits_stored: int | None = None
    planar: bool = False
    palette: Pixels | None = None


def write_dicom(path: Path, pixels: Pixels, look: Look | None = None) -> Path:
    """Write frames (frames, rows, columns[, 3]), of 8 or 16 bits."""
    look = look or Look()
    data = _description(pixels, look)
    if look.palette is not None:
        _add_palette(data, look.palette)
    data.PixelData = _content(pixels, look)
    data["PixelData"].VR = "OW" if pixels.dtype.itemsize == 2 else "OB"
    if look.syntax == RLELossless:
        single = pixels[0] if len(pixels) == 1 else pixels
        data.compress(RLELossless, single, generate_instance_uid=False)
    elif look.syntax == ImplicitVRLittleEndian:
        data.file_meta.TransferSyntaxUID = look.syntax
    buffer = BytesIO()
    dcmwrite(buffer, data, enforce_file_format=True)
    content = buffer.getvalue()
    if look.syntax not in SYNTAXES:  # a file that only says that it is compressed
        content = content.replace(_stated(ExplicitVRLittleEndian), _stated(look.syntax))
    path.write_bytes(content)
    return path


def _description(pixels: Pixels, look: Look) -> Dataset:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    nested = Dataset()
    nested.Rows = 7  # of something else: a reader that looks into sequences would take it
    data.SequenceOfUltrasoundRegions = [nested]
    data.SamplesPerPixel = 3 if pixels.ndim == 4 else 1
    data.PhotometricInterpretation = look.photometric
    if pixels.ndim == 4:
        data.PlanarConfiguration = int(look.planar)
    data.NumberOfFrames = len(pixels)
    data.Rows, data.Columns = pixels.shape[1:3]
    data.BitsAllocated = pixels.dtype.itemsize * 8
    data.BitsStored = look.bits_stored or data.BitsAllocated
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = 0
    return data


def _add_palette(data: Dataset, palette: Pixels) -> None:
    for channel, name in enumerate(("Red", "Green", "Blue")):
        setattr(data, f"{name}PaletteColorLookupTableDescriptor", [len(palette), 0, 16])
        entries = palette[:, channel].astype("<u2") << 8
        setattr(data, f"{name}PaletteColorLookupTableData", entries.tobytes())


def _content(pixels: Pixels, look: Look) -> bytes:
    planes = look.planar and pixels.ndim == 4
    content = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2) if planes else pixels).tobytes()
    return content + b"\0" * (len(content) % 2)


def _stated(syntax: str) -> bytes:
    """Return the element of the meta group that states a transfer syntax."""
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    return b"\x02\x00\x10\x00UI" + struct.pack("<H", len(value)) + value
