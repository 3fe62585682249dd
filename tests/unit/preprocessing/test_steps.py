"""The steps of a visit: told in its log, and shown from there as they begin."""

from __future__ import annotations

import os
import time
from pathlib import Path

from relapet.imaging.bids import Visit
from relapet.preprocessing import steps
from relapet.preprocessing.raw import RawVisit
from relapet.preprocessing.steps import Step, VisitLog, count_steps, current_step, watched
from relapet.tracers import get_tracer


def test_a_log_tells_its_steps_and_the_last_one_is_read(tmp_path: Path) -> None:
    log = VisitLog(tmp_path / "logs" / "sub-01.log", 5)
    assert current_step(log.path, 0) is None
    log.say("T1w: step by step of nothing")
    assert current_step(log.path, 0) is None
    log.begin("finding the brain")
    log.say("brain mask: 1.4 L")
    log.begin("correcting the bias field")
    assert current_step(log.path, 0) == Step(2, 5, "correcting the bias field")
    text = log.path.read_text()
    assert [line.split(" s  ")[1] for line in text.splitlines()][1:3] == [
        "step 1 of 5: finding the brain",
        "brain mask: 1.4 L",
    ]
    os.utime(log.path, (1, 1))
    assert current_step(log.path, 2) is None  # of an earlier run


def test_there_is_a_step_for_every_image() -> None:
    raw = RawVisit(Visit("01"), Path("raw"), Path("t1w"))
    assert count_steps(raw) == 4
    pet = tuple((get_tracer(name), Path(name)) for name in ("tau", "pib"))
    assert count_steps(RawVisit(Visit("01"), Path("raw"), Path("t1w"), Path("flair"), pet)) == 7


def test_a_step_counts_by_the_time_that_it_takes() -> None:
    shares = [Step(number, 6, "").share for number in range(1, 7)]
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[2] < 0.1 < 0.7 < shares[3]  # the registration to the template is most of it
    assert shares[5] < 1
    assert Step(3, 3, "").share < 0.1


def test_steps_are_shown_as_they_begin_and_visits_as_they_end(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(steps, "_LOOK_SECONDS", 0.01)
    logs = {name: VisitLog(tmp_path / f"{name}.log", 4) for name in ("sub-01", "sub-02")}
    shown: list[tuple[float, str]] = []

    def wait_for(note: str) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and (not shown or shown[-1][1] != note):
            time.sleep(0.01)
        assert shown[-1][1] == note

    paths = {name: log.path for name, log in logs.items()}
    with watched(paths, lambda done, note, seconds_left=None: shown.append((done, note))) as finish:
        logs["sub-01"].begin("finding the brain")
        wait_for("sub-01: finding the brain (1 of 4)")
        logs["sub-01"].begin("correcting the bias field")
        logs["sub-02"].begin("finding the brain")
        wait_for("sub-01: correcting the bias field (2 of 4); sub-02: finding the brain (1 of 4)")
        assert shown[-1][0] == Step(2, 4, "").share
        finish("sub-01", "sub-01 is done")
        assert (1.0, "sub-01 is done") in shown
        wait_for("sub-02: finding the brain (1 of 4)")
        finish("sub-02", "sub-02 is done")
    assert shown[-1] == (2.0, "sub-02 is done")
    count = len(shown)
    time.sleep(0.05)
    assert len(shown) == count
