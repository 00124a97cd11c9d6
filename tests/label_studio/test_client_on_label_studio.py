"""The client and the image loader against a real Label Studio: what the fake of the other tests claims is true."""

import io
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image

from backend.errors import ImageError, LabelStudioError, Unauthorized
from backend.images import ImageLoader
from backend.label_studio import LabelStudio
from tests.backend.loopback import Answer, LoopbackServer, Request
from tests.label_studio.stage import ANSWER_SECONDS, RunningLabelStudio

CONFIG = (
    '<View><Image name="image" value="$image"/>'
    '<BrushLabels name="tag" toName="image"><Label value="cell"/></BrushLabels></View>'
)
REGION = {
    "id": "r1", "from_name": "tag", "to_name": "image", "type": "brushlabels", "original_width": 6, "original_height": 4,
    "image_rotation": 0, "value": {"format": "rle", "rle": [0, 0, 0, 1], "brushlabels": ["cell"]},
}  # fmt: skip


@pytest.fixture
def client(label_studio: RunningLabelStudio) -> LabelStudio:
    return LabelStudio(label_studio.url, label_studio.personal_token, timeout=ANSWER_SECONDS)


@pytest.fixture
def project(label_studio: RunningLabelStudio) -> Iterator[int]:
    made = int(label_studio.session.create_project("The client's own", CONFIG)["id"])
    yield made
    label_studio.session.delete_project(made)


def png(grey: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (6, 4), grey).save(file, "PNG")
    return file.getvalue()


def test_a_project_is_read_and_a_missing_one_has_status_404(client: LabelStudio, project: int) -> None:
    info = client.project(project)
    assert (info.id, info.label_config, info.sampling, info.task_number) == (
        project,
        CONFIG,
        "Sequential sampling",
        0,
    )
    assert info.key == f"{project}.{int(info.created_at.timestamp())}"
    assert project in [listed.id for listed in client.projects()]
    with pytest.raises(LabelStudioError) as caught:
        client.project(10**6)
    assert caught.value.status == 404


def test_tasks_that_the_stream_may_still_show(
    label_studio: RunningLabelStudio, client: LabelStudio, project: int
) -> None:
    session = label_studio.session
    tasks = session.import_tasks(project, [{"image": f"s3://b/{i}.png"} for i in range(4)])
    session.submit(tasks[0], [REGION])
    session.skip(tasks[1])
    assert [task["id"] for task in client.unlabeled_tasks(project)] == tasks[2:]
    assert [task["id"] for task in client.unlabeled_tasks(project, begun=True)] == tasks[1:]
    session.change_project(project, maximum_annotations=2)
    found = client.unlabeled_tasks(project, begun=True)
    assert [(task["id"], task["total_annotations"], task["total_predictions"]) for task in found] == [
        (task, int(task == tasks[0]), 0) for task in tasks
    ]


def test_a_version_is_shown_where_there_is_a_prediction_of_it(
    label_studio: RunningLabelStudio, client: LabelStudio, project: int
) -> None:
    (task,) = label_studio.session.import_tasks(project, [{"image": "s3://b/1.png"}])
    with pytest.raises(LabelStudioError) as caught:
        client.show_version(project, "m1")
    assert caught.value.status == 400
    client.create_prediction(task, [REGION], 0.25, "m1")
    client.show_version(project, "m1")
    assert client.project(project).model_version == "m1"
    client.show_version(project, "")
    assert client.project(project).model_version == ""


def test_a_prediction_is_replaced_under_its_number(
    label_studio: RunningLabelStudio, client: LabelStudio, project: int
) -> None:
    """An annotation that began with one that is gone is refused; with one that was replaced, it is not."""
    session = label_studio.session
    task, other = session.import_tasks(project, [{"image": f"s3://b/{i}.png"} for i in range(2)])
    number = client.create_prediction(task, [], 0.25, "m1")
    client.replace_prediction(number, task, [REGION], 0.75, "m2")
    (held,) = client.predictions(task)
    assert (held["id"], held["result"], held["score"], held["model_version"]) == (
        number,
        [REGION],
        0.75,
        "m2",
    )
    assert session.submit(task, [REGION], parent_prediction=number)
    gone = client.create_prediction(other, [], 0.25, "m1")
    client.delete_predictions([gone])
    with pytest.raises(LabelStudioError, match="Invalid pk"):
        session.submit(other, [REGION], parent_prediction=gone)
    with pytest.raises(LabelStudioError) as caught:
        client.replace_prediction(gone, other, [REGION], 0.75, "m2")
    assert caught.value.status == 404


