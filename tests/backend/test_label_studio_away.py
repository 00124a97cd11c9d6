"""Label Studio away, slow, restarting or refusing the token in the middle of work: one line, and nothing is lost."""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backend.doctor import examine
from backend.label_studio import LabelStudio
from tests.backend.fake_label_studio import FakeLabelStudio
from tests.backend.loopback import HANG_UP, Answer, Request
from tests.backend.served import until
from tests.backend.stage import PATIENCE, Stage, blob, brush

HASTE = 0.5  # seconds to wait for what is not going to be answered
FAULTS = ["gone", "hangs up", "busy", "slow", "token refused"]
REMEDY = {
    "gone": "Check that it runs and that LABEL_STUDIO_URL is right",
    "hangs up": "Check that it runs and that LABEL_STUDIO_URL is right",
    "busy": "It may be starting, or have too much to do: see its log",
    "slow": "See whether it has too much to do",
    "token refused": "Make a personal access token on Label Studio's account page",
}


class FaultyLabelStudio(FakeLabelStudio):
    """Has a fault from a certain request on, until it is mended.

    Attributes:
        fault: what is wrong, one of `FAULTS`; "" for nothing.
        unlucky: a path whose requests are hung up on, always.
        waiting: what waits for its answers: for long, but for a moment only where none is going to come.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fault = self.unlucky = ""
        self.waiting: list[Any] = []
        self._waiting: tuple[str, str, int] | None = None
        self._let_go = threading.Event()
        self._held_up = 0

    def fail_at(self, fault: str, path: str, number: int) -> None:
        """Have this fault from the request on that is the `number`-th from now whose method and path begin so."""
        self._waiting = (fault, path, number)
        self._let_go.clear()
        self._be_waited_for()

    def client(self, *arguments: Any, **options: Any) -> LabelStudio:
        """A client that waits for answers as `waiting` says."""
        made = LabelStudio(*arguments, **options)
        self.waiting.append(made)
        self._be_waited_for()
        return made

    def mend(self) -> None:
        """Have no fault any more; what nobody waited for is done by now, too."""
        fault, self.fault = self.fault, ""
        self.legacy_allowed = True
        self._let_go.set()
        until(lambda: not self._held_up)
        self._be_waited_for()
        if fault == "gone":
            self.come_back()

    def answer(self, request: Request) -> Answer:
        with self.lock:
            self._count(f"{request.method} {request.path}")
            fault = self.fault
        if fault == "hangs up" or (self.unlucky and request.path == self.unlucky):
            return HANG_UP
        if fault == "busy":
            return Answer(503, b"<html>starting</html>")
        if fault == "slow":
            return self._answer_late(request)
        return super().answer(request)

    def _answer_late(self, request: Request) -> Answer:
        with self.lock:
            self._held_up += 1
        self._let_go.wait(600)
        with self.lock:
            self._held_up -= 1
            return super().answer(request)

    def _count(self, asked: str) -> None:
        if self._waiting is None or not asked.startswith(self._waiting[1]):
            return
        fault, path, number = self._waiting
        self._waiting = (fault, path, number - 1) if number > 1 else None
        if number == 1:
            self.fault = fault
            self.legacy_allowed = fault != "token refused"
            if fault == "gone":
                self.go_away()
        self._be_waited_for()

    def _be_waited_for(self) -> None:
        silent = self.fault == "slow" or (self._waiting is not None and self._waiting[::2] == ("slow", 1))
        for each in self.waiting:
            each._timeout = HASTE if silent else PATIENCE


@pytest.fixture
def fake_label_studio() -> Iterator[FaultyLabelStudio]:
    server = FaultyLabelStudio()
    yield server
    server.mend()
    server.stop()


@pytest.fixture
def ready(
    staging: Callable[..., Stage],
    fake_label_studio: FaultyLabelStudio,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Stage:
    """A project with one approved mask."""
    caplog.set_level(logging.INFO, "backend")
    monkeypatch.setattr("backend.wiring.LabelStudio", fake_label_studio.client)
    stage = staging(reconcile_every=5)
    fake_label_studio.waiting.append(stage.backend.images._downloader)
    stage.backend.label_studio._sleep = lambda _seconds: None
    stage.segment_by_colour()
    stage.approve(1)
    caplog.clear()
    return stage


def lines(caplog: pytest.LogCaptureFixture, least: int = logging.WARNING) -> list[str]:
    """What the backend's log says."""
    found = [record for record in caplog.records if record.levelno >= least]
    return [record.getMessage() for record in found if record.name.startswith("backend")]


def predicted(stage: Stage) -> dict[int, int]:
    """How many predictions of the current version Label Studio holds, by task."""
    version = stage.setup()
    rows = [row for row in stage.label_studio.stored_predictions.values() if row["model_version"] == version]
    return {row["task"]: sum(other["task"] == row["task"] for other in rows) for row in rows}


