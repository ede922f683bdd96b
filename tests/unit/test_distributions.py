import importlib
import platform
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from packager.artifacts import Runtime
from packager.distributions import Distribution, built_with, extra_for
from packager.errors import MissingToolError

METADATA = {
    "packager": """\
Requires-Dist: Torch_Core==2.0
Requires-Dist: on-windows; sys_platform == "win32"
Requires-Dist: phone; extra == "android"
Requires-Dist: handheld[fast]; extra == "litert"
Requires-Dist: packager[litert]; extra == "micro"
Requires-Dist: tiny; extra == "micro"
Requires-Dist: tester; extra == "dev"
Provides-Extra: android
Provides-Extra: litert
Provides-Extra: micro
Provides-Extra: dev
""",
    "torch-core": "Requires-Dist: maths>=1\n",
    "maths": "Requires-Dist: torch-core\n",  # a circle
    "phone": "Requires-Dist: maths\nRequires-Dist: not-installed\n",
    "handheld": 'Requires-Dist: quick; extra == "fast"\nRequires-Dist: slow; extra == "lean"\n',
    "quick": "",
    "slow": "",
    "tiny": "",
    "tester": "",
    "on-windows": "",
    "bystander": "",
}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let an environment hold the distributions above, each in version 1 and a number."""
    for number, (name, requirements) in enumerate(METADATA.items()):
        place = tmp_path / f"{name.replace('-', '_')}-1.{number}.dist-info"
        place.mkdir()
        header = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.{number}\n"
        (place / "METADATA").write_text(header + requirements)
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    importlib.invalidate_caches()
    yield tmp_path
    importlib.invalidate_caches()


def names(found: tuple[Distribution, ...]) -> list[str]:
    return [distribution.name for distribution in found]


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [
        (Runtime.EXECUTORCH, ["phone"]),
        (Runtime.LITERT, ["handheld", "quick"]),
        (Runtime.TFLITE_MICRO, ["handheld", "quick", "tiny"]),
        (Runtime.TFLITE_LEGACY, ["handheld", "quick", "tflite-runtime"]),
    ],
)
@pytest.mark.usefixtures("installed")
def test_runtime_rests_on_what_it_requires_and_nothing_else(
    runtime: Runtime, expected: list[str]
) -> None:
    always = ["maths", "packager", "python", "torch-core", "zlib"]
    assert names(built_with(runtime)) == sorted(always + expected)


@pytest.mark.usefixtures("installed")
def test_versions_are_exact() -> None:
    found = {d.name: d.version for d in built_with(Runtime.EXECUTORCH)}
    assert found == {
        "maths": "1.2",
        "packager": "1.0",
        "phone": "1.3",
        "python": platform.python_version(),
        "torch-core": "1.1",
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
    }


def test_program_that_is_not_installed_says_how_to_install_it(
    installed: Path,
) -> None:
    (installed / "packager-1.0.dist-info").rename(installed / "elsewhere")
    importlib.invalidate_caches()
    with pytest.raises(MissingToolError, match=r"pip install -e \."):
        built_with(Runtime.LITERT)


@pytest.mark.parametrize("runtime", Runtime)
def test_every_runtime_has_an_extra_of_this_package(runtime: Runtime) -> None:
    from tests.conftest import REPOSITORY

    assert f"\n{extra_for(runtime)} = [" in (REPOSITORY / "pyproject.toml").read_text()
