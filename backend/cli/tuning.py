"""`tune`: learn prompts now, in this process, with a bar for each; or follow the worker that does."""

import os
import threading
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from backend.cli.main import app, console
from backend.cli.projects import DataDir, Project, built, targets_named
from backend.cli.prompts import FIGURES, shown
from backend.errors import Refused
from backend.label_config import Target
from backend.revision import config_of
from backend.store import TuningRecord

if TYPE_CHECKING:
    from backend.wiring import Backend

_LOOK = 0.5
"""Seconds between two looks at how far the tunings are."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as of a shell."""


@app.command()
def tune(
    project: Project,
    label: Annotated[
        list[str] | None, typer.Option(help="Label to tune; may be given again. None: all with examples.")
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Target to tune, control/image/label; may be given again.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what was stopped.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Learn prompts from approved masks and use what the gate lets through; exit code 1 where one failed or stopped."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a server may share the cores: see `serving`
    with built(data_dir, project) as (backend, key):
        targets = config_of(backend.store.project(key)).targets
        wanted = targets_named(targets, label or (), target or ())
        others = {tuning.id for tuning in backend.store.prompts.tunings(key) if tuning.is_open}
        asked = _resumed(backend, key, wanted) if resume else backend.tunings.ask(key, "command line", wanted)
        labels = _labels(targets, asked)
        interrupted = _Run(backend, asked, labels, others).follow()
        ended = [backend.tunings.get(tuning.id) for tuning in asked]
        console.print(_outcome(backend, ended, labels))
        for tuning in ended:
            why = _LEFT.format(tuning.asked_by) if tuning.is_open else tuning.reason
            said = f"{escape(labels[tuning.id])}: {escape(why)}"
            console.print(said, highlight=False, soft_wrap=True)
    statuses = {tuning.status for tuning in ended}
    if "stopped" in statuses:
        console.print(f"To go on: python -m backend tune {project} --resume", highlight=False)
    if interrupted or statuses & {"failed", "stopped"}:
        raise typer.Exit(INTERRUPTED if interrupted else 1)


class _Run:
    """Tunings that are worked on one after the other in a thread, while this one shows how far they are.

    `others` were open before the command came: what a worker has of them is followed, and left to it after Ctrl-C.
    """

    def __init__(
        self,
        backend: "Backend",
        tunings: Sequence[TuningRecord],
        labels: dict[int, str],
        others: Collection[int],
    ) -> None:
        self._backend = backend
        self._others = others
        self._deciding = threading.Lock()  # what is run here, and what is left to a worker
        self._here: int | None = None
        self._left: set[int] = set()
        self._numbers = [tuning.id for tuning in tunings if tuning.is_open]
        self._labels = labels
        self._trouble: list[BaseException] = []
        # Waited for instead of `join`: Ctrl-C during that makes Python 3.11 take the thread for ended.
        self._ended = threading.Event()

    def follow(self) -> bool:
        """Show bars until all have ended; whether somebody interrupted it.

        Raises:
            BackendError: if the store cannot be used.
        """
        threading.Thread(target=self._work, name="tuning", daemon=True).start()
        interrupted = False
        with _bars() as bars:
            rows = {
                number: bars.add_task(escape(self._labels[number]), total=None, measured="", left="waits")
                for number in self._numbers
            }
            try:
                self._watch(bars, rows)
            except KeyboardInterrupt:
                interrupted = True
                self._stop(bars, rows)
                self._watch(bars, rows)
        if self._trouble:
            raise self._trouble[0]
        return interrupted

    def _watch(self, bars: Progress, rows: dict[int, TaskID]) -> None:
        ended = False
        while not ended:
            ended = self._ended.wait(_LOOK)
            for number, row in rows.items():
                _show(bars, row, self._backend.tunings.get(number))

    def _stop(self, bars: Progress, rows: dict[int, TaskID]) -> None:
        """Ask what was asked for or is run here to stop; each keeps what it needs to go on first."""
        bars.console.print("Stopping: what has been learned is kept ...")
        with self._deciding:
            self._left = {number for number in rows if number in self._others and number != self._here}
        for number in rows.keys() - self._left:
            with suppress(Refused):  # it has ended
                self._backend.tunings.stop(number)

    def _takes(self, number: int) -> bool:
        """Whether a tuning is to be run here now; one that a worker has is left to it."""
        with self._deciding:
            if number in self._left or self._backend.store.held(f"tuning:{number}"):
                return False
            self._here = number
            return True

    def _work(self) -> None:
        from backend import jobs

        try:
            queue = jobs.Jobs(self._backend.settings, self._backend)
            for number in self._numbers:
                while number not in self._left and self._backend.tunings.get(number).is_open:
                    if self._takes(number):
                        jobs.tune(self._backend, queue, number)
                        self._here = None  # where a worker was quicker it is still open, and not run here
                    else:
                        time.sleep(_LOOK)
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits for this one
            self._trouble.append(error)
        finally:
            self._ended.set()


# -- what is shown -------------------------------------------------------------------------------------------------
def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[measured]}"),
        TextColumn("{task.fields[left]}"),
        console=console,
    )


