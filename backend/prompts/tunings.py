"""Tunings: which are due, and one from its record to a judged version; knows no queue and no Label Studio."""

import json
import logging
import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from backend import choosing, revision, unpacking
from backend.calibrations import read_whole
from backend.errors import BackendError, NotFound, Refused, StoreError
from backend.label_config import Target
from backend.prompts.judging import EVERYTHING, blind_iou, decide
from backend.prompts.meanwhile import Beginning
from backend.prompts.seen import note_tasks
from backend.prompts.watching import STOPPED, Watch
from backend.revision import Snapshot
from backend.settings import Settings
from backend.store import ExampleInfo, PromptRecord, Store, TuningRecord
from backend.store.records import TuningStatus
from backend.store.tensors import PromptCard, PromptFile, pack_prompt
from model.device import DeviceMemoryError
from model.example import Example
from model.gate import Choose, GatedTuning, Incumbent, Judged, Verdict
from model.segmenter import Segmenter
from model.tuning import FEWEST, Tuned, TuningConfig, TuningError

log = logging.getLogger(__name__)

MOST = 64
"""Examples that a tuning takes, the newest ones."""

_STARTS = 4  # a tuning that ended its worker so often without getting further is given up


@dataclass(frozen=True)
class Ended:
    """What a run of a tuning came to.

    Attributes:
        tuning: its record now.
        moved: whether a version was activated, and with it the revision.
    """

    tuning: TuningRecord
    moved: bool = False


