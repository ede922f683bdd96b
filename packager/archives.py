"""Write zip archives of which the same files give the same bytes."""

import io
import zipfile
from collections.abc import Mapping

# The earliest moment that a zip archive can state: the true one would change the bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)
DEFLATE_LEVEL = 9
PLAIN_FILE = 0o100644 << 16
UNIX = 3


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """Return an archive of files by name, in the order of their names."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = UNIX
            entry.external_attr = PLAIN_FILE
            archive.writestr(entry, data, compresslevel=DEFLATE_LEVEL)
    return stream.getvalue()
