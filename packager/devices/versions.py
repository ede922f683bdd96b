"""Ask programs for their version."""

import re
from pathlib import Path

from packager import tools
from packager.errors import ToolError

ASK_TIMEOUT_S = 10


def version_of(program: Path) -> str:
    """Return what a program says after the word `version`, such as `7.2.22`.

    Raises:
        MissingToolError: There is no such program.
        ToolError: It does not say.
    """
    asked = tools.run_checked([program, "--version"], timeout_s=ASK_TIMEOUT_S)
    printed = asked.stdout.decode(errors="replace")
    found = re.search(r"version (\d+(?:\.\d+)*)", printed)
    if found is None:
        shown = printed[: tools.SHOWN_BYTES].strip()
        raise ToolError(program.name, "does not say its version", printed=shown)
    return found[1]