class Tunings:
    """Asks for tunings and runs them, one at a time a target."""

    def __init__(self, store: Store, segmenter: Segmenter, settings: Settings) -> None:
        self._store = store
        self._segmenter = segmenter
        self._settings = settings

    # -- asking --------------------------------------------------------------------------------------------------
    def ask(
        self, project: str, asked_by: str, targets: Collection[str] | None = None, *, news_only: bool = False
    ) -> list[TuningRecord]:
        """Queue a tuning for each target that has examples.

        A target with too few examples gets a record that says so. One that is being tuned already gets no second
        record: the open one is returned.

        Args:
            project: project key.
            asked_by: a few words for people.
            targets: target ids; None for all that something has been approved of.
            news_only: leave out targets whose tuning would say what their last one said, see `due`.

        Raises:
            NotFound: if the project is unknown.
            Refused: if it has no such target, or nothing has been approved yet.
        """
        snapshot = self._snapshot(project)
        if snapshot.record is None:
            raise NotFound(f"Project {project} has never been seen.")
        known = {target.id: target for target in snapshot.config.targets}
        if unknown := sorted(set(targets or ()) - set(known)):
            raise Refused(
                f"The project has no target '{unknown[0]}'.",
                remedy=f"Its targets: {', '.join(known) or 'none'}.",
            )
        wanted = [
            target
            for target in known
            if (target in targets if targets is not None else snapshot.pool.get(target))
        ]
        if not wanted:
            raise Refused("Nothing has been approved yet: there is nothing to learn from.")
        if news_only:
            wanted = [target for target in wanted if self._is_news(snapshot, known[target])]
        return [self._ask(snapshot, known[target], asked_by) for target in wanted]

    def due(self, project: str) -> list[TuningRecord]:
        """Queue what the schedule asks for: `TUNE_EVERY` approvals or `TUNE_INTERVAL` hours after the last time.

        Targets are left out that have too few examples, or whose examples, checkpoint and settings are those of their
        last tuning that was done. While a tuning of the project is open nothing is due: what is approved meanwhile
        counts for the next one.
        """
        if not self._is_due(project):
            return []
        snapshot = self._snapshot(project)
        return [
            self._ask(snapshot, target, "schedule")
            for target in snapshot.config.targets
            if len(usable(snapshot.pool.get(target.id, ()))) >= FEWEST and self._is_news(snapshot, target)
        ]

    def stop(self, number: int) -> TuningRecord:
        """Ask a tuning to stop; it keeps what it needs to go on.

        Raises:
            NotFound: if there is no such tuning.
            Refused: if it neither waits nor runs.
        """
        tuning = self.get(number)
        if not tuning.is_open:
            raise Refused(f"Tuning {number} is {tuning.status}: there is nothing to stop.")
        self._store.prompts.ask_stop(number)
        if tuning.status == "queued":
            self._close(tuning, "stopped", STOPPED if tuning.started else "Stopped before it ran.")
        return self.get(number)

    def resume(self, number: int) -> TuningRecord:
        """Queue a stopped tuning again; it goes on from where it was.

        Raises:
            NotFound: if there is no such tuning.
            Refused: if it is not stopped, or another one of its target waits or runs.
        """
        tuning = self.get(number)
        if tuning.status != "stopped":
            raise Refused(f"Tuning {number} is {tuning.status}, not stopped.")
        if not self._store.prompts.reopen_tuning(number):
            raise Refused(f"Another tuning of target {tuning.target} waits or runs.")
        return self.get(number)

    def get(self, number: int) -> TuningRecord:
        """A tuning's record.

        Raises:
            NotFound: if there is none of this id.
        """
        if (tuning := self._store.prompts.tuning(number)) is None:
            raise NotFound(f"There is no tuning {number}.")
        return tuning

    # -- running -------------------------------------------------------------------------------------------------
    def run(self, number: int, keep_going: Callable[[], bool]) -> Ended:
        """Run a tuning from its start, or from where it was, to its end; whatever comes of it is in its record.

        Args:
            number: the tuning's id; only one run of it may be on at a time.
            keep_going: called after every update; it may wait. False interrupts: the tuning stays queued and goes on
                with the next run.

        Raises:
            NotFound: if there is no such tuning.
            StoreError: if the store cannot be used.
        """
        tuning = self.get(number)
        if not tuning.is_open:
            return Ended(tuning)
        if tuning.stop:
            return self._close(tuning, "stopped", STOPPED)
        starts = int(self._store.note(f"tuning-starts:{number}") or 0) + 1
        if starts > _STARTS:
            return self._close(tuning, "failed", f"The worker ended {_STARTS} times without getting further.")
        self._store.set_note(f"tuning-starts:{number}", str(starts))
        self._store.set_note(f"tuning-settings:{number}", self._settings_now())
        try:
            return self._run(tuning, keep_going)
        except StoreError:
            raise
        except (TuningError, DeviceMemoryError, BackendError) as error:
            return self._close(self.get(number), "failed", str(error))
        except Exception as error:  # it must not be tried for ever
            log.exception("tuning %d failed", number)
            return self._close(self.get(number), "failed", f"{type(error).__name__}: {error}")

    def _run(self, tuning: TuningRecord, keep_going: Callable[[], bool]) -> Ended:
        snapshot = self._snapshot(tuning.project)
        target = _target(snapshot, tuning.target)
        state = self._store.prompts.tuning_state(tuning.id)
        if state is None or not self._goes_on(tuning):
            infos = usable(snapshot.pool.get(target.id, ()))
            note_tasks(self._store, tuning.id, infos)
            state, keys = None, tuple(info.key for info in infos)
            tuning = replace(tuning, examples=keys, checkpoint=self._segmenter.identity, step=0)
        now = time.time()
        tuning = replace(tuning, status="running", started=tuning.started or now, updated=now, reason="")
        self._store.prompts.put_tuning(tuning)
        beginning = Beginning.of(self._store, snapshot, target.id, tuning.examples)
        examples, choose = self._examples(tuning.examples)

        def work(resume: bytes | None) -> tuple[Judged | None, GatedTuning, Watch]:
            gated = self._gated(snapshot, target, examples, beginning.incumbent, choose)
            watch = Watch(self._store, tuning, gated.save, keep_going)
            return gated.run(watch, resume=resume), gated, watch

        try:
            judged, gated, watch = work(state)
        except TuningError as error:
            if state is None:
                raise
            log.info("tuning %d begins anew: %s", tuning.id, error)
            judged, gated, watch = work(None)
        if judged is None:
            return self._close(self.get(tuning.id), *watch.ended)
        done = gated.progress
        tuning = replace(self.get(tuning.id), step=done.step, steps=done.steps)
        return self._conclude(tuning, target, judged, blind_iou(examples), beginning)

    def _gated(
        self,
        snapshot: Snapshot,
        target: Target,
        examples: Sequence[Example],
        incumbent: Incumbent | None,
        choose: Choose,
    ) -> GatedTuning:
        config = TuningConfig(steps=self._settings.tune_steps)
        whole = read_whole(self._store, snapshot.project, self._segmenter.identity)
        nearer = self._settings.zoom == "auto" and target.id not in whole
        shots = self._settings.shots
        return GatedTuning(self._segmenter, examples, config, shots, incumbent, nearer, choose)

    def _goes_on(self, tuning: TuningRecord) -> bool:
        """Whether what was kept of a tuning still fits: nothing that it learns from was withdrawn meanwhile."""
        known = self._store.examples(tuning.examples)
        return tuning.checkpoint == self._segmenter.identity and len(known) == len(tuning.examples) > 0

    def _conclude(
        self, tuning: TuningRecord, target: Target, judged: Judged, blind: float, beginning: Beginning
    ) -> Ended:
        """Keep the candidate, and use it where the gate lets it through: it is judged by what is so now."""
        snapshot, gate = self._snapshot(tuning.project), self._settings.tune_gate
        verdict, now = beginning.still(judged.verdict, snapshot), time.time()
        withdrawn = beginning.withdrawn(self._store, snapshot)
        objection = beginning.objection(
            self._store, snapshot, judged.tuned, verdict.uses, compare=gate > EVERYTHING
        )
        if withdrawn:
            objection = f"{len(withdrawn)} of its examples were withdrawn meanwhile"
        passed, reason = decide(verdict, blind, gate, objection, is_known=beginning.is_known)
        prompt = PromptRecord(
            project=tuning.project,
            number=0,
            target=target.id,
            label=target.label,
            checkpoint=tuning.checkpoint,
            status="candidate",
            uses=verdict.uses,
            origin="tuned",
            created=now,
            figures={**_figures(verdict, judged.tuned, len(tuning.examples)), "blind_iou": blind},
            examples=tuning.examples,
            withdrawn=withdrawn,
            reason=reason,
        )
        if passed and (why := revision.unfit(prompt, snapshot.config, self._segmenter.identity)) is not None:
            passed, prompt = False, replace(prompt, reason=why)
        card = PromptCard(
            checkpoint=prompt.checkpoint,
            label=prompt.label,
            kind=target.kind,
            uses=prompt.uses,
            examples=len(prompt.examples),
            figures=prompt.figures,
            created=datetime.fromtimestamp(now, UTC).date().isoformat(),
        )
        content = pack_prompt(PromptFile(judged.tuned.image, judged.tuned.mask, card))
        done = replace(tuning, status="done", ended=now, updated=now, seconds_left=0.0, reason=prompt.reason)
        kept = self._store.prompts.add_prompt(prompt, content, tuning=done, activate=passed)
        log.info("project %s: prompt %d of '%s': %s", kept.project, kept.number, kept.label, kept.reason)
        return Ended(self.get(tuning.id), moved=passed)

    # -- inside --------------------------------------------------------------------------------------------------
    def _snapshot(self, project: str) -> Snapshot:
        return revision.take(self._store, project, self._segmenter.identity)

    def _ask(self, snapshot: Snapshot, target: Target, asked_by: str) -> TuningRecord:
        prompts, now = self._store.prompts, time.time()
        while (tuning := prompts.add_tuning(snapshot.project, target.id, asked_by, now)) is None:
            for one in prompts.tunings(snapshot.project):
                if one.target == target.id and one.is_open:
                    return one  # where there is none, it has ended this moment
        count = len(usable(snapshot.pool.get(target.id, ())))
        return tuning if count >= FEWEST else self._close(tuning, "failed", _too_early(target, count)).tuning

    def _is_news(self, snapshot: Snapshot, target: Target) -> bool:
        """Whether a tuning would say anything else than the target's last one said; where not, the log says so."""
        tunings = [one for one in self._store.prompts.tunings(snapshot.project) if one.target == target.id]
        keys = {info.key for info in usable(snapshot.pool.get(target.id, ()))}
        done = next((one for one in tunings if one.status == "done"), None)
        if len(keys) < FEWEST:
            said = _too_early(target, len(keys))
            news = not tunings or tunings[0].reason != said
        elif done is not None:
            said = f"'{target.label}' is not tuned again: its examples are those of tuning {done.id}."
            made = (set(done.examples), done.checkpoint, self._store.note(f"tuning-settings:{done.id}"))
            news = made != (keys, self._segmenter.identity, self._settings_now())
        else:
            return True
        if not news:
            log.info("project %s: %s", snapshot.project, said)
        return news

    def _settings_now(self) -> str:
        """The settings that a prompt and its judgement depend on."""
        now = self._settings
        judged = f"{now.tune_steps} {now.tune_gate} {now.shots} {now.ensemble} {now.zoom} {now.edges}"
        return f"{judged} {now.sequence_key} {now.frame_key}"  # near frames are examples that it must beat

    def _is_due(self, project: str) -> bool:
        record = self._store.project(project)
        if record is None:
            return False
        now, name = time.time(), f"tuned:{project}"
        last = json.loads(self._store.note(name) or "null")
        if last is None:
            last = {"approvals": 0, "at": now}
            self._store.set_note(name, json.dumps(last))
        every, hours = self._settings.tune_every, self._settings.tune_interval
        fresh = record.approvals - last["approvals"]
        by_count = bool(every) and fresh >= every
        by_time = bool(hours) and fresh > 0 and now - last["at"] >= hours * 3600
        if not (by_count or by_time) or any(one.is_open for one in self._store.prompts.tunings(project)):
            return False
        self._store.set_note(name, json.dumps({"approvals": record.approvals, "at": now}))
        return True

    def _close(self, tuning: TuningRecord, status: TuningStatus, reason: str) -> Ended:
        now = time.time()
        ended = None if status == "queued" else now
        tuning = replace(tuning, status=status, ended=ended, updated=now, reason=reason)
        self._store.prompts.put_tuning(tuning)
        return Ended(self.get(tuning.id))

    def _examples(self, keys: Collection[str]) -> tuple[list[Example], Choose]:
        """The examples of these keys, and how predictions would choose among them."""
        found = self._store.examples(keys)
        stored = [found[key] for key in keys if key in found]
        choose = choosing.among([one.info for one in stored], self._settings)
        return [unpacking.example(one) for one in stored], choose


