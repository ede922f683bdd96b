import hashlib

import numpy as np

from packager.datasets.splits import Labelled, fingerprints


def test_fingerprint_is_the_digest_of_the_content() -> None:
    frames = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    expected = [hashlib.sha256(bytes(range(start, start + 12))).digest() for start in (0, 12)]
    assert fingerprints(frames) == expected


def test_order_in_memory_does_not_matter() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 4, 5), np.uint8)
    assert fingerprints(np.asfortranarray(frames)) == fingerprints(frames)


def test_one_changed_pixel_changes_one_fingerprint() -> None:
    frames = np.zeros((3, 4, 5), np.uint8)
    changed = frames.copy()
    changed[1, 3, 4] = 1
    pairs = zip(fingerprints(frames), fingerprints(changed), strict=True)
    assert [one == other for one, other in pairs] == [True, False, True]


def test_samples_are_taken_in_the_order_that_is_asked_for() -> None:
    samples = Labelled(frames=np.array([[10], [11], [12]]), labels=np.array([0, 1, 2]))
    taken = samples.take(np.array([2, 0]))
    assert taken.frames.tolist() == [[12], [10]]
    assert taken.labels.tolist() == [2, 0]
