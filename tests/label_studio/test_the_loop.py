"""Approve, predict, correct, withdraw: the main job against a real Label Studio."""

import pytest

from backend.demo.pictures import LABELS, draw
from tests.label_studio.conftest import MakeStage, StartBackend
from tests.label_studio.stage import (
    WITHOUT_EVENT_SECONDS,
    RunningBackend,
    RunningLabelStudio,
    Stage,
    eventually,
    labels_of,
)

RED, WHITE = LABELS


@pytest.fixture(scope="module")
def asked_only(label_studio: RunningLabelStudio, start_backend: StartBackend) -> RunningBackend:
    """A backend that predicts nothing ahead: what it predicts, Label Studio has asked for."""
    return start_backend(
        {
            "LABEL_STUDIO_URL": label_studio.url,
            "LABEL_STUDIO_API_KEY": label_studio.personal_token,
            "PRE_ANNOTATE": "off",
            "DEVICE": "cpu",
            "OMP_NUM_THREADS": "1",
        }
    )


def test_connecting_registers_the_webhook(stage: Stage) -> None:
    (connected,) = stage.session.backends(stage.id)
    (webhook,) = stage.session.webhooks(stage.id)

    assert connected["state"] == "CO"
    assert webhook["url"] == f"{stage.backend.url}/webhook"
    assert webhook["is_active"]


def test_nothing_is_predicted_before_the_first_approval(stage: Stage) -> None:
    tasks = list(stage.pictures)

    stage.session.retrieve_predictions(stage.id, tasks)

    assert stage.session.open_task(tasks[0])["predictions"] == []
    assert [stage.session.predictions(task) for task in tasks] == [[]] * len(tasks)


def test_an_approved_mask_predicts_the_other_tasks_unasked(stage: Stage) -> None:
    first, *others = stage.pictures

    annotation = stage.approve(first)

    stage.wait_taught((annotation, RED), (annotation, WHITE))
    predictions = stage.wait_predicted(*others)
    for prediction in predictions.values():
        assert labels_of(prediction) <= set(LABELS)
        assert 0 <= prediction["score"] <= 1
        assert all(region["origin"] == "prediction" for region in prediction["result"])
    for label in LABELS:  # a mask that ignored its examples could be right for one of them at most
        ious = [stage.iou(task, prediction, label) for task, prediction in predictions.items()]
        assert sum(ious) / len(ious) > 0.5, (label, ious)
    assert stage.session.predictions(first) == [], "a task that has its annotation needs no prediction"


def test_only_approved_labels_are_predicted(stage: Stage) -> None:
    first, *others = stage.pictures

    stage.approve(first, [RED])

    for prediction in stage.wait_predicted(*others).values():
        assert labels_of(prediction) <= {RED}


def test_pictures_uploaded_later_are_predicted_unasked(stage: Stage) -> None:
    stage.approve(next(iter(stage.pictures)))

    (late,) = stage.upload([draw(9, width=240, height=180)])

    stage.wait_predicted(late)


def test_what_is_superseded_goes_and_what_others_predicted_stays(stage: Stage) -> None:
    first, second, third, _ = stage.pictures
    region = stage.truth(third, [RED])
    body = {"task": third, "model_version": "another-model", "score": 0.1, "result": region}
    stage.session.call("POST", "/api/predictions/", json=body)
    before = stage.version()
    stage.approve(first)
    old = stage.wait_version_after(before)
    stage.wait_predicted(third)

    stage.approve(second)

    stage.wait_version_after(old)
    stage.wait_predicted(third)
    expected = {stage.version(), "another-model"}
    eventually(
        lambda: {found["model_version"] for found in stage.session.predictions(third)} == expected,
        f"predictions of task {third} under exactly {expected}",
    )


