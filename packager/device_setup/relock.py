"""Write the lock anew: `make lock-device`, for whoever maintains packager.

Debian packages are taken as the archive has them now. Wheels stay as they are: their
versions are those of `pyproject.toml`, and are edited by hand with their SHA-256.
"""

import json
import tempfile
from pathlib import Path

from packager.cache import encode
from packager.device_setup import lock, parts
from packager.device_setup.lock import Lock, PinnedDeb
from packager.storage import write_whole

RELEASE = "bookworm"


def renewed(old: Lock) -> Lock:
    """Return a lock that names what Debian's archive has now.

    Raises:
        ToolError: Something cannot be had.
    """
    with tempfile.TemporaryDirectory() as name:
        stage, downloads = Path(name) / "kit", Path(name) / "downloads"
        stage.mkdir()
        fetched = list(parts.fetch(stage, downloads, old, private=True))
        debs = {deb for part in fetched for deb in part.debs}
        pinned = {
            PinnedDeb(
                name=deb.name, architecture=deb.architecture,
                version=deb.version, sha256=deb.sha256, size_bytes=deb.size_bytes,
            )
            for deb in debs
        }  # fmt: skip
    in_order = sorted(pinned, key=lambda deb: (deb.architecture, deb.name))
    return Lock(release=RELEASE, debian=tuple(in_order), wheels=old.wheels)


def main() -> None:
    """Renew the lock in place."""
    new = renewed(lock.read())
    write_whole(lock.PLACE, (json.dumps(encode(new), indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
