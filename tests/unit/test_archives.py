import io
import zipfile

from hypothesis import given
from hypothesis import strategies as st

from packager.archives import zip_bytes

NAMES = st.from_regex(r"[a-z][a-z0-9.]{0,8}", fullmatch=True)


@given(st.dictionaries(NAMES, st.binary(max_size=100), max_size=5))
def test_what_is_written_is_read_back_and_order_makes_no_difference(
    files: dict[str, bytes],
) -> None:
    archive = zip_bytes(files)
    assert zip_bytes(dict(reversed(files.items()))) == archive
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert {name: opened.read(name) for name in opened.namelist()} == files
        assert {entry.date_time for entry in opened.infolist()} <= {(1980, 1, 1, 0, 0, 0)}
