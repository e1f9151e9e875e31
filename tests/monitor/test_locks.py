"""Locks of files: one process alone; and where there are none, work goes on and says so."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from pathlib import Path

import pytest

from nanollama.errors import UserError
from nanollama.monitor.locks import take_lock
from nanollama.monitor.run_folder import open_run
from tests.toy_training import run_toy, same_end, toy_config


def test_a_lock_is_taken_once(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with open(path, "w") as one, open(path, "w") as other:
        assert take_lock(one.fileno(), path)
        assert not take_lock(other.fileno(), path)
    with open(path, "w") as third:
        assert take_lock(third.fileno(), path)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_a_run_trains_and_says_so(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run_toy(toy_config(tmp_path / "calm"))

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING):
        run_toy(toy_config(tmp_path / "run"))
    assert same_end(tmp_path / "calm", tmp_path / "run")
    assert caplog.text.count(f"{tmp_path / 'run'} cannot be locked ({os.strerror(number)})") == 1


def test_another_failure_of_the_system_is_not_taken_for_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        take_lock(0, tmp_path)


def test_a_folder_that_is_in_use_stays_refused(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    with (
        open_run(config, tmp_path, device="cpu"),
        pytest.raises(UserError, match="is in use by process"),
        open_run(config, tmp_path, device="cpu"),
    ):
        pass
