import importlib.util
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from packager.cache import Cache
from packager.devices.kit import Kit, open_kit
from packager.errors import MissingToolError

REPOSITORY = Path(__file__).parent.parent

# The same examples in every run, and no limit on the time of one: a busy machine is no fault.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="rewrite tests/golden/")


def missing(what: str, remedy: str) -> None:
    """Fail in CI, skip on a laptop: a check that did not run must never look like a pass."""
    message = f"{what} is not here. {remedy}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message, allow_module_level=True)


def require_package(module: str, extra: str) -> None:
    if importlib.util.find_spec(module) is None:
        missing(f"the Python package {module}", f"pip install 'packager[{extra}]'")


def require_program(program: str, remedy: str) -> str:
    found = shutil.which(program)
    if found is None:
        missing(f"the program {program}", remedy)
    return str(found)


def require_kit() -> Kit:
    """Return the device kit of this machine."""
    try:
        return open_kit()
    except MissingToolError as error:
        missing("the device kit", str(error))
        raise


def real_data(name: str) -> Path:
    """Return a folder of the real test data, which is never part of the repository."""
    root = Path(os.environ.get("PACKAGER_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (root / name).is_dir():
        missing(
            f"the test data {root / name}", "Set PACKAGER_TEST_DATA to the folder that holds it."
        )
    return root / name


@pytest.fixture(autouse=True)
def ctrl_c_is_heard() -> Iterator[None]:
    """Let tests interrupt themselves, also where a shell started them in the background."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")
