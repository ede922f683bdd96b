import stat
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packager.devices import initramfs
from packager.devices.initramfs import Entry, archive, character_device, file, folder, link

PART = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=9)
NAME = (
    st.lists(PART.filter(lambda part: part not in (".", "..")), min_size=1, max_size=3)
    .map("/".join)
    .filter(lambda name: name != initramfs.TRAILER)
)
PERMISSIONS = st.integers(0, 0o7777)


@dataclass(frozen=True)
class Header:
    """An entry as the kernel reads it, by the positions of its documentation."""

    name: str
    number: int
    mode: int
    content: bytes
    device: tuple[int, int] = (0, 0)
    uid: int = 0
    gid: int = 0
    links: int = 1
    mtime: int = 0
    check: int = 0


def read(raw: bytes) -> list[Header]:
    """Read an archive as the kernel does, and see that it ends where its trailer does."""
    found: list[Header] = []
    place = 0
    while True:
        assert raw[place : place + 6] == b"070701"
        fields = [int(raw[place + 6 + 8 * i : place + 14 + 8 * i], 16) for i in range(13)]
        name_end = place + 110 + fields[11]
        name = raw[place + 110 : name_end]
        assert name.endswith(b"\0")
        start = name_end + -name_end % 4
        end = start + fields[6]
        place = end + -end % 4
        if name == b"TRAILER!!!\0":
            assert place == len(raw)
            return found
        found.append(
            Header(
                name=name[:-1].decode(),
                number=fields[0],
                mode=fields[1],
                uid=fields[2],
                gid=fields[3],
                links=fields[4],
                mtime=fields[5],
                device=(fields[9], fields[10]),
                check=fields[12],
                content=raw[start:end],
            )
        )


def test_each_kind_of_entry_is_written_as_the_kernel_reads_it() -> None:
    written = archive(
        {
            "init": file(b"#!/bin/sh\n", permissions=0o700),
            "bin/sh": link("busybox"),
            "work": folder(permissions=0o777),
            "dev/console": character_device(5, 1, permissions=0o600),
        }
    )
    assert read(written) == [
        Header("bin", 1, stat.S_IFDIR | 0o755, b""),
        Header("bin/sh", 2, stat.S_IFLNK | 0o777, b"busybox"),
        Header("dev", 3, stat.S_IFDIR | 0o755, b""),
        Header("dev/console", 4, stat.S_IFCHR | 0o600, b"", device=(5, 1)),
        Header("init", 5, stat.S_IFREG | 0o700, b"#!/bin/sh\n"),
        Header("work", 6, stat.S_IFDIR | 0o777, b""),
    ]


def test_archive_of_one_file_is_this_to_the_byte() -> None:
    # The positions and the padding by hand, so that reader and writer cannot agree on a mistake.
    assert archive({"a": file(b"hello", permissions=0o644)}) == (
        b"070701" b"00000001" b"000081A4" b"00000000" b"00000000" b"00000001" b"00000000"
        b"00000005" b"00000000" b"00000000" b"00000000" b"00000000" b"00000002" b"00000000"
        b"a\0" b"hello\0\0\0"
        b"070701" b"00000000" b"00000000" b"00000000" b"00000000" b"00000001" b"00000000"
        b"00000000" b"00000000" b"00000000" b"00000000" b"00000000" b"0000000B" b"00000000"
        b"TRAILER!!!\0\0\0\0"
    )  # fmt: skip


@given(contents=st.dictionaries(NAME, st.tuples(PERMISSIONS, st.binary(max_size=40)), max_size=6))
def test_what_is_written_is_read_back(contents: dict[str, tuple[int, bytes]]) -> None:
    entries = {name: file(data, permissions=mode) for name, (mode, data) in contents.items()}
    if any(other.startswith(f"{name}/") for name in entries for other in entries):
        with pytest.raises(ValueError, match="which is no folder"):
            archive(entries)
        return
    read_back = [header for header in read(archive(entries)) if stat.S_ISREG(header.mode)]
    assert {h.name: (stat.S_IMODE(h.mode), h.content) for h in read_back} == contents


@given(data=st.data(), names=st.lists(NAME, unique=True, max_size=6))
def test_order_in_which_entries_are_given_changes_no_byte(
    data: st.DataObject, names: list[str]
) -> None:
    shuffled = data.draw(st.permutations(names))
    one, other = ({n: folder(permissions=0o700) for n in order} for order in (names, shuffled))
    assert archive(one) == archive(other)


@given(names=st.lists(NAME, unique=True, max_size=6))
def test_folder_comes_before_what_it_holds_and_nothing_comes_twice(names: list[str]) -> None:
    headers = read(archive({name: folder(permissions=0o700) for name in names}))
    order = [header.name for header in headers]
    assert len(set(order)) == len(order)
    assert [header.number for header in headers] == list(range(1, len(order) + 1))
    for place, name in enumerate(order):
        parent = name.rpartition("/")[0]
        assert not parent or parent in order[:place]


def test_given_folder_keeps_its_permissions() -> None:
    headers = read(archive({"a/b": link("c"), "a": folder(permissions=0o700)}))
    assert [(h.name, stat.S_IMODE(h.mode)) for h in headers] == [("a", 0o700), ("a/b", 0o777)]


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "/init", "a/", "a//b", "./a", "a/./b", "../a", "a/../b", "a\0b", "TRAILER!!!"],
)
def test_name_that_is_no_plain_path_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no name for an entry of an initramfs"):
        archive({name: folder(permissions=0o755)})


@pytest.mark.parametrize("outer", [file(b"", permissions=0o644), link("/etc")])
def test_entry_below_something_that_is_no_folder_is_refused(outer: Entry) -> None:
    with pytest.raises(ValueError, match=r"^a/b/c: lies in a, which is no folder$"):
        archive({"a": outer, "a/b/c": folder(permissions=0o755)})


def test_file_that_is_too_large_for_the_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initramfs, "MAX_CONTENT_BYTES", 4)
    assert len(read(archive({"a": file(b"1234", permissions=0o644)}))) == 1
    with pytest.raises(ValueError, match=r"^a: holds more than 4 bytes$"):
        archive({"a": file(b"12345", permissions=0o644)})
