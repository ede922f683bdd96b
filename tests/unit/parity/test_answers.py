from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from packager.artifacts import File
from packager.contract import Activation, Contract
from packager.contract.tensors import normalise
from packager.errors import DataError
from packager.parity import answers as answers_module
from packager.parity.answers import answers, read_arrays, write_arrays
from tests.contracts import GRAY

CONTRACT = Contract(
    input_shape=(1, 2, 3),
    source=GRAY,
    full_scale=255.0,
    mean=(0.5,),
    std=(0.25,),
    activation=Activation.SOFTMAX,
    labels=("a", "b"),
)


def test_program_sees_prepared_frames_in_order_a_batch_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answers_module, "BATCH", 3)
    frames = np.random.default_rng(0).integers(0, 256, (8, 2, 3)).astype(np.uint8)
    sizes: list[int] = []

    def program(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        sizes.append(len(batch))
        return batch.reshape(len(batch), -1)

    given = answers(frames, CONTRACT, program)
    assert sizes == [3, 3, 2]
    np.testing.assert_array_equal(given, normalise(frames, CONTRACT).reshape(8, -1))


def test_frames_of_another_shape_are_refused() -> None:
    with pytest.raises(DataError, match=r"the contract says \(1, 2, 3\)"):
        answers(np.zeros((4, 3, 3), np.uint8), CONTRACT, lambda batch: batch)


def test_arrays_come_back_as_they_were_written(tmp_path: Path) -> None:
    arrays: dict[str, NDArray[np.generic]] = {
        "labels": np.arange(3),
        "frames": np.zeros((3, 2, 2), np.uint8),
    }
    file = write_arrays(tmp_path / "a.npz", arrays)
    again = read_arrays(file)
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype
        np.testing.assert_array_equal(again[name], array)


def test_same_arrays_give_the_same_bytes(tmp_path: Path) -> None:
    arrays: dict[str, NDArray[np.generic]] = {"labels": np.arange(3)}
    (tmp_path / "two").mkdir()
    one, two = (write_arrays(tmp_path / p / "a.npz", arrays) for p in ("", "two"))
    assert one.sha256 == two.sha256


def test_python_objects_are_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", labels=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_arrays(File.of(tmp_path / "a.npz"))
