"""Processes that are killed at random moments: in the end the examples are the approved masks, exactly.

By hand, with more rounds: `KILL_ROUNDS=20 KILL_APPROVALS=300 python -m pytest tests/backend/test_nothing_lost.py`.
"""

import os
import random
import signal
import threading
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from backend.store import Store
from backend.store.pictures import unpack_mask
from backend.store.redis import RedisStore
from backend.store.sqlite import SqliteStore
from tests.backend.fake_label_studio import FakeLabelStudio
from tests.backend.redis_server import RedisServer
from tests.backend.served import COMPARED, Served, until
from tests.backend.stage import blob, brush, png

pytestmark = [pytest.mark.slow, pytest.mark.redis]

ROUNDS = int(os.environ.get("KILL_ROUNDS", "5"))
APPROVALS = int(os.environ.get("KILL_APPROVALS", "60"))
WEBHOOK_SECONDS = 1.0


class Annotators:
    """They submit, correct and delete in Label Studio, which posts each event once and never again."""

    def __init__(self, label_studio: FakeLabelStudio, url: str, chance: random.Random) -> None:
        self.label_studio, self.url, self.chance = label_studio, url, chance
        self.project = label_studio.add_project()
        self.masks: dict[int, Any] = {}
        self.submitted = 0

    def act(self, times: int) -> None:
        """Mostly submit new annotations; now and then correct or delete one."""
        for _ in range(times):
            self._act()

    def _act(self) -> None:
        dice = self.chance.random()
        if dice < 0.1 and self.masks:
            self._correct(self.chance.choice(sorted(self.masks)))
        elif dice < 0.15 and self.masks:
            self._delete(self.chance.choice(sorted(self.masks)))
        else:
            self._submit()

    def _submit(self) -> None:
        self.submitted += 1
        image, mask = blob(self.submitted)
        task = self.label_studio.add_task(self.project, png(image))
        annotation = self.label_studio.annotate(task, [brush(mask)])
        self.masks[annotation] = mask
        self._tell("ANNOTATION_CREATED", annotation)

    def _correct(self, annotation: int) -> None:
        mask = np.roll(self.masks[annotation], self.chance.randint(1, 5), axis=1)
        self.masks[annotation] = mask
        self.label_studio.edit(annotation, result=[brush(mask)])
        self._tell("ANNOTATION_UPDATED", annotation)

    def _delete(self, annotation: int) -> None:
        del self.masks[annotation]
        self.label_studio.withdraw(annotation)
        self._post({"action": "ANNOTATIONS_DELETED", "annotations": [{"id": annotation}]})

    def _tell(self, action: str, annotation: int) -> None:
        row = self.label_studio.annotations[annotation]
        self._post({"action": action, "annotation": row, "task": self.label_studio.tasks[row["task"]]})

    def _post(self, body: dict[str, Any]) -> None:
        body = {**body, "project": self.label_studio.projects[self.project]}
        with suppress(httpx.HTTPError):
            httpx.post(f"{self.url}/webhook", json=body, timeout=WEBHOOK_SECONDS)


def examples_of(store: Store, key: str) -> dict[int, Any]:
    """Masks in the pool by annotation."""
    infos = store.pool(key)
    stored = store.examples([info.key for info in infos])
    return {info.annotation: unpack_mask(stored[info.key].mask) for info in infos if info.key in stored}


def same(found: dict[int, Any], wanted: dict[int, Any]) -> bool:
    return found.keys() == wanted.keys() and all(np.array_equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("engine", ["sqlite", "redis"])
def test_after_kills_at_random_moments_the_examples_are_the_approved_masks(
    engine: str,
    fake_label_studio: FakeLabelStudio,
    tmp_path: Path,
    checkpoint_file: Path,
    redis_installed: None,
) -> None:
    chance = random.Random(f"{engine} {ROUNDS}")  # noqa: S311 - reproducible on purpose
    settings = {
        "LABEL_STUDIO_URL": fake_label_studio.url, "LABEL_STUDIO_API_KEY": fake_label_studio.legacy_token,
        "RECONCILE_EVERY": "5", "POOL_SIZE": "1024", "TUNE_EVERY": "0", "PRE_ANNOTATE": "off",
    }  # fmt: skip
    with ExitStack() as running:
        redis = RedisServer(tmp_path / "redis")
        running.callback(redis.kill)
        if engine == "redis":
            redis.start()
            settings["REDIS_URL"] = redis.url
        served = Served(tmp_path, checkpoint_file, **settings)
        running.callback(served.stop)
        people = Annotators(fake_label_studio, f"http://127.0.0.1:{served.port}", chance)
        for _ in range(ROUNDS):
            working = threading.Thread(target=people.act, args=(APPROVALS // ROUNDS,))
            working.start()
            time.sleep(chance.uniform(0.0, 1.5))
            victim = chance.choice(["serve", "worker", engine])
            kill(victim, served, redis)
            working.join()
            if victim == "redis":
                redis.start()
            if served.process.poll() is not None:
                served.start()
        key = f"{people.project}.1767225601"
        file = tmp_path / "data" / "store.sqlite3"
        with closing(RedisStore(redis.url) if engine == "redis" else SqliteStore(file)) as store:
            until(lambda: same(examples_of(store, key), people.masks), COMPARED)
            assert {approval.annotation for approval in store.approvals(key)} == set(people.masks)
            until(lambda: not store.pending_events(), COMPARED)
            assert same(examples_of(store, key), people.masks)


def kill(what: str, served: Served, redis: RedisServer) -> None:
    """As a crash would; the SQLite engine has no process of its own, so the server dies for it."""
    if what == "redis":
        redis.kill()
    elif what == "worker":
        for worker in served.workers():
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
    else:
        served.process.kill()
        served.process.wait()
