"""`tune`: runs here or follows the worker, shows how far it is, can be interrupted and gone on with."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backend import jobs
from backend.cli import tuning as command
from backend.errors import StoreError
from backend.store.leases import leased
from model.segmenter import Query
from tests.backend.stage import Run, Stage, blob, brush

TWO_LABELS = (
    '<View><Image name="image" value="$image"/>'
    '<BrushLabels name="tag" toName="image"><Label value="cell"/><Label value="dust"/></BrushLabels></View>'
)


def bright(_: Any, queries: Sequence[Query]) -> list[NDArray[np.float32]]:
    """In place of `Segmenter.segment`: finds `blob`'s disc by examples and by prompts alike, so that the gate opens."""
    return [np.where(query.image.max(axis=-1) > 100, 0.9, 0.05).astype(np.float32) for query in queries]


@pytest.fixture
def project(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> str:
    """A project with four approvals, and settings under which a tuning takes a moment."""
    monkeypatch.setenv("DATA_DIR", str(stage.settings.data_dir))
    monkeypatch.setenv("TUNE_STEPS", "2")
    monkeypatch.setenv("ZOOM", "off")
    monkeypatch.setattr(command, "_LOOK", 0.02)
    monkeypatch.setattr("model.segmenter.Segmenter.segment", bright)
    for seed in range(4):
        stage.approve(seed)
    return str(stage.project)


def last_row(out: str) -> list[str]:
    (*_, line) = [line for line in out.splitlines() if line.startswith("│")]
    return [cell.strip() for cell in line.split("│")[1:-1]]


def test_a_prompt_is_learned_and_used_and_the_table_says_what_came_of_it(
    run: Run, stage: Stage, project: str
) -> None:
    code, out, _ = run("tune", project)
    assert code == 0
    (tuning,), (prompt,) = stage.tunings, stage.prompts
    assert (tuning.status, tuning.asked_by, prompt.status) == ("done", "command line", "active")
    row = last_row(out)
    assert row[:3] == ["cell", "in use", "1"]
    figures = [prompt.figures[name] for name in ("context_iou", "prompt_iou", "both_iou")]
    assert row[3:7] == [*(f"{value:.3f}" for value in figures), f"{prompt.figures['gain']:+.3f}"]
    assert out.splitlines()[-1] == f"cell: {prompt.reason}"


def test_the_bar_says_how_far_it_is(
    run: Run, stage: Stage, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into a file goes what a terminal shows last."""
    monkeypatch.setattr("backend.prompts.watching.NOTE_EVERY", 0.0)
    code, out, _ = run("tune", project)
    assert code == 0
    (tuning,) = stage.tunings
    bar, *_ = out.splitlines()
    assert bar.startswith("cell ")
    assert f" {tuning.steps}/{tuning.steps} " in bar
    assert f"loss {tuning.loss:.4f}" in bar
    assert f"IoU {tuning.validation_iou:.3f}" in bar
    assert bar.rstrip().endswith("done")


def test_what_the_gate_kept_out_is_no_failure(
    run: Run, stage: Stage, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNE_GATE", "1")
    code, out, _ = run("tune", project)
    assert code == 0
    assert last_row(out)[:3] == ["cell", "not used", "1"]
    assert stage.prompts[0].status == "candidate"


def test_too_early_is_a_failure_that_says_how_many_are_needed(run: Run, stage: Stage, project: str) -> None:
    stage.delete(stage.pool[0])
    stage.work()
    code, out, _ = run("tune", project)
    assert code == 1
    assert last_row(out)[:3] == ["cell", "failed", ""]
    assert "3 examples, at least 4 are needed" in out.splitlines()[-1]


def approve_dust(stage: Stage) -> None:
    """Four masks of a second label."""
    stage.label_studio.projects[stage.project]["label_config"] = TWO_LABELS
    stage.setup()
    for seed in range(4):
        image, mask = blob(20 + seed)
        stage.submit(stage.upload(image), brush(mask, "dust"))
    stage.work()


def test_labels_are_tuned_that_are_named(run: Run, stage: Stage, project: str) -> None:
    approve_dust(stage)
    code, out, _ = run("tune", project, "--label", "dust")
    assert code == 0
    assert [tuning.target for tuning in stage.tunings] == ["tag/image/dust"]
    code, out, _ = run("tune", project, "--target", "tag/image/cell", "--label", "dust")
    assert code == 0
    assert sorted(tuning.target for tuning in stage.tunings[:2]) == ["tag/image/cell", "tag/image/dust"]
    rows = [line.split("│") for line in out.splitlines() if line.startswith("│")]
    assert [(row[1].strip(), row[2].strip()) for row in rows] == [("cell", "in use"), ("dust", "not used")]
    assert "it is the very same as prompt 1, which is in use" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--label", "none"), "it has: 'cell'"),
        (("--target", "tag/image/none"), "it has: 'tag/image/cell'"),
        (("--resume",), "No tuning was stopped"),
    ],
)
def test_what_cannot_be_tuned_is_one_line(
    run: Run, stage: Stage, project: str, options: tuple[str, ...], said: str
) -> None:
    code, out, err = run("tune", project, *options)
    assert (code, out) == (1, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert stage.tunings == []


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C is heard, whatever the shell that started the tests, or a test before, made of it."""
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, kept)


@pytest.mark.usefixtures("ctrl_c")
def test_interrupted_it_keeps_what_it_has_and_says_how_to_go_on(
    run: Run, stage: Stage, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes while the command waits: there, Python 3.11 took a thread that it joined for ended."""
    monkeypatch.setenv("TUNE_STEPS", "8")
    monkeypatch.setattr("backend.prompts.watching.NOTE_EVERY", 0.0)
    monkeypatch.setattr(command, "_LOOK", 0.5)
    may_go_on, updates = jobs._may_go_on, iter(range(1000))

    def press(*given: Any) -> bool:
        if next(updates) == 3:  # Ctrl-C; no further update before it is heard, however fast the machine is
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            heard = time.monotonic() + 300
            while not stage.tunings[0].stop and time.monotonic() < heard:
                time.sleep(0.01)
        return may_go_on(*given)

    monkeypatch.setattr(jobs, "_may_go_on", press)  # called after every update
    code, out, _ = run("tune", project)
    assert code == 130
    assert f"python -m backend tune {project} --resume" in out
    assert last_row(out)[:2] == ["cell", "stopped"]
    (stopped,) = stage.tunings
    assert stopped.status == "stopped"
    assert 2 < stopped.step < stopped.steps
    assert stage.backend.store.prompts.tuning_state(stopped.id) is not None

    steps: list[int] = []
    monkeypatch.setattr(command, "_show", lambda _bars, _row, tuning: steps.append(tuning.step))
    code, out, _ = run("tune", project, "--resume")
    assert code == 0
    assert min(steps) >= stopped.step
    (done,) = stage.tunings  # the same one
    assert (done.status, stage.prompts[0].status) == ("done", "active")


def test_one_that_was_cut_off_is_gone_on_with_too(run: Run, stage: Stage, project: str) -> None:
    """A second Ctrl-C, or a worker that was killed, leaves a record that says it runs."""
    (tuning,) = stage.backend.tunings.ask(stage.key, "a test")
    assert run("tune", project, "--resume")[0] == 0
    assert [(done.id, done.status) for done in stage.tunings] == [(tuning.id, "done")]


def test_a_tuning_that_the_worker_has_is_followed_to_its_end(
    run: Run, stage: Stage, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tuning,) = stage.backend.tunings.ask(stage.key, "a test")
    taken, shown = threading.Event(), threading.Event()
    bars: Callable[[], Any] = command._bars

    def working() -> None:
        with leased(stage.backend.store, f"tuning:{tuning.id}", 600):
            taken.set()
            assert shown.wait(300)
            stage.backend.tunings.run(tuning.id, lambda: True)

    def show_bars() -> Any:
        shown.set()
        return bars()

    monkeypatch.setattr(command, "_bars", show_bars)
    monkeypatch.setattr(jobs, "tune", lambda *_: pytest.fail("it was taken from the worker"))
    worker = threading.Thread(target=working)
    worker.start()
    assert taken.wait(300)
    code, out, _ = run("tune", project)
    worker.join()
    assert code == 0
    assert [(done.id, done.status) for done in stage.tunings] == [(tuning.id, "done")]
    assert last_row(out)[0] == "cell"


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_leaves_what_somebody_else_asked_for_to_its_worker(
    run: Run, stage: Stage, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who only looked at the schedule's tuning stopped it with it; what waits behind it was not begun here either."""
    approve_dust(stage)
    cell, dust = stage.backend.tunings.ask(stage.key, "schedule")
    show = command._show

    def press(*given: Any) -> None:
        show(*given)
        monkeypatch.setattr(command, "_show", show)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    monkeypatch.setattr(command, "_show", press)
    with leased(stage.backend.store, f"tuning:{cell.id}", 600):
        code, out, _ = run("tune", project)
    assert code == 130
    assert [stage.backend.tunings.get(one.id).status for one in (cell, dust)] == ["queued", "queued"]
    assert out.splitlines()[-1] == "dust: Goes on: it was asked for by 'schedule', and is left to the worker."
    assert "--resume" not in out


def test_ctrl_c_in_the_moment_in_which_one_is_begun_here_stops_it(
    stage: Stage, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was left to its worker, and run to its end here all the same."""
    (tuning,) = stage.backend.tunings.ask(stage.key, "schedule")
    run = command._Run(stage.backend, [tuning], {tuning.id: "cell"}, {tuning.id})
    held, tune = stage.backend.store.held, jobs.tune
    with command._bars() as bars:
        stop = threading.Thread(
            target=run._stop, args=(bars, {tuning.id: bars.add_task("cell", measured="", left="")})
        )

        def interrupted(name: str) -> bool:
            stop.start()
            stop.join(0.3)
            return held(name)

        def begin(*given: Any) -> None:
            stop.join(300)
            tune(*given)

        monkeypatch.setattr(stage.backend.store, "held", interrupted)
        monkeypatch.setattr(jobs, "tune", begin)
        run._work()
    assert [(one.status, one.started) for one in stage.tunings] == [("stopped", None)]


def test_one_that_a_worker_was_quicker_to_take_is_not_stopped(
    stage: Stage, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tuning,) = stage.backend.tunings.ask(stage.key, "schedule")
    run = command._Run(stage.backend, [tuning], {tuning.id: "cell"}, {tuning.id})
    held, looks = stage.backend.store.held, iter(range(1000))
    with command._bars() as bars, leased(stage.backend.store, f"tuning:{tuning.id}", 600):

        def looked(name: str) -> bool:
            if (look := next(looks)) == 1:
                stop.start()
            return look > 0 and held(name)

        stop = threading.Thread(
            target=run._stop, args=(bars, {tuning.id: bars.add_task("cell", measured="", left="")})
        )
        monkeypatch.setattr(stage.backend.store, "held", looked)
        run._work()
        stop.join(300)
    assert [(one.status, one.stop) for one in stage.tunings] == [("queued", False)]


def test_resume_goes_on_with_the_older_one_where_that_is_open(run: Run, stage: Stage, project: str) -> None:
    """The newest one, stopped as well, was taken, and refused since another one of its label was open."""
    tunings = stage.backend.tunings
    for _ in range(2):
        (asked,) = tunings.ask(stage.key, "a test")
        tunings.stop(asked.id)
    tunings.resume(1)
    assert run("tune", project, "--resume")[0] == 0
    assert [(tuning.id, tuning.status) for tuning in stage.tunings] == [(2, "stopped"), (1, "done")]


def test_trouble_with_the_store_is_one_line(
    run: Run, stage: Stage, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise StoreError("The disk is full.")

    monkeypatch.setattr(jobs, "tune", fail)
    code, _, err = run("tune", project)
    assert code == 1
    assert "The disk is full." in err
    assert len(err.strip().splitlines()) == 1
