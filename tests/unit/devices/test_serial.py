import base64
import gzip
import hashlib
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packager.devices import serial
from packager.devices.serial import received

KEY = "0123456789abcdef" * 2
OTHER_KEY = "f" * 32
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
FILES = st.dictionaries(NAMES, st.binary(max_size=200), max_size=4)


def lines(name: str, data: bytes, key: str = KEY) -> bytes:
    """Return a file as `init.sh` sends it."""
    digest = hashlib.sha256(name.encode() + b"\n" + data).hexdigest()
    header = f"{key} file {name.encode().hex()} {len(data)} {digest}\n".encode()
    content = textwrap.wrap(base64.b64encode(gzip.compress(data, mtime=0)).decode(), 76)
    return header + b"".join(f"{line}\n".encode() for line in content)


def sent(files: dict[str, bytes], key: str = KEY) -> bytes:
    body = b"".join(lines(name, data, key) for name, data in files.items())
    return f"{key} started\n".encode() + body + f"{key} end {len(files)}\n".encode()


def refusal(raw: bytes) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the message is what is tested
        received(raw, key=KEY)
    return str(caught.value)


@given(files=FILES)
def test_what_is_sent_is_received(files: dict[str, bytes]) -> None:
    assert received(sent(files), key=KEY) == files
    assert serial.has_started(sent(files), key=KEY)


@given(files=FILES, data=st.data())
def test_nothing_cut_off_is_received(files: dict[str, bytes], data: st.DataObject) -> None:
    raw = sent(files)
    cut = data.draw(st.integers(0, len(raw) - 1))
    refusal(raw[:cut])


@given(files=FILES, noise=st.binary(min_size=1, max_size=30), data=st.data())
def test_files_that_noise_fell_into_are_never_other_files(
    files: dict[str, bytes], noise: bytes, data: st.DataObject
) -> None:
    raw = sent(files)
    place = data.draw(st.integers(0, len(raw)))
    try:
        got = received(raw[:place] + noise + raw[place:], key=KEY)
    except ValueError:
        return
    # A line break inside base64 changes nothing, for example.
    assert got == files


@given(raw=st.binary(max_size=300))
def test_noise_alone_is_refused(raw: bytes) -> None:
    refusal(raw)
    refusal(f"{KEY} started\n".encode() + raw)


def test_machine_that_sent_nothing_is_refused() -> None:
    assert refusal(b"") == "it does not begin with the key and 'started'"
    assert not serial.has_started(b"", key=KEY)


def test_files_of_another_key_are_refused() -> None:
    assert refusal(sent({"a": b"1"}, OTHER_KEY)) == "it does not begin with the key and 'started'"


def with_content(packed: bytes, *, length_bytes: int = 99) -> bytes:
    """Return a file of 99 zero bytes, or what is said to be that, with another content."""
    header = lines("a", bytes(99)).split(b"\n")[0].replace(b" 99 ", b" %d " % length_bytes)
    content = base64.b64encode(packed)
    return f"{KEY} started\n".encode() + header + b"\n" + content + f"\n{KEY} end 1\n".encode()


def test_kernel_message_in_a_file_is_refused() -> None:
    raw = sent({"a": bytes(range(100))})
    broken = raw.replace(b"\nH4s", b"\n[    1.234567] random: crng\nH4s", 1)
    assert broken != raw
    assert refusal(broken).startswith("the file 'a' is damaged: ")


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(bytes(98)),
        gzip.compress(bytes(100)),
        gzip.compress(bytes(10_000_000)),
        gzip.compress(bytes(99)) + b"more",
        gzip.compress(bytes(99))[:-1],
        b"",
    ],
)
def test_content_of_another_length_is_refused(packed: bytes) -> None:
    assert refusal(with_content(packed)) == "the file 'a' is damaged: it has not 99 bytes"


def test_content_that_is_not_packed_is_refused() -> None:
    said = "the file 'a' is damaged: Error -3 while decompressing data: incorrect header check"
    assert refusal(with_content(bytes(99))) == said


def test_file_that_is_too_large_to_keep_is_refused() -> None:
    raw = with_content(b"", length_bytes=2**28 + 1)
    said = "the file 'a' is damaged: it has 268435457 bytes, and 268435456 can be kept"
    assert refusal(raw) == said


def test_changed_content_is_refused() -> None:
    raw = with_content(gzip.compress(bytes(98) + b"1"))
    assert refusal(raw) == "the file 'a' is damaged: its SHA-256 is another"


def test_changed_name_is_refused() -> None:
    raw = sent({"a": b"1"}).replace(b"file 61 ", b"file 62 ")
    assert refusal(raw) == "the file 'b' is damaged: its SHA-256 is another"


def test_frame_that_a_program_forged_with_a_guessed_key_is_part_of_the_content() -> None:
    forged = lines("stdout", b"all is well", OTHER_KEY) + f"{OTHER_KEY} end 1\n".encode()
    assert received(sent({"stdout": forged}), key=KEY) == {"stdout": forged}
    # Were it to reach the port as it is, it would damage the file that it fell into.
    raw = sent({"stdout": b"failed"}).replace(f"{KEY} end".encode(), forged + f"{KEY} end".encode())
    assert refusal(raw).startswith("the file 'stdout' is damaged: ")


def test_line_between_the_start_and_the_first_file_is_refused() -> None:
    raw = sent({"a": b"1"}).replace(b"started\n", b"started\nhello\n")
    assert refusal(raw) == "its second line is no part of a file: b'hello'"


def test_file_that_is_there_twice_is_refused() -> None:
    one = lines("a", b"1")
    raw = sent({"a": b"1"}).replace(one, one + lines("a", b"2"))
    assert refusal(raw) == "the file 'a' is there twice"


@pytest.mark.parametrize("end", ["end 1", "end 3", "end 02"])
def test_wrong_number_of_files_is_refused(end: str) -> None:
    raw = sent({"a": b"1", "b": b"2"}).replace(b"end 2", end.encode())
    assert refusal(raw) == f"it says {end!r} after 2 files"


@pytest.mark.parametrize("tail", ["", "file 61 1", "end", "end -1", "end 1 "])
def test_missing_number_of_files_is_refused(tail: str) -> None:
    raw = sent({"a": b"1"}).replace(b"end 1", tail.encode())
    assert refusal(raw) == "it does not end with the number of files"


@pytest.mark.parametrize("after", [b"\n", b"more\n", b"\0\n"])
def test_line_after_the_end_is_refused(after: bytes) -> None:
    assert refusal(sent({"a": b"1"}) + after) == "it does not end with the number of files"


def test_last_line_without_its_end_is_refused() -> None:
    assert refusal(sent({"a": b"1"})[:-1]) == "its last line is cut off"


@pytest.mark.parametrize(
    "header",
    [
        b"file",
        b"file 6 1 " + b"0" * 64,
        b"file 61 -1 " + b"0" * 64,
        b"file 61 1 " + b"0" * 63,
        b"file 61 99999999999 " + b"0" * 64,
        b"started",
        b"end 0",
    ],
)
def test_line_with_the_key_that_is_no_files_is_refused(header: bytes) -> None:
    raw = sent({"a": b"1"}).replace(lines("a", b"1"), KEY.encode() + b" " + header + b"\n")
    assert refusal(raw) == f"it has a line with the key that is no file's: {header!r}"


def test_name_that_is_no_text_is_refused() -> None:
    raw = sent({"a": b"1"}).replace(b"file 61 ", b"file ff ")
    assert refusal(raw) == "the name ff is no text"
