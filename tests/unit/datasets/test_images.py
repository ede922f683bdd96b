from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from packager.artifacts import ImageFile
from packager.contract import Activation, Contract
from packager.datasets import images
from packager.datasets.splits import LabelledImages, Loaded, Split
from packager.errors import DataError
from packager.recipe import ImageData
from tests.contracts import GRAY, SIGNAL

CONTRACT = Contract(
    input_shape=(1, 6, 8),
    source=GRAY,
    full_scale=255.0,
    mean=(0.5,),
    std=(0.25,),
    activation=Activation.SOFTMAX,
    labels=("solid", "cyst"),
)
DATA = ImageData(source="images", folder=Path("x"), origin="drawn for a test", simulated=True)


def draw(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, split in enumerate(Split):
        draw(tmp_path / split / "solid" / "b.png", index)
        draw(tmp_path / split / "solid" / "a.png", index + 10)
        draw(tmp_path / split / "cyst" / "z.png", index + 20)
    return tmp_path


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        images.find(folder)
    assert caught.value.where == "data.folder"
    return caught.value.problem


def place(image: ImageFile) -> tuple[str, str, str]:
    return image.split, image.label, image.file.path.name


def test_images_are_sorted_by_split_label_and_name(folder: Path) -> None:
    expected = [
        (split.value, label, name)
        for split in Split
        for label, name in (("cyst", "z.png"), ("solid", "a.png"), ("solid", "b.png"))
    ]
    assert [place(image) for image in images.find(folder)] == expected


def test_labels_follow_the_contract_and_not_the_alphabet(folder: Path) -> None:
    loaded = images.load(DATA, images.find(folder), CONTRACT)
    for split in Split:
        assert loaded.splits[split].labels.tolist() == [1, 0, 0]
        assert paths(loaded, split) == [
            folder / split / name for name in ("cyst/z.png", "solid/a.png", "solid/b.png")
        ]
    assert (loaded.origin, loaded.simulated) == ("drawn for a test", True)


def paths(loaded: Loaded, split: Split) -> list[Path]:
    found = loaded.splits[split]
    assert isinstance(found, LabelledImages)
    return list(found.paths)


def test_photographs_and_capital_letters_are_found(folder: Path) -> None:
    photo = draw(folder / "finetune" / "cyst" / "photo.JPG", 99)
    loaded = images.load(DATA, images.find(folder), CONTRACT)
    assert photo in paths(loaded, Split.FINETUNE)


def test_hidden_files_and_a_licence_beside_the_splits_are_passed_over(folder: Path) -> None:
    before = images.find(folder)
    (folder / "LICENSE").write_text("CC BY 4.0")
    (folder / ".cache").mkdir()
    (folder / "finetune" / ".DS_Store").write_text("")
    (folder / "finetune" / "cyst" / ".z.png").write_text("")
    assert images.find(folder) == before


def test_missing_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere"
    assert refusal(path) == f"{path} is not a folder. Check the path."


def test_missing_split_is_named(folder: Path) -> None:
    (folder / "calibration").rename(folder / ".calibration")
    path = folder / "calibration"
    assert refusal(folder) == (
        f"{path} is missing. It should hold one folder of images for each label."
    )


def test_folder_that_is_no_split_is_named_with_a_suggestion(folder: Path) -> None:
    (folder / "validation").rename(folder / "validate")
    assert refusal(folder) == f"{folder / 'validate'} is no split. Did you mean 'validation'?"


def test_split_without_images_is_named(folder: Path) -> None:
    for path in (folder / "evaluation").glob("*/*"):
        path.unlink()
    assert refusal(folder) == (
        f"{folder / 'evaluation'} has no image. Put some (.bmp, .jpeg, .jpg, .png) into it."
    )


def test_file_of_another_type_is_named(folder: Path) -> None:
    path = folder / "evaluation" / "cyst" / "scan.dcm"
    path.write_text("")
    assert refusal(folder) == f"{path} is no image (.bmp, .jpeg, .jpg, .png). Take it away."


def test_folder_within_a_label_is_named(folder: Path) -> None:
    path = folder / "evaluation" / "cyst" / "more.png"
    path.mkdir()
    assert refusal(folder) == f"{path} is no image (.bmp, .jpeg, .jpg, .png). Take it away."


def test_image_without_a_label_is_named(folder: Path) -> None:
    path = draw(folder / "evaluation" / "stray.png")
    assert refusal(folder) == (
        f"{path} lies beside the folders of the labels. Move it into one of them."
    )


def test_folder_that_is_no_label_is_named_with_a_suggestion(folder: Path) -> None:
    draw(folder / "finetune" / "cysts" / "a.png")
    with pytest.raises(DataError) as caught:
        images.load(DATA, images.find(folder), CONTRACT)
    assert str(caught.value) == (
        "data.folder: 'cysts' is not in contract.labels. Did you mean 'cyst'?"
    )


def test_label_without_a_folder_is_named(folder: Path) -> None:
    for path in folder.glob("*/cyst/*"):
        path.unlink()
    with pytest.raises(DataError) as caught:
        images.load(DATA, images.find(folder), CONTRACT)
    assert str(caught.value) == (
        "data.folder: no split has an image of 'cyst', which contract.labels names. Known: solid."
    )


def test_contract_of_signals_is_refused(folder: Path) -> None:
    signals = CONTRACT.model_copy(update={"input_shape": (1, 48), "source": SIGNAL})
    with pytest.raises(DataError) as caught:
        images.load(DATA, images.find(folder), signals)
    assert str(caught.value) == (
        "contract.input_shape: images need [1 or 3, height, width], not [1, 48]."
    )
