"""Projects that change, stand side by side, hold broken pictures or get their tasks from elsewhere."""

from backend.demo.pictures import LABELS, draw
from backend.demo.session import brush_region
from tests.label_studio.conftest import LABEL_CONFIG, MakeStage
from tests.label_studio.stage import WITHOUT_EVENT_SECONDS, Stage, eventually, labels_of

RED, WHITE = LABELS


def test_a_label_added_to_the_config_is_learned_beside_the_old_ones(stage: Stage) -> None:
    first, second, *others = stage.pictures
    annotation = stage.approve(first)
    stage.wait_taught((annotation, RED), (annotation, WHITE))
    before = stage.version()
    wider = LABEL_CONFIG.replace("</BrushLabels>", '<Label value="Blutplättchen"/></BrushLabels>')

    stage.session.change_project(stage.id, label_config=wider)

    eventually(lambda: stage.version() != before, "a version for the new labels")
    mask = stage.pictures[second].masks[WHITE]
    added = stage.session.submit(second, [brush_region(mask, "Blutplättchen")])
    stage.wait_taught((annotation, RED), (annotation, WHITE), (added, "Blutplättchen"))
    for prediction in stage.wait_predicted(*others).values():
        assert labels_of(prediction) <= {RED, WHITE, "Blutplättchen"}


def test_a_label_taken_out_of_the_config_is_predicted_no_more(stage: Stage) -> None:
    first, *others = stage.pictures
    annotation = stage.approve(first)
    stage.wait_predicted(*others)
    stage.session.delete_annotation(annotation)
    narrower = LABEL_CONFIG.replace('<Label value="white cell" background="#6e56cf"/>', "")

    stage.session.change_project(stage.id, label_config=narrower)

    annotation = stage.session.submit(first, stage.truth(first, [RED]))
    stage.wait_taught((annotation, RED))
    stage.wait_predicted(*others, where=lambda prediction: labels_of(prediction) <= {RED})


def test_a_config_with_nothing_to_segment_connects_and_predicts_nothing(make_stage: MakeStage) -> None:
    choices = '<Choices name="c" toName="image"><Choice value="a"/></Choices>'
    choices = f'<View><Image name="image" value="$image"/>{choices}</View>'
    stage = make_stage(pictures=2, label_config=choices)
    tasks = list(stage.pictures)

    stage.session.retrieve_predictions(stage.id, tasks)

    assert stage.version(), "Label Studio is content with it"
    assert [stage.session.predictions(task) for task in tasks] == [[], []]


def test_projects_learn_apart(make_stage: MakeStage) -> None:
    one, other = make_stage(pictures=2), make_stage(pictures=2)
    (first, second), (third, fourth) = one.pictures, other.pictures
    annotation = one.approve(first, [RED])
    one.wait_predicted(second)

    other.session.retrieve_predictions(other.id, [third, fourth])

    assert other.taught() == set()
    assert [other.session.predictions(task) for task in (third, fourth)] == [[], []]
    answer = other.approve(third, [WHITE])
    other.wait_taught((answer, WHITE))
    assert labels_of(other.wait_predicted(fourth)[fourth]) <= {WHITE}
    assert one.taught() == {(annotation, RED)}


def test_a_picture_that_cannot_be_read_costs_only_its_own_task(stage: Stage) -> None:
    first, *others = stage.pictures
    broken = stage.session.upload(stage.id, {"broken.png": draw(5).png()[:2000]})
    missing = stage.session.import_tasks(stage.id, [{"data": {"image": f"/data/upload/{stage.id}/none.png"}}])
    bad = [*broken, *missing]

    stage.approve(first)
    stage.wait_predicted(*others)
    stage.session.retrieve_predictions(stage.id, [*bad, *others])

    stage.wait_predicted(*others)

    def reasons() -> list[str]:
        states = stage.backend.get(f"/api/projects/{stage.key}/tasks")
        return [row["reason"] for row in states if row["task"] in bad and row["status"] == "failed"]

    eventually(lambda: len(reasons()) == len(bad), "both have failed")
    assert all(reasons())
    assert [stage.session.predictions(task) for task in bad] == [[], []]


def test_annotations_that_come_with_an_import_are_found_without_an_event(stage: Stage) -> None:
    first, second, *_ = stage.pictures
    image = stage.session.open_task(first)["data"]["image"]

    (task,) = stage.session.import_tasks(
        stage.id, [{"data": {"image": image}, "annotations": [{"result": stage.truth(first, [RED])}]}]
    )

    (annotation,) = stage.session.annotations(task)
    stage.wait_taught((annotation["id"], RED), seconds=WITHOUT_EVENT_SECONDS)
    assert labels_of(stage.wait_predicted(second)[second]) <= {RED}


def test_annotations_of_deleted_tasks_teach_no_more(stage: Stage) -> None:
    first, second, third, fourth = stage.pictures
    gone, also_gone, stays = (stage.approve(task, [RED]) for task in (first, second, third))
    stage.wait_taught((gone, RED), (also_gone, RED), (stays, RED))

    stage.session.delete_task(first)
    stage.wait_taught((also_gone, RED), (stays, RED))
    stage.session.act("delete_tasks", stage.id, [second])

    stage.wait_taught((stays, RED))
    stage.wait_predicted(fourth)


def test_a_deleted_project_disturbs_no_other(make_stage: MakeStage) -> None:
    gone, stays = make_stage(pictures=2), make_stage(pictures=3)
    gone.approve(next(iter(gone.pictures)), [RED])
    first, second, third = stays.pictures
    stays.approve(first, [RED])
    stays.wait_predicted(second, third)

    gone.session.delete_project(gone.id)

    annotation = stays.approve(second, [RED])
    eventually(lambda: (annotation, RED) in stays.taught(), "an example in the project that stays")
    stays.wait_predicted(third)