def test_unlabeled_chosen_and_exported_tasks(
    label_studio: RunningLabelStudio, client: LabelStudio, project: int
) -> None:
    session = label_studio.session
    tasks = session.import_tasks(project, [{"image": f"s3://b/{i}.png"} for i in range(105)])
    annotation = session.submit(tasks[0], [REGION], lead_time=2.5)
    session.skip(tasks[3])
    unlabeled = [task for task in tasks if task not in (tasks[0], tasks[3])]
    found = client.unlabeled_tasks(project)
    assert [task["id"] for task in found] == unlabeled
    assert found[0]["data"] == {
        "image": "s3://b/1.png"
    }  # as it was imported, not as Label Studio would serve it
    assert "predictions" not in found[0]
    assert [task["id"] for task in client.unlabeled_tasks(project, limit=3, after=tasks[9])] == tasks[10:13]
    assert [task["id"] for task in client.tasks(project, [*tasks[:2], 10**6])] == tasks[:2]
    exported = {task["id"]: task["annotations"] for task in client.export(project)}
    assert list(exported) == [tasks[0], tasks[3]]
    assert (
        exported[tasks[0]][0] | {"id": annotation, "result": [REGION], "lead_time": 2.5}
        == exported[tasks[0]][0]
    )
    assert exported[tasks[3]][0]["was_cancelled"] is True
    assert [task["id"] for task in client.export(project, tasks[1:])] == [tasks[3]]
    assert client.task(tasks[0])["annotations"][0]["id"] == annotation


def test_the_signs_tell_what_the_export_tells(
    label_studio: RunningLabelStudio, client: LabelStudio, project: int
) -> None:
    session = label_studio.session
    first, second, third = session.import_tasks(project, [{"image": f"s3://b/{i}.png"} for i in range(3)])

    def signs() -> str:
        return client.signs(client.project(project))

    annotation = session.submit(first, [REGION])
    before = signs()
    client.create_prediction(third, [REGION], 0.5, "v1")
    assert signs() == before
    steps: list[Callable[[], object]] = [
        lambda: session.update(annotation, [REGION, REGION]),
        lambda: session.call("PATCH", f"/api/annotations/{annotation}/", json={"ground_truth": True}),
        lambda: session.skip(second),
        lambda: session.convert_to_draft(annotation),
        lambda: session.submit(third, [REGION]),
        lambda: session.delete_task(third),
    ]
    for step in steps:
        step()
        now = signs()
        assert now != before
        before = now


def test_predictions_are_stored_and_deleted_and_approvals_outlive_them(
    label_studio: RunningLabelStudio, client: LabelStudio, project: int
) -> None:
    session = label_studio.session
    first, second = session.import_tasks(project, [{"image": f"s3://b/{i}.png"} for i in range(2)])
    number = client.create_prediction(first, [REGION], 0.25, "v1")
    (stored,) = client.predictions(first)
    assert stored | {"id": number, "result": [REGION], "score": 0.25, "model_version": "v1"} == stored
    session.submit(first, [REGION], parent_prediction=number)
    other = client.create_prediction(second, [REGION], 0.5, "v1")
    session.accept_in_bulk(project, [second], "v1")
    submitted, in_bulk = (task["annotations"][0] for task in client.export(project))
    assert (submitted["parent_prediction"], in_bulk["parent_prediction"]) == (number, other)
    # How an annotation made in bulk is told from a submitted one: `bulk_created` says false for both.
    assert (submitted["updated_by"], in_bulk["updated_by"], in_bulk["lead_time"]) == (1, None, None)
    assert (submitted["bulk_created"], in_bulk["bulk_created"]) == (False, False)
    assert client.delete_predictions([number, 10**6]) == {number, 10**6}
    assert client.export(project)[0]["annotations"][0] == {**submitted, "parent_prediction": None}
    with pytest.raises(LabelStudioError) as caught:
        client.create_prediction(10**6, [], 0.5, "v1")
    assert caught.value.status == 400


