from pathlib import Path

import pytest

from packager.devices import Mark, plugin
from packager.errors import ToolError
from packager.validations import SimdCount

LINE = b'{"tag":20,"exact":true,"instructions":12,"simd":{"sdot":3,"load":4}}\n'
END = b'{"end":1}\n'


def test_marks_are_what_the_plugin_wrote() -> None:
    simd = (SimdCount(name="sdot", instructions=3), SimdCount(name="load", instructions=4))

    assert plugin.marks(LINE + END, ended_by_itself=True) == (
        Mark(tag=20, exact=True, instructions=12, simd=simd),
    )


def test_a_program_without_markers_has_no_marks() -> None:
    assert plugin.marks(b'{"end":0}\n', ended_by_itself=True) == ()


def test_a_program_that_a_signal_killed_has_no_end() -> None:
    assert [mark.tag for mark in plugin.marks(LINE, ended_by_itself=False)] == [20]


def test_a_forked_child_adds_marks_that_the_end_does_not_count() -> None:
    assert len(plugin.marks(LINE + LINE + END, ended_by_itself=True)) == 2


@pytest.mark.parametrize("record", [b"", LINE, END, LINE + END + END], ids=repr)
def test_a_record_that_is_not_whole_is_an_error(record: bytes) -> None:
    with pytest.raises(ToolError, match=r"wrote a record of \d marks without its end"):
        plugin.marks(record, ended_by_itself=True)


@pytest.mark.parametrize(
    "line",
    [b"{", b"[]\n", b'"tag"\n', b'{"tag":20}\n', LINE.replace(b"12", b'"12"'), b"\xff\n",
     LINE.replace(b"true", b"1")],
)  # fmt: skip
def test_a_line_that_is_not_the_plugins_is_an_error(line: bytes) -> None:
    with pytest.raises(ToolError, match=r"count\.c wrote a record that cannot be read"):
        plugin.marks(line + END, ended_by_itself=True)


def test_a_comma_in_a_path_does_not_end_it() -> None:
    option = plugin.option(Path("/a,b/count.so"), Path("/c,d/marks"))

    assert option == "/a,,b/count.so,out=/c,,d/marks"
