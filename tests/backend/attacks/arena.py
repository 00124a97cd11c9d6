"""What is attacked: one backend a file, that stays up under everything and says what went wrong inside it."""

import logging
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from tests.backend.attacks.fuzzing import RECORDED
from tests.backend.fake_label_studio import FakeLabelStudio
from tests.backend.loopback import Answer
from tests.backend.stage import Stage, blob, png, staged

ADMIN_TOKEN = "admin-token-of-the-attacks"  # noqa: S105 - no secret
CREATED = "2026-11-23T12:00:56.093637Z"  # of the project in the recorded requests


class Arena(logging.Handler):
    """A stage that outlives single inputs, made by the first test (whose environment is cleared).

    Attributes:
        raised: what was logged together with an exception: errors that nobody expected.
    """

    def __init__(self, opened: ExitStack, folder: Path, checkpoint: Path) -> None:
        super().__init__()
        self._opened, self._folder, self._checkpoint = opened, folder, checkpoint
        self.raised: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.raised.append(f"{record.getMessage()}: {record.exc_info[1]!r}")

    @cached_property
    def stage(self) -> Stage:
        """The project of the recorded requests, with three approved masks; masks go by colour."""
        fake = self._opened.enter_context(FakeLabelStudio())
        fake.add_project(created_at=CREATED)
        for file in RECORDED.glob("*.json"):
            for path in set(file.read_text(encoding="utf-8").split('"')):
                if path.startswith("/data/upload/"):
                    fake.uploads[path] = Answer(200, png(blob(3, 256, 256)[0]))
        fake.tasks[1000] = {"id": 1000, "project": 1, "data": {}, "updated_at": ""}
        stage = self._opened.enter_context(
            staged(fake, self._folder, self._checkpoint, admin_token=ADMIN_TOKEN, pre_annotate="2")
        )
        logging.getLogger("backend").addHandler(self)
        self._opened.callback(logging.getLogger("backend").removeHandler, self)
        stage.segment_by_colour()
        for seed in range(3):
            stage.approve(seed)
        return stage

    def work(self) -> None:
        """Let the worker do what waits, also what waits for later; nothing may fail."""
        try:
            self.stage.work(later=True, most=3000)
        finally:
            self.stage.failed.clear()
        self.assert_nothing_raised()

    def assert_nothing_raised(self) -> None:
        """No error that nobody expected has been logged since the last time."""
        raised, self.raised = self.raised, []
        assert not raised, raised[:3]

    def still_learns(self, seed: int) -> None:
        """After all that: an approval is learned, used, and the examples are those of Label Studio's export."""
        stage = self.stage
        self.work()
        annotation = stage.approve(seed)
        stage.event(
            "START_TRAINING"
        )  # wrong events told of deletions, of this number too: a comparison knows better
        self.work()
        assert annotation in stage.pool
        (task,) = stage.blobs(1, first=seed + 500)
        (prediction,) = stage.predict(task)
        assert prediction["result"]
        stage.event("START_TRAINING")
        self.work()
        assert set(stage.pool) == set(stage.label_studio.annotations)