def test_webhooks_get_headers_and_keep_their_address(
    label_studio: RunningLabelStudio, client: LabelStudio, project: int
) -> None:
    hook = {"project": project, "url": "http://127.0.0.1:1/webhook"}
    number = int(label_studio.session.call("POST", "/api/webhooks/", json=hook)["id"])
    client.patch_webhook(number, headers={"Authorization": "Basic x"})
    (found,) = client.webhooks(project)
    assert (found["url"], found["headers"]) == (hook["url"], {"Authorization": "Basic x"})
    assert client.backends(project) == []


def test_what_the_doctor_asks(client: LabelStudio) -> None:
    assert client.version().count(".") == 2
    assert "@" in client.whoami()["email"]


def test_uploads_open_with_the_personal_token_and_say_what_is_wrong_with_others(
    label_studio: RunningLabelStudio, client: LabelStudio, project: int
) -> None:
    (task,) = label_studio.session.upload(project, {"a b.png": png(77)})
    url = client.tasks(project, [task])[0]["data"]["image"]
    assert np.array_equal(ImageLoader(client, timeout=ANSWER_SECONDS).open(url, task), np.full((4, 6, 3), 77))
    refused = {
        label_studio.legacy_token: "legacy token authentication has been disabled",
        "0" * 40: "Invalid token",
        "": "there is none",
    }
    for token, words in refused.items():
        other = LabelStudio(label_studio.url, token, timeout=ANSWER_SECONDS)
        with pytest.raises(ImageError, match=words):
            ImageLoader(other, timeout=ANSWER_SECONDS).open(url, task)
        with pytest.raises(Unauthorized, match=words):
            other.project(project)
    revoked = label_studio.personal_token[:-4] + "aaaa"
    with pytest.raises(Unauthorized, match="refused the personal token: it was revoked"):
        LabelStudio(label_studio.url, revoked, timeout=ANSWER_SECONDS).project(project)
    with pytest.raises(ImageError, match="gone"):
        ImageLoader(client, timeout=ANSWER_SECONDS).open("/data/upload/1/none.png")
    with pytest.raises(ImageError, match="web page"):
        ImageLoader(client, timeout=ANSWER_SECONDS).open("/projects/")


class FakeS3(LoopbackServer):
    """A bucket with one picture; listing it is all that Label Studio wants to see before it takes the storage."""

    def answer(self, request: Request) -> Answer:
        if request.path == "/bucket/a%20b/1.png":
            return Answer(200, png(33))
        return Answer(200, b"<ListBucketResult><Name>bucket</Name><KeyCount>0</KeyCount></ListBucketResult>")


@pytest.mark.parametrize("presign", [True, False])
def test_an_address_in_a_bucket_opens_with_signed_addresses_on_and_off(
    label_studio: RunningLabelStudio, client: LabelStudio, project: int, presign: bool
) -> None:
    with FakeS3() as s3:
        storage = {
            "project": project, "bucket": "bucket", "aws_access_key_id": "A", "aws_secret_access_key": "S",
            "s3_endpoint": s3.url, "region_name": "us-east-1", "presign": presign, "title": "bucket",
        }  # fmt: skip
        label_studio.session.call("POST", "/api/storages/s3/", json=storage)
        (task,) = label_studio.session.import_tasks(project, [{"image": "s3://bucket/a b/1.png"}])
        images = ImageLoader(client, allowed_hosts=["127.0.0.1"], timeout=ANSWER_SECONDS)
        assert images.open("s3://bucket/a b/1.png", task).max() == 33
        served = client.ask("GET", f"/api/tasks/{task}/")["data"]["image"]
        assert served.startswith(f"/tasks/{task}/resolve/?fileuri=")
        assert images.open(served).max() == 33
        asked = [request for request in s3.requests if request.path.endswith(".png")]
        assert len(asked) == 2
        if presign:
            assert all(
                request.authorization is None and "X-Amz-Signature" in request.target for request in asked
            )