def _show(bars: Progress, row: TaskID, tuning: TuningRecord) -> None:
    measured = [] if tuning.loss is None else [f"loss {tuning.loss:.4f}"]
    if tuning.validation_iou is not None:
        measured.append(f"IoU {tuning.validation_iou:.3f}")
    left: str = "waits" if tuning.status == "queued" else tuning.status
    if tuning.status == "running" and tuning.seconds_left is not None:
        left = f"{timedelta(seconds=round(tuning.seconds_left))} left"
    done = tuning.steps if tuning.status == "done" else tuning.step  # it may have had no need of all
    total = tuning.steps or None
    bars.update(row, completed=done, total=total, measured=", ".join(measured), left=left)


def _outcome(backend: "Backend", tunings: Sequence[TuningRecord], labels: dict[int, str]) -> Table:
    """What came of each tuning; what was measured is the prompt's."""
    table = Table("label", "outcome", "prompt")
    for heading in FIGURES.values():
        table.add_column(heading, justify="right")
    for tuning in tunings:
        outcome, number, figures = _COLOURED.get(tuning.status, tuning.status), "", [""] * len(FIGURES)
        if tuning.prompt is not None:
            prompt = backend.prompts.get(tuning.project, tuning.prompt)
            outcome = "[green]in use[/green]" if prompt.status == "active" else "not used"
            number = str(prompt.number)
            figures = [shown(prompt.figures.get(name), signed=name == "gain") for name in FIGURES]
        table.add_row(escape(labels[tuning.id]), outcome, number, *figures)
    return table


_COLOURED = {"failed": "[red]failed[/red]", "stopped": "[yellow]stopped[/yellow]"}
_LEFT = "Goes on: it was asked for by '{}', and is left to the worker."


# -- what is meant -------------------------------------------------------------------------------------------------
def _resumed(backend: "Backend", key: str, targets: Collection[str] | None) -> list[TuningRecord]:
    """The open tuning of each target, or its last one where that was stopped; queued again.

    Raises:
        Refused: if there is none.
    """
    oldest_first = backend.store.prompts.tunings(key)[::-1]
    last = {tuning.target: tuning for tuning in sorted(oldest_first, key=lambda tuning: tuning.is_open)}
    found = []
    for target, tuning in last.items():
        if targets is not None and target not in targets:
            continue
        if tuning.status == "stopped":
            found.append(backend.tunings.resume(tuning.id))
        elif tuning.is_open:
            found.append(tuning)
    if not found:
        raise Refused("No tuning was stopped.", remedy="Without --resume a new one is begun.")
    return found


def _labels(targets: Sequence[Target], tunings: Sequence[TuningRecord]) -> dict[int, str]:
    """What each tuning is called: its label, or its target where several have that label or none."""
    labels = [target.label for target in targets]
    names = {target.id: target.label for target in targets if labels.count(target.label) == 1}
    return {tuning.id: names.get(tuning.target, tuning.target) for tuning in tunings}
