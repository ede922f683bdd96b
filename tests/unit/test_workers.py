import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from packager import workers
from packager.errors import BudgetError, ConversionError


def square(number: int) -> tuple[int, int]:
    print(f"squaring {number}")  # noqa: T201 what a converter does
    os.write(2, b"a warning of a C++ library\n")
    return number * number, os.getpid()


def refuse(_job: int) -> None:
    raise BudgetError("t: program", measured=12, limit=10, unit="bytes")


def vanish(_job: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)  # what Linux does when memory runs out


def test_results_come_in_order_and_noise_goes_to_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "converters.log"
    results = workers.run(square, [3, 1, 2], log=log)
    assert [result for result, _ in results] == [9, 1, 4]
    assert os.getpid() not in {pid for _, pid in results}
    # Workers write at the same time: their lines may share a line.
    noise = log.read_text()
    assert [noise.count(f"squaring {number}") for number in (1, 2, 3)] == [1, 1, 1]
    assert noise.count("a warning of a C++ library\n") == 3
    assert capfd.readouterr() == ("", "")


def test_no_job_is_no_work(tmp_path: Path) -> None:
    assert workers.run(square, [], log=tmp_path / "converters.log") == []
    assert not (tmp_path / "converters.log").exists()


def test_error_of_a_worker_arrives_whole(tmp_path: Path) -> None:
    with pytest.raises(BudgetError) as caught:
        workers.run(refuse, [1], log=tmp_path / "converters.log")
    assert str(caught.value) == (
        "t: program is 12 bytes, 2 bytes over the limit of 10. "
        "Prune more, or choose a target with more memory."
    )


def test_killed_worker_is_an_error_that_says_so(tmp_path: Path) -> None:
    log = tmp_path / "converters.log"
    with pytest.raises(ConversionError) as caught:
        workers.run(vanish, [1], log=log)
    assert str(caught.value) == (
        f"A worker process was killed, most likely for want of memory. See {log}."
    )


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def test_ctrl_c_ends_the_workers_at_once_and_nothing_else(tmp_path: Path) -> None:
    def press_ctrl_c(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, press_ctrl_c)
    bystander = multiprocessing.get_context("spawn").Process(target=sleep, args=(60,))
    bystander.start()
    signal.setitimer(signal.ITIMER_REAL, 2)  # by then a worker has started
    begin = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            workers.run(sleep, [60.0], log=tmp_path / "converters.log")
        assert time.monotonic() - begin < 20  # the pool would wait for 60
        assert multiprocessing.active_children() == [bystander]
    finally:
        signal.signal(signal.SIGALRM, before)
        bystander.kill()
        bystander.join()
