import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from packager import cache, cli, doctor, errors, pipeline, publish, target
from packager.built import Built
from packager.device_setup import checkup, setup
from packager.device_setup.setup import Wish
from packager.devices.kit import FOLDER_VARIABLE, Kit
from packager.errors import ConfigError, PackagerError
from tests.built_example import example_built
from tests.conftest import REPOSITORY
from tests.recipe_example import RECIPE
from tests.unit.devices import kit_example

COMMANDS = (
    "new",
    "build",
    "targets",
    "doctor",
    "inspect",
    "check-input",
    "code",
    "validate",
    "setup-device",
    "report",
    "explain",
    "schema",
)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


def raising(error: BaseException) -> Callable[..., Built]:
    def attempt(*_args: object, **_options: object) -> Built:
        raise error

    return attempt


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    """Write a recipe that is right, and return its path."""
    path = tmp_path / "packager.toml"
    path.write_text(RECIPE, "utf-8")
    return str(path)


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return example_built(tmp_path)


@pytest.fixture
def succeeded(built: Built, monkeypatch: pytest.MonkeyPatch) -> Built:
    """Make every build end with one target, which is ready."""
    ready = replace(built, targets=built.targets[:1])
    monkeypatch.setattr(pipeline, "attempt", lambda *_args, **_options: ready)
    return ready


def all_errors() -> Iterator[type[PackagerError]]:
    return (
        cls
        for cls in vars(errors).values()
        if isinstance(cls, type) and cls.__base__ is PackagerError
    )


def test_help_names_every_command_with_what_it_does() -> None:
    result = run("--help")
    assert result.exit_code == 0
    listed = re.findall(r"^│ ([a-z-]+) +[A-Z]", result.stdout, re.MULTILINE)
    assert tuple(listed) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_debug_and_says_so(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "--debug" in result.stdout


def test_build_says_the_default_of_each_option() -> None:
    shown = re.findall(r"\[default: ([^\]]*)\]", run("build", "--help").stdout)
    assert shown == ["(all of the recipe's)", "dist", "(fetch them)", ".packager-cache"]


def test_no_command_is_a_usage_error_that_shows_the_help() -> None:
    result = run()
    assert result.exit_code == 2
    assert "Usage:" in result.output


@pytest.mark.parametrize("arguments", [("buidl",), ("build",), ("build", "--no-such-option", "x")])
def test_wrong_usage_exits_with_2_and_leaves_stdout_empty(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr


def test_version_is_printed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda: "1.2.3")
    result = run("--version")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "1.2.3\n", "")


def test_each_error_has_an_exit_code_of_its_own() -> None:
    codes = [cls.exit_code for cls in all_errors()]
    reserved = [0, 1, cli.UNEXPECTED, cli.INTERRUPTED, cli.PIPE_CLOSED]
    assert len(codes) >= 13
    assert len({*codes, *reserved}) == len(codes) + len(reserved)


def test_the_table_of_exit_codes_lists_every_error() -> None:
    page = (REPOSITORY / "docs" / "errors.md").read_text("utf-8")
    listed = dict(re.findall(r"^\| (\d+) \| `(\w+)` \|", page, re.MULTILINE))
    assert listed == {str(cls.exit_code): cls.__name__ for cls in all_errors()}
    others = re.findall(r"^\| (\d+) \| (?!`)", page, re.MULTILINE)
    assert others == ["0", str(cli.UNEXPECTED), str(cli.INTERRUPTED), str(cli.PIPE_CLOSED)]


