from pathlib import Path

import pytest

from packager import scaffold
from packager.errors import ConfigError, StorageError


@pytest.fixture
def example(tmp_path: Path) -> Path:
    folder = tmp_path / "example"
    (folder / "__pycache__").mkdir(parents=True)
    for name in ("README.md", "model.py", "packager.toml", "model.pyc", ".hidden"):
        (folder / name).write_text(f"content of {name}\n", "utf-8")
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in sorted(folder.iterdir())}


def test_the_files_a_person_edits_are_copied_and_the_recipe_is_named_first(
    example: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "deep" / "my-app"
    written = scaffold.write_example(folder, example)
    assert written == (folder / "packager.toml", folder / "README.md", folder / "model.py")
    assert contents(folder) == {
        "README.md": "content of README.md\n",
        "model.py": "content of model.py\n",
        "packager.toml": "content of packager.toml\n",
    }


def test_a_folder_that_holds_other_files_keeps_them(example: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", "utf-8")
    scaffold.write_example(tmp_path, example)
    assert (tmp_path / "notes.txt").read_text("utf-8") == "mine"


def test_nothing_is_overwritten_and_nothing_else_is_written(example: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my-app"
    folder.mkdir()
    (folder / "model.py").write_text("mine", "utf-8")
    with pytest.raises(ConfigError) as caught:
        scaffold.write_example(folder, example)
    assert str(caught.value) == f"{folder}/model.py: is there already. Name another folder."
    assert contents(folder) == {"model.py": "mine"}


def test_a_file_where_the_folder_should_be_is_a_storage_error(
    example: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(StorageError):
        scaffold.write_example(tmp_path / "file" / "my-app", example)


def test_the_phantom_example_is_found() -> None:
    assert (scaffold.default_example() / "model.py").is_file()