def waiting(stage: Stage) -> int:
    """How many jobs wait for their time to apply events."""
    return [job.name for job in stage.jobs.events.scheduled()].count("learn")


def said_by_doctor(stage: Stage, fault: str) -> str:
    haste = stage.settings.model_copy(update={"image_timeout": HASTE})
    findings = examine(haste if fault == "slow" else stage.settings, stage.project)
    return "\n".join(f"{each.level} {each.what}: {each.found} {each.remedy}" for each in findings)


@pytest.mark.parametrize("fault", FAULTS)
def test_in_the_middle_of_a_background_pass(
    ready: Stage, fake_label_studio: FaultyLabelStudio, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    tasks = ready.blobs(20, first=2)
    image, mask = blob(40)
    annotated = ready.upload(image)
    fake_label_studio.fail_at(fault, "POST /api/predictions/", 7)
    ready.jobs.pre_annotate(ready.key)
    ready.work()
    assert 0 < len(fake_label_studio.stored_predictions) < 20

    annotation = ready.submit(annotated, brush(mask))
    for _ in range(3):
        ready.jobs.look()
        ready.jobs.reconcile(ready.key)
        ready.work(later=True)
    (line,) = lines(caplog)
    assert REMEDY[fault] in line
    assert "What needs Label Studio waits, and is tried again." in line
    assert annotation not in ready.pool
    doctor = said_by_doctor(ready, fault)
    assert "error Label Studio: " in doctor
    assert REMEDY[fault] in doctor
    assert "predictions not pushed" in doctor

    fake_label_studio.mend()
    for _ in range(3):
        ready.jobs.look()
        ready.work(later=True)
    assert annotation in ready.pool
    assert predicted(ready) == dict.fromkeys(tasks, 1)
    assert {state.status for state in ready.backend.store.task_states(ready.key)} == {"done"}
    assert lines(caplog) == [line]
    assert sum("answers again" in said for said in lines(caplog, logging.INFO)) == 1
    assert "not pushed" not in said_by_doctor(ready, "")


@pytest.mark.parametrize("fault", FAULTS)
def test_in_the_middle_of_a_reconcile(
    ready: Stage, fake_label_studio: FaultyLabelStudio, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """Images that could not be had were told task by task, and each of them was asked for in vain."""
    annotations = [
        ready.submit(ready.upload(image), brush(mask), tell=False) for image, mask in map(blob, range(2, 14))
    ]
    (waiting,) = ready.blobs(1, first=50)
    before = ready.setup()
    fake_label_studio.fail_at(fault, "GET /data/upload/", 5)
    ready.jobs.reconcile(ready.key)
    ready.work()
    assert 1 < len(ready.pool) < 12
    asked = len(fake_label_studio.requests)
    for _ in range(3):
        ready.jobs.look()
        ready.work(later=True)
    (line,) = lines(caplog)
    assert line.startswith(("Label Studio", "http://127"))
    assert len(fake_label_studio.requests) - asked < 12 * 3

    fake_label_studio.mend()
    for _ in range(2):
        # On a busy machine the comparison took so long that the next one is not due yet.
        ready.backend.store.set_note(f"reconcile-seconds:{ready.key}", "0")
        ready.jobs.look()
        ready.work(later=True)
    assert set(annotations) < set(ready.pool)
    assert {approval.annotation for approval in ready.backend.store.approvals(ready.key)} == set(
        fake_label_studio.annotations
    )
    assert ready.setup() != before
    assert predicted(ready) == {waiting: 1}
    assert lines(caplog) == [line]


def test_events_wait_while_their_images_cannot_be_had_and_none_is_given_up(
    ready: Stage, fake_label_studio: FaultyLabelStudio, caplog: pytest.LogCaptureFixture
) -> None:
    """After eight tries they were given up, and what came after them was tried as often."""
    made = [
        ready.submit(ready.upload(image), brush(mask), tell=False) for image, mask in map(blob, range(2, 6))
    ]
    fake_label_studio.fail_at("hangs up", "GET /", 1)
    for annotation in made:
        ready.annotated("ANNOTATION_CREATED", annotation)
    ready.delete(made[1])
    for _ in range(12):
        ready.work(later=True)
    assert len(ready.backend.store.pending_events()) == 4, "a deletion needs no image"
    assert len(lines(caplog)) == 1
    fake_label_studio.mend()
    ready.work(later=True)
    assert set(ready.pool) - {1} == {made[0], *made[2:]}
    assert ready.backend.store.pending_events() == []


def test_retries_do_not_grow_with_the_looks_and_events_of_an_outage(
    ready: Stage, fake_label_studio: FaultyLabelStudio
) -> None:
    """Each look and each event had begun another chain of retries, and none of them ended."""
    image, mask = blob(2)
    annotation = ready.submit(ready.upload(image), brush(mask), tell=False)
    fake_label_studio.fail_at("hangs up", "GET /", 1)
    ready.annotated("ANNOTATION_CREATED", annotation)
    for _ in range(4):
        ready.jobs.look()
        ready.jobs.learn(ready.key)
        ready.work(later=True)
        assert waiting(ready) == 1
    ready.backend.store.acquire(f"learn:{ready.key}", "another", 3600)
    for _ in range(3):
        ready.jobs.look()
        ready.work(later=True)
        assert waiting(ready) == 1
    ready.backend.store.release(f"learn:{ready.key}", "another")
    fake_label_studio.mend()
    ready.work(later=True)
    assert annotation in ready.pool


def test_what_waits_through_an_outage_has_all_its_tries_left(
    ready: Stage, fake_label_studio: FaultyLabelStudio
) -> None:
    """Eight looks of an outage used up the tries, and the first 404 of a storage that was mounted late ended it."""
    image, mask = blob(2)
    task = ready.upload(image)
    path = fake_label_studio.tasks[task]["data"]["image"]
    annotation = ready.submit(task, brush(mask), tell=False)
    fake_label_studio.fail_at("hangs up", "GET /", 1)
    ready.annotated("ANNOTATION_CREATED", annotation)
    for _ in range(12):
        ready.work(later=True)
    (event,) = ready.backend.store.pending_events()
    assert event.attempts == 1  # by which a withdrawal knows that it waits
    fake_label_studio.mend()
    upload = fake_label_studio.uploads.pop(path)
    for _ in range(4):
        ready.work(later=True)
    assert len(ready.backend.store.pending_events()) == 1
    fake_label_studio.uploads[path] = upload
    ready.work(later=True)
    assert annotation in ready.pool


def test_an_image_that_only_it_cannot_be_had_holds_up_nothing(
    ready: Stage, fake_label_studio: FaultyLabelStudio, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = ready.blobs(10, first=2)
    fake_label_studio.unlucky = str(fake_label_studio.tasks[tasks[2]]["data"]["image"])
    annotation = ready.submit(tasks[2], brush(blob(4)[1]))
    assert annotation
    fake_label_studio.withdraw(annotation)
    ready.jobs.pre_annotate(ready.key)
    ready.work()
    others = {task for task in tasks if task != tasks[2]}
    assert predicted(ready) == dict.fromkeys(others, 1)
    failed = {state.task: state for state in ready.backend.store.task_states(ready.key)}[tasks[2]]
    assert failed.status == "failed"
    assert "cannot be reached" in failed.reason
    for _ in range(10):
        ready.work(later=True)
    assert ready.backend.store.pending_events() == []
    assert not any("What needs Label Studio waits" in line for line in lines(caplog))


def test_an_image_that_was_not_given_once_is_asked_for_again_at_once(
    ready: Stage, fake_label_studio: FaultyLabelStudio
) -> None:
    """Its task had failed, and was tried again ten minutes later."""
    tasks = ready.blobs(3, first=2)
    answer = fake_label_studio.answer
    hung_up = iter([True])

    def once(request: Request) -> Answer:
        mine = request.path == fake_label_studio.tasks[tasks[0]]["data"]["image"]
        return HANG_UP if mine and next(hung_up, False) else answer(request)

    fake_label_studio.answer = once  # type: ignore[method-assign]
    ready.jobs.pre_annotate(ready.key)
    ready.work(later=True)
    assert predicted(ready) == dict.fromkeys(tasks, 1)


def test_requests_that_come_while_the_token_is_refused_are_told_of_once(
    ready: Stage, fake_label_studio: FaultyLabelStudio, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = ready.blobs(9, first=2)
    for _ in range(2):
        caplog.clear()
        fake_label_studio.legacy_allowed = False
        for first in (0, 3):
            assert ready.predict(*tasks[first : first + 3]) == [[], [], []]
        (line,) = lines(caplog)
        assert "images cannot be had" in line
        assert REMEDY["token refused"] in line
        fake_label_studio.legacy_allowed = True
        assert all(ready.predict(*tasks[6:]))


def test_an_access_token_that_expires_is_renewed_and_nothing_is_told(
    staging: Callable[..., Stage], fake_label_studio: FaultyLabelStudio, caplog: pytest.LogCaptureFixture
) -> None:
    stage = staging(label_studio_api_key=fake_label_studio.personal_token)
    stage.segment_by_colour()
    stage.approve(1)
    tasks = stage.blobs(12, first=2)
    created = fake_label_studio._create_prediction

    def create_and_expire(request: Request) -> Answer:
        fake_label_studio.revoke_access_tokens()
        return created(request)

    fake_label_studio._create_prediction = create_and_expire  # type: ignore[method-assign]
    stage.jobs.pre_annotate(stage.key)
    stage.work()
    assert predicted(stage) == dict.fromkeys(tasks, 1)
    assert fake_label_studio.exchanges >= 12
    assert lines(caplog) == []