@pytest.mark.parametrize("cls", list(all_errors()), ids=lambda cls: cls.__name__)
def test_each_error_becomes_one_line_and_its_own_exit_code(
    cls: type[PackagerError], monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    error = errors.error_with(cls.exit_code, "model.py:3: this is wrong. Do that.")
    assert type(error) is cls
    monkeypatch.setattr(pipeline, "attempt", raising(error))
    result = run("build", recipe)
    assert result.exit_code == cls.exit_code
    assert (result.stdout, result.stderr) == ("", "error: model.py:3: this is wrong. Do that.\n")


def test_an_error_with_json_is_an_object_on_stdout_and_a_line_on_stderr(
    monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.setattr(pipeline, "attempt", raising(ConfigError("a.toml", "is wrong.")))
    result = run("build", recipe, "--json")
    assert json.loads(result.stdout) == {
        "error": "ConfigError",
        "message": "a.toml: is wrong.",
        "exit_code": 2,
    }
    assert (result.exit_code, result.stderr) == (2, "error: a.toml: is wrong.\n")


def test_debug_adds_the_traceback_and_keeps_line_and_exit_code(
    monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.setattr(pipeline, "attempt", raising(ConfigError("a.toml", "is wrong.")))
    result = run("build", recipe, "--debug")
    assert result.exit_code == 2
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert result.stderr.endswith("\nerror: a.toml: is wrong.\n")


def test_an_unexpected_error_is_one_line_that_tells_of_debug(
    monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.setattr(pipeline, "attempt", raising(ZeroDivisionError("division by zero")))
    result = run("build", recipe)
    line = "error: unexpected ZeroDivisionError: division by zero. Run again with --debug to see where.\n"
    assert (result.exit_code, result.stdout, result.stderr) == (cli.UNEXPECTED, "", line)


def test_a_missing_package_points_to_the_doctor(
    monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    error = ModuleNotFoundError("No module named 'scipy'", name="scipy")
    monkeypatch.setattr(pipeline, "attempt", raising(error))
    result = run("build", recipe)
    assert result.exit_code == errors.MissingToolError.exit_code
    assert result.stderr == (
        "error: No module named 'scipy'. `packager doctor` says what is missing and how to get it.\n"
    )


def test_ctrl_c_is_one_line_and_130(monkeypatch: pytest.MonkeyPatch, recipe: str) -> None:
    monkeypatch.setattr(pipeline, "attempt", raising(KeyboardInterrupt()))
    result = run("build", recipe)
    line = "error: stopped. Finished steps are kept; run the same command to go on.\n"
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", line)


def test_a_build_prints_its_summary_on_stdout(succeeded: Built, recipe: str) -> None:
    result = run("build", recipe, "--out", "somewhere")
    assert (result.exit_code, result.stderr) == (0, "")
    name = succeeded.targets[0].target.name
    assert result.stdout.splitlines()[-2:] == [f"somewhere/{name}.zip", "somewhere/report.html"]


def test_a_build_with_json_prints_what_build_json_holds(succeeded: Built, recipe: str) -> None:
    result = run("build", recipe, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert cache.decode(Built, json.loads(result.stdout)) == succeeded


def test_a_failed_target_keeps_the_summary_and_gives_its_exit_code(
    built: Built, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.setattr(pipeline, "attempt", lambda *_args, **_options: built)
    result = run("build", recipe)
    failures = [r.failure for r in built.targets if r.failure]
    assert result.exit_code == failures[0].exit_code == errors.ParityError.exit_code
    assert "no bundle: ParityError" in result.stdout
    assert result.stderr == f"error: {failures[0].message}\n{failures[1].message}\n"


def test_what_a_library_prints_during_a_build_does_not_spoil_the_json(
    succeeded: Built, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    def chatty(*_args: object, **_options: object) -> Built:
        print("loading weights")  # noqa: T201
        return succeeded

    monkeypatch.setattr(pipeline, "attempt", chatty)
    result = run("build", recipe, "--json")
    assert cache.decode(Built, json.loads(result.stdout)) == succeeded
    assert result.stderr == "loading weights\n"


def test_build_hands_over_what_was_asked_for(
    succeeded: Built, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    asked: dict[str, object] = {}

    def attempt(_recipe: object, **options: object) -> Built:
        asked.update(options)
        return succeeded

    monkeypatch.setattr(pipeline, "attempt", attempt)
    run(
        "build",
        recipe,
        *["--target", "a", "--target", "b", "--out", "o", "--data-dir", "d", "--cache", "c"],
    )
    assert asked == {
        "only": ("a", "b"),
        "out": Path("o"),
        "data_dir": Path("d"),
        "cache_root": Path("c"),
    }


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    result = run("build", str(tmp_path / "packager.toml"))
    line = f"error: {tmp_path}/packager.toml: no such file. `packager new` writes a recipe.\n"
    assert (result.exit_code, result.stderr) == (2, line)


def test_targets_lists_every_folder() -> None:
    names = list(target.find_profiles(target.default_root()))
    lines = run("targets").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == names
    listed = json.loads(run("targets", "--json").stdout)
    assert [entry["name"] for entry in listed] == names


def test_doctor_exits_with_3_where_the_core_is_not_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = doctor.Tool(
        name="numpy",
        needed_for=("core",),
        wanted=">=2.1",
        found=None,
        usable=False,
        remedy="pip install 'packager'",
    )
    monkeypatch.setattr(doctor, "examine", lambda: (tool,))
    result = run("doctor", "--json")
    assert result.exit_code == errors.MissingToolError.exit_code
    assert json.loads(result.stdout) == [
        {
            "name": "numpy",
            "needed_for": ["core"],
            "wanted": ">=2.1",
            "found": None,
            "usable": False,
            "remedy": "pip install 'packager'",
        }
    ]


def test_doctor_lists_what_devices_need_where_the_core_is_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adb = doctor.Tool(
        name="adb",
        needed_for=("adb devices",),
        wanted="",
        found=None,
        usable=False,
        remedy="apt-get install adb",
    )
    monkeypatch.setattr(doctor, "examine", tuple)
    monkeypatch.setattr(checkup, "examine", lambda: (adb,))
    result = run("doctor")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split("  ")[0] == "adb"
    assert "apt-get install adb" in result.stdout


@pytest.mark.parametrize(
    ("options", "wish"),
    [
        ((), Wish(private=False, locked=False)),
        (("--private",), Wish(private=True, locked=False)),
        (("--locked",), Wish(private=False, locked=True)),
    ],
)
def test_setup_device_makes_a_kit_as_wished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], wish: Wish
) -> None:
    kit = Kit(root=tmp_path, record=kit_example.write(tmp_path))
    asked = []

    def set_up(root: Path, wished: Wish) -> setup.Outcome:
        asked.append((root, wished))
        return setup.Outcome(kit=kit, made=True)

    monkeypatch.setattr(setup, "set_up", set_up)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "usual"))
    result = run("setup-device", "qemu", *options)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{tmp_path}: made anew, and tried out; ")
    named = json.loads(run("setup-device", "qemu", *options, "--folder", "x", "--json").stdout)
    assert named["kit"]["root"] == str(tmp_path)
    assert named["kit"]["record"]["packages"][0]["pinned"] == "as pinned"
    assert asked == [(tmp_path / "usual", wish), (Path("x").absolute(), wish)]


def test_only_known_emulations_are_set_up() -> None:
    result = run("setup-device", "bochs")
    assert result.exit_code == 2
    assert "'bochs' is not one of 'qemu'" in result.stderr


def test_new_writes_a_recipe_once(tmp_path: Path) -> None:
    folder = tmp_path / "my-app"
    first = run("new", str(folder))
    assert first.exit_code == 0
    assert first.stdout.splitlines()[0] == str(folder / "packager.toml")
    again = run("new", str(folder))
    assert again.exit_code == 2
    assert (
        again.stderr == f"error: {folder}/packager.toml: is there already. Name another folder.\n"
    )


def test_a_file_that_is_no_bundle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"not a zip")
    result = run("inspect", str(path), "--json")
    message = (
        f"{path}: is no readable bundle: File is not a zip file. "
        "Do not use it; build it again, or get it again from whoever built it."
    )
    assert (result.exit_code, result.stderr) == (12, f"error: {message}\n")
    assert json.loads(result.stdout) == {
        "error": "BundleError",
        "message": message,
        "exit_code": 12,
    }


@pytest.mark.parametrize("document", ["recipe", "target"])
def test_schema_prints_json_alone(document: str) -> None:
    result = run("schema", document)
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["type"] == "object"


def test_schema_of_something_else_is_a_usage_error() -> None:
    assert run("schema", "recipes").exit_code == 2


@pytest.fixture
def published(built: Built, tmp_path: Path) -> Path:
    (tmp_path / publish.BUILD_FILE).write_text(json.dumps(cache.encode(built)), "utf-8")
    return tmp_path


def test_explain_tells_what_ran_and_why(published: Path) -> None:
    result = run("explain", str(published))
    assert (result.exit_code, result.stderr) == (0, "")
    prune = next(line for line in result.stdout.splitlines() if line.startswith("prune"))
    assert prune.rstrip().split(maxsplit=4) == [
        "prune",
        "all",
        "targets",
        "ran",
        "inputs.1.macs_ratio: 0.6 -> 0.45",
    ]


def test_report_is_written_again_from_what_lies_in_the_folder(published: Path) -> None:
    result = run("report", str(published))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{published}/report.html\n"
    assert (published / "report.html").read_text("utf-8").lower().startswith("<!doctype html>")


@pytest.mark.parametrize("command", ["explain", "report"])
def test_a_folder_without_a_build_is_named(command: str, tmp_path: Path) -> None:
    result = run(command, str(tmp_path))
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: {tmp_path}/build.json: cannot be read (No such file or directory). "
        "`packager build` writes it.\n"
    )


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format_version": 99}'])
def test_a_build_that_cannot_be_understood_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "build.json").write_text(content, "utf-8")
    result = run("explain", str(tmp_path))
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: {tmp_path}/build.json: was not written by this version of packager. "
        "Run `packager build` again.\n"
    )
