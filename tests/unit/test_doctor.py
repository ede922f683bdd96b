from pathlib import Path

import pytest

from packager import doctor
from packager.doctor import Tool
from packager.errors import MissingToolError
from tests.conftest import REPOSITORY

METADATA = """\
Metadata-Version: 2.4
Name: packager
Version: 9.8.7
Requires-Dist: present-core>=2
Requires-Dist: old-core>=2
Requires-Dist: other-platform; sys_platform == "nowhere"
Requires-Dist: this-python; python_version >= "3"
Provides-Extra: android
Requires-Dist: pinned==1.5.1; extra == "android"
Requires-Dist: absent==0.18.0; extra == "android"
Provides-Extra: demo
Requires-Dist: packager[android]; extra == "demo"
Requires-Dist: pinned==1.5.1; extra == "demo"
Provides-Extra: litert
Requires-Dist: pinned==1.5.1; extra == "litert"
Provides-Extra: dev
Requires-Dist: linter; extra == "dev"
"""


def install(folder: Path, name: str, version: str, metadata: str = "") -> None:
    """Put a distribution that holds nothing but its metadata into `folder`."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    plain = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n"
    (info / "METADATA").write_text(metadata or plain, "utf-8")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder of installed packages the first place where they are looked for."""
    install(tmp_path, "packager", "9.8.7", METADATA)
    install(tmp_path, "present-core", "2.1rc1")
    install(tmp_path, "old-core", "1.9")
    install(tmp_path, "this-python", "3.0rc1")
    # The CPU build of torch has such a version, and is what `==1.5.1` asks for.
    install(tmp_path, "pinned", "1.5.1+cpu")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_every_package_is_listed_once_with_what_was_found(site: Path) -> None:
    assert site.is_dir()
    assert doctor.examine() == (
        Tool(
            name="present-core",
            needed_for=("core",),
            wanted=">=2",
            found="2.1rc1",
            usable=True,
            remedy="",
        ),
        Tool(
            name="old-core",
            needed_for=("core",),
            wanted=">=2",
            found="1.9",
            usable=False,
            remedy="pip install 'packager'",
        ),
        Tool(
            name="this-python",
            needed_for=("core",),
            wanted="",
            found="3.0rc1",
            usable=True,
            remedy="",
        ),
        Tool(
            name="pinned",
            needed_for=("android", "litert"),
            wanted="==1.5.1",
            found="1.5.1+cpu",
            usable=True,
            remedy="",
        ),
        Tool(
            name="absent",
            needed_for=("android",),
            wanted="==0.18.0",
            found=None,
            usable=False,
            remedy="pip install 'packager[android]'",
        ),
    )


def test_a_missing_extra_does_not_keep_the_core_from_being_ready(site: Path) -> None:
    tools = doctor.examine()
    assert doctor.exit_code(tools) == MissingToolError.exit_code
    (site / "old_core-1.9.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: old-core\nVersion: 2.0\n", "utf-8"
    )
    assert doctor.exit_code(doctor.examine()) == 0


def test_version_is_that_of_the_installed_package(site: Path) -> None:
    assert site.is_dir()
    assert doctor.version() == "9.8.7"


def test_a_checkout_that_was_never_installed_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DISTRIBUTION", "no-such-distribution")
    for look in (doctor.version, doctor.examine):
        with pytest.raises(MissingToolError) as caught:
            look()
        assert str(caught.value) == (
            "This command needs 'no-such-distribution', which is not installed. "
            "In its folder: pip install -e ."
        )


def test_the_lock_pins_torch_for_every_machine() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
    assert "torch==2.13.0" in lines
    assert [line for line in lines if line.count("==") != 1 or "+" in line] == []
