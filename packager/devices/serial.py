r"""Read the files that an emulated machine sends over its serial port.

`packager/devices/init.sh` writes them there. Each line that is not content begins with a key
that only the machine's first process was told:

    KEY started
    KEY file NAME LENGTH SHA256     the name in hexadecimal, the length in bytes, and the
                                    SHA-256 of name, line break and content
    ...                             the content by gzip in base64, on as many lines as it takes
    KEY end COUNT                   of the files

Nothing else belongs on that port, so whatever else arrives is damage.
"""

import base64
import hashlib
import re
import zlib

FILE = re.compile(rb"file ((?:[0-9a-f]{2})+) ([0-9]{1,10}) ([0-9a-f]{64})")
MAX_FILE_BYTES = 256 * 2**20
GZIP = 31
"""What zlib calls the format of gzip, with the largest window."""
END = re.compile(rb"end ([0-9]{1,6})")


def has_started(raw: bytes, *, key: str) -> bool:
    """Tell whether the machine came as far as to start its program."""
    return raw.startswith(f"{key} started\n".encode())


def received(raw: bytes, *, key: str) -> dict[str, bytes]:
    """Return the content of each file by its name, in the order in which they came.

    Raises:
        ValueError: Something is missing, damaged, there twice, or no part of a file.
    """
    if not has_started(raw, key=key):
        raise ValueError("it does not begin with the key and 'started'")
    if not raw.endswith(b"\n"):
        raise ValueError("its last line is cut off")
    opening = f"{key} ".encode()
    headers, content = _frames(raw.split(b"\n")[1:-1], opening)
    if not headers or END.fullmatch(headers[-1]) is None or content[-1]:
        raise ValueError("it does not end with the number of files")
    files: dict[str, bytes] = {}
    for header, lines in zip(headers[:-1], content[:-1], strict=True):
        name, data = _file(header, lines)
        if name in files:
            raise ValueError(f"the file {name!r} is there twice")
        files[name] = data
    if headers[-1] != b"end %d" % len(files):
        raise ValueError(f"it says {headers[-1].decode()!r} after {len(files)} files")
    return files


def _frames(lines: list[bytes], opening: bytes) -> tuple[list[bytes], list[list[bytes]]]:
    """Return each line with the key, less the key, and beside it the lines that follow it."""
    headers: list[bytes] = []
    content: list[list[bytes]] = []
    for line in lines:
        if line.startswith(opening):
            headers.append(line.removeprefix(opening))
            content.append([])
        elif content:
            content[-1].append(line)
        else:
            raise ValueError(f"its second line is no part of a file: {line[:80]!r}")
    return headers, content


def _file(header: bytes, lines: list[bytes]) -> tuple[str, bytes]:
    said = FILE.fullmatch(header)
    if said is None:
        raise ValueError(f"it has a line with the key that is no file's: {header[:120]!r}")
    try:
        name = bytes.fromhex(said[1].decode()).decode()
    except UnicodeDecodeError:
        raise ValueError(f"the name {said[1].decode()} is no text") from None
    try:
        data = _unpacked(
            base64.b64decode(b"".join(lines), validate=True), length_bytes=int(said[2])
        )
    except ValueError as error:
        raise ValueError(f"the file {name!r} is damaged: {error}") from None
    if hashlib.sha256(name.encode() + b"\n" + data).hexdigest() != said[3].decode():
        raise ValueError(f"the file {name!r} is damaged: its SHA-256 is another")
    return name, data


def _unpacked(packed: bytes, *, length_bytes: int) -> bytes:
    if length_bytes > MAX_FILE_BYTES:
        raise ValueError(f"it has {length_bytes} bytes, and {MAX_FILE_BYTES} can be kept")
    unpacker = zlib.decompressobj(wbits=GZIP)
    try:
        # One byte more than there may be, so that the end is seen, and no more than that.
        data = unpacker.decompress(packed, length_bytes + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(data) != length_bytes or not unpacker.eof or unpacker.unused_data:
        raise ValueError(f"it has not {length_bytes} bytes")
    return data