def test_retrieve_asks_once_for_each_version(make_stage: MakeStage, asked_only: RunningBackend) -> None:
    stage = make_stage(backend=asked_only)
    first, *others = stage.pictures
    before = stage.version()
    annotation = stage.approve(first)
    stage.wait_taught((annotation, RED), (annotation, WHITE))
    stage.wait_version_after(before)
    assert [stage.session.predictions(task) for task in others] == [[]] * len(others)

    stage.session.retrieve_predictions(stage.id, others)
    stage.session.retrieve_predictions(stage.id, others)

    for task in others:
        (prediction,) = stage.session.predictions(task)
        assert prediction["model_version"] == stage.version()
        assert stage.iou(task, prediction, RED) > 0.3


def test_opening_a_task_and_the_label_stream_ask(make_stage: MakeStage, asked_only: RunningBackend) -> None:
    stage = make_stage(backend=asked_only)
    first, second, third, _ = stage.pictures
    before = stage.version()
    annotation = stage.approve(first)
    stage.wait_taught((annotation, RED), (annotation, WHITE))
    stage.wait_version_after(before)

    opened = stage.session.open_task(third)
    streamed = stage.session.next_task(stage.id)

    assert [prediction["model_version"] for prediction in opened["predictions"]] == [stage.version()]
    assert streamed["id"] == second
    assert [prediction["model_version"] for prediction in streamed["predictions"]] == [stage.version()]


def test_a_correction_replaces_what_its_annotation_taught(stage: Stage) -> None:
    first, *others = stage.pictures
    first_version = stage.version()
    annotation = stage.approve(first)
    stage.wait_taught((annotation, RED), (annotation, WHITE))
    before = stage.wait_version_after(first_version)

    stage.session.update(annotation, stage.truth(first, [WHITE]))

    stage.wait_taught((annotation, WHITE))
    stage.wait_version_after(before)
    for prediction in stage.wait_predicted(*others).values():
        assert labels_of(prediction) <= {WHITE}


def test_an_annotation_that_is_deleted_teaches_no_more(stage: Stage) -> None:
    first, second, *_ = stage.pictures
    gone, stays = stage.approve(first), stage.approve(second, [RED])
    stage.wait_taught((gone, RED), (gone, WHITE), (stays, RED))

    stage.session.delete_annotation(gone)

    stage.wait_taught((stays, RED))


def test_a_skipped_task_teaches_nothing(stage: Stage) -> None:
    first, second, *_ = stage.pictures
    stage.session.skip(first)

    annotation = stage.approve(second, [RED])

    stage.wait_taught((annotation, RED))


def test_annotations_made_in_bulk_from_predictions_teach_nothing(stage: Stage) -> None:
    first, second, third, fourth = stage.pictures
    before = stage.version()
    annotation = stage.approve(first, [RED])
    version = stage.wait_version_after(before)
    stage.wait_predicted(second, third)

    stage.session.accept_in_bulk(stage.id, [second, third], version)

    later = stage.approve(fourth, [RED])
    stage.wait_taught((annotation, RED), (later, RED))
    assert len(stage.session.annotations(second)) == 1, "the bulk action must have made its annotations"


def test_an_accepted_prediction_is_an_example_of_its_own_kind(stage: Stage) -> None:
    first, second, *_ = stage.pictures
    drawn = stage.approve(first, [RED])
    prediction = stage.wait_predicted(second)[second]

    accepted = stage.session.submit(second, prediction["result"], parent_prediction=prediction["id"])

    stage.wait_taught((drawn, RED), (accepted, RED))
    kinds = {example["annotation"]: example["kind"] for example in stage.examples()}
    assert kinds == {drawn: "drawn", accepted: "accepted"}
    kept = stage.wait_kept(1)
    assert kept == {"count": 1, "mean": 1.0}, "what is accepted as it is has been kept whole"


def test_an_annotation_turned_into_a_draft_is_found_without_an_event(stage: Stage) -> None:
    first, second, *_ = stage.pictures
    gone, stays = stage.approve(first, [RED]), stage.approve(second, [RED])
    stage.wait_taught((gone, RED), (stays, RED))

    stage.session.convert_to_draft(gone)

    stage.wait_taught((stays, RED), seconds=WITHOUT_EVENT_SECONDS)
