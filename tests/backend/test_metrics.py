"""Figures for Prometheus: what happened is what `/metrics` shows."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from backend.metrics import Metrics
from tests.backend.stage import Stage, blob, brush


def figures(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith(("_created", "_bucket"))
    }


def test_two_processes_worth_of_metrics_do_not_share_a_registry() -> None:
    one, two = Metrics(), Metrics()
    one.pending_events.set(5)
    assert b"seggpt_pending_events 5.0" in one.render()
    assert b"seggpt_pending_events 0.0" in two.render()


def test_metrics_show_requests_predictions_events_pools_kept_iou_and_queues(stage: Stage) -> None:
    stage.segment_by_colour()
    stage.predict(*stage.blobs(2, first=20))
    stage.approve(1)
    image, mask = blob(2)
    task = stage.upload(image)
    stage.predict(task, stage.label_studio.add_task(stage.project, image="/data/upload/gone.png"))
    stage.submit(task, brush(mask))
    stage.work()
    stage.event("SOMETHING_NEW")
    stage.event("TASKS_CREATED")
    seen = figures(stage.client.get("/metrics").text)
    assert seen["seggpt_request_seconds_count", "predict"] == 2
    outcomes = {
        name: seen["seggpt_predictions_total", name] for name in ("done", "failed", "unready", "unreached")
    }
    assert outcomes == {"done": 1, "failed": 1, "unready": 2, "unreached": 0}
    assert seen["seggpt_events_total", "ANNOTATION_CREATED"] == 2
    assert seen["seggpt_events_total", "other"] == 1
    assert seen["seggpt_pool_examples", stage.key, stage.target] == 2
    assert seen["seggpt_approvals", stage.key] == 2
    assert seen["seggpt_kept_iou_mean", stage.key] == 1.0
    assert seen["seggpt_kept_iou_count", stage.key] == 1
    assert seen["seggpt_pending_events",] == 1
    assert seen["seggpt_queue_depth", "events"] == 1
    assert (
        seen["seggpt_queue_depth", "tuning"] == 2
    )  # the revision moved twice, and so the pools are measured
    assert seen["seggpt_store_away",] == seen["seggpt_spooled_events",] == 0
    assert seen["seggpt_active_prompts", stage.key] == seen["seggpt_open_tunings", stage.key] == 0


def test_a_target_without_examples_is_shown_no_longer(stage: Stage) -> None:
    annotation = stage.approve(1)
    assert ("seggpt_pool_examples", stage.key, stage.target) in figures(stage.client.get("/metrics").text)
    stage.delete(annotation)
    stage.work()
    assert ("seggpt_pool_examples", stage.key, stage.target) not in figures(stage.client.get("/metrics").text)


def test_a_scrape_loads_neither_kept_ious_nor_events(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each scrape loaded every kept IoU of all projects, and thousands of events with their masks."""
    stage.approve(1)
    stage.event("TASKS_CREATED")

    def loaded(*_: Any, **__: Any) -> None:
        raise AssertionError("all of them were loaded")

    for name in ("kept", "pending_events", "task_states"):
        monkeypatch.setattr(stage.backend.store, name, loaded)
    seen = figures(stage.client.get("/metrics").text)
    assert (seen["seggpt_kept_iou_count", stage.key], seen["seggpt_pending_events",]) == (0, 1)
