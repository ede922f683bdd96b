"""Take the picture of a report that the README shows: `python -m tests.screenshot_report DIR PNG`.

DIR is what `packager build` wrote. Needs Debian's package chromium and the `dev` extra.
"""

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH_PX, HEIGHT_PX = 1280, 1360
# Chromium's own PNG is twice the size; a page of flat colours needs no more than these.
COLOURS = 128


def take(report: Path, picture: Path) -> None:
    """Write the top of the page as a PNG."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = chromium.new_page(
            viewport={"width": WIDTH_PX, "height": HEIGHT_PX}, color_scheme="light"
        )
        page.goto(report.resolve().as_uri())
        page.screenshot(path=picture)
        chromium.close()
    with Image.open(picture) as image:
        image.convert("RGB").quantize(COLOURS).save(picture, optimize=True)


if __name__ == "__main__":
    take(Path(sys.argv[1]) / "report.html", Path(sys.argv[2]))