def usable(pool: Sequence[ExampleInfo]) -> list[ExampleInfo]:
    """What a target's pool gives to learn from: the newest example of each task, of the newest tasks, oldest first."""
    return list({info.task: info for info in pool}.values())[-MOST:]


def _too_early(target: Target, count: int) -> str:
    return f"It is too early to tune '{target.label}': {count} examples, at least {FEWEST} are needed."


def _target(snapshot: Snapshot, wanted: str) -> Target:
    for target in snapshot.config.targets:
        if target.id == wanted:
            return target
    raise Refused(f"Target {wanted} is no longer in the labeling config.")


def _figures(verdict: Verdict, tuned: Tuned, examples: int) -> dict[str, float | None]:
    figures = {
        "examples": float(examples),
        "masks_judged": float(verdict.masks),
        "context_iou": verdict.context_iou,
        "prompt_iou": verdict.prompt_iou,
        "both_iou": verdict.both_iou,
        "incumbent_iou": verdict.incumbent_iou,
        "rival_iou": verdict.rival_iou,
        "gain": verdict.gain,
        "validation_iou": tuned.validation_iou,
        "best_step": float(tuned.step),
        "object_side": tuned.object_side,
    }
    return {
        name: value if value is not None and math.isfinite(value) else None for name, value in figures.items()
    }
