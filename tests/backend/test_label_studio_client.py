import logging
from collections.abc import Callable

import pytest

from backend.errors import LabelStudioError, Unauthorized, Unreachable
from backend.label_studio import LabelStudio
from tests.backend.fake_label_studio import FakeLabelStudio, problem
from tests.backend.loopback import Answer

REGION = {"id": "r1", "from_name": "tag", "to_name": "image", "type": "brushlabels", "value": {"rle": [1, 2]}}


@pytest.fixture
def naps() -> list[float]:
    return []


@pytest.fixture
def client(fake_label_studio: FakeLabelStudio, naps: list[float]) -> LabelStudio:
    return LabelStudio(fake_label_studio.url, fake_label_studio.personal_token, sleep=naps.append)


def test_a_project_has_the_key_that_setup_sends(
    client: LabelStudio, fake_label_studio: FakeLabelStudio
) -> None:
    number = fake_label_studio.add_project(created_at="2026-11-25T12:27:36.900000Z", title="Cells")
    project = client.project(number)
    assert (project.key, project.title, project.task_number) == (f"{number}.1795609656", "Cells", 0)
    assert client.project(number) == project


def test_all_projects_are_listed_over_pages_by_id(
    client: LabelStudio, fake_label_studio: FakeLabelStudio
) -> None:
    for _ in range(101):
        fake_label_studio.add_project(created_at="2026-11-25T12:27:36Z")
    assert [project.id for project in client.projects()] == list(range(1, 102))
    assert len(fake_label_studio.asked("/api/projects/")) == 2


def test_a_project_described_in_an_unknown_way_is_an_error_that_names_the_field(
    client: LabelStudio, fake_label_studio: FakeLabelStudio
) -> None:
    with pytest.raises(LabelStudioError, match=r"unknown way \(created_at\)"):
        client.project(fake_label_studio.add_project(created_at="yesterday"))


def test_unlabeled_tasks_come_by_id_over_pages_and_without_annotated_or_skipped_ones(
    client: LabelStudio, fake_label_studio: FakeLabelStudio
) -> None:
    project, other = fake_label_studio.add_project(), fake_label_studio.add_project()
    tasks = [fake_label_studio.add_task(project, image=f"s3://b/{i}.png") for i in range(250)]
    fake_label_studio.add_task(other)
    fake_label_studio.annotate(tasks[0], [REGION])
    fake_label_studio.annotate(tasks[7], [], was_cancelled=True)
    expected = [task for task in tasks if task not in (tasks[0], tasks[7])]
    found = client.unlabeled_tasks(project)
    assert [task["id"] for task in found] == expected
    assert found[0]["data"] == {"image": "s3://b/1.png"}
    assert "predictions" not in found[0]
    assert len(fake_label_studio.asked("/api/tasks/")) == 3
    assert [task["id"] for task in client.unlabeled_tasks(project, limit=120)] == expected[:120]
    assert client.unlabeled_tasks(project, limit=0) == []


def test_listing_goes_on_after_a_task(client: LabelStudio, fake_label_studio: FakeLabelStudio) -> None:
    project = fake_label_studio.add_project()
    tasks = [fake_label_studio.add_task(project) for _ in range(5)]
    assert [task["id"] for task in client.unlabeled_tasks(project, limit=2, after=tasks[1])] == tasks[2:4]
    assert client.unlabeled_tasks(project, after=tasks[-1]) == []


def test_chosen_tasks_are_listed_by_id_without_missing_ones_and_others_projects(
    client: LabelStudio, fake_label_studio: FakeLabelStudio
) -> None:
    project, other = fake_label_studio.add_project(), fake_label_studio.add_project()
    tasks = [fake_label_studio.add_task(project) for _ in range(250)]
    foreign = fake_label_studio.add_task(other)
    assert [task["id"] for task in client.tasks(project, [3, 1, 9999, foreign, 3])] == [1, 3]
    assert [task["id"] for task in client.tasks(project, tasks[:-1])] == tasks[:-1]
    assert max(len(request.target) for request in fake_label_studio.requests) < 8000
    before = len(fake_label_studio.requests)
    assert client.tasks(project, []) == []
    assert len(fake_label_studio.requests) == before


def test_tasks_annotated_between_two_pages_hide_no_other_task(
    client: LabelStudio, fake_label_studio: FakeLabelStudio
) -> None:
    project = fake_label_studio.add_project()
    tasks = [fake_label_studio.add_task(project) for _ in range(150)]
    answer = fake_label_studio.answer
    pages = 0

    def answer_and_annotate(request: object) -> Answer:
        nonlocal pages
        answered = answer(request)  # type: ignore[arg-type]
        pages += 1
        if pages == 2:  # after the token's exchange, the first page
            for task in tasks[:50]:
                fake_label_studio.annotate(task, [REGION])
        return answered

    fake_label_studio.answer = answer_and_annotate  # type: ignore[method-assign]
    assert [task["id"] for task in client.unlabeled_tasks(project)] == tasks


def test_the_export_holds_annotated_tasks_only_and_can_be_narrowed(
    client: LabelStudio, fake_label_studio: FakeLabelStudio
) -> None:
    project = fake_label_studio.add_project()
    tasks = [fake_label_studio.add_task(project) for _ in range(300)]
    for task in tasks[:-1]:
        fake_label_studio.annotate(task, [REGION])
    assert [task["id"] for task in client.export(project)] == tasks[:-1]
    assert client.export(project)[0]["annotations"][0]["result"] == [REGION]
    before = len(fake_label_studio.requests)
    assert [task["id"] for task in client.export(project, tasks[250:])] == tasks[250:-1]
    assert [len(client.export(project, ids)) for ids in (tasks, [tasks[-1]])] == [299, 0]
    assert len(fake_label_studio.requests) - before == 1 + 2 + 1
    assert max(len(request.target) for request in fake_label_studio.requests) < 8000


def test_an_export_of_no_tasks_asks_nothing_and_is_not_the_whole_project(
    client: LabelStudio, fake_label_studio: FakeLabelStudio
) -> None:
    fake_label_studio.annotate(fake_label_studio.add_task(fake_label_studio.add_project()), [REGION])
    assert client.export(1, []) == []
    assert fake_label_studio.requests == []


SIGNIFICANT: dict[str, Callable[[FakeLabelStudio], object]] = {
    "annotated": lambda studio: studio.annotate(2, [REGION]),
    "edited": lambda studio: studio.edit(1, result=[REGION, REGION]),
    "marked as ground truth": lambda studio: studio.edit(1, ground_truth=True),
    "deleted or turned into a draft": lambda studio: studio.withdraw(1),
    "skipped": lambda studio: studio.annotate(2, [], was_cancelled=True),
    "a skip edited": lambda studio: studio.edit(2, result=[REGION]),
    "task deleted": lambda studio: studio.delete_task(1),
}


@pytest.mark.parametrize("what", SIGNIFICANT)
def test_the_signs_change_when_an_export_pays(
    client: LabelStudio, fake_label_studio: FakeLabelStudio, what: str
) -> None:
    project = fake_label_studio.add_project()
    first, _, third = (fake_label_studio.add_task(project) for _ in range(3))
    fake_label_studio.annotate(first, [REGION])
    fake_label_studio.annotate(third, [], was_cancelled=True)
    before = client.signs(client.project(project))
    assert client.signs(client.project(project)) == before
    SIGNIFICANT[what](fake_label_studio)
    assert client.signs(client.project(project)) != before


def test_the_signs_do_not_change_by_predictions_for_tasks_without_annotation(
    client: LabelStudio, fake_label_studio: FakeLabelStudio
) -> None:
    project = fake_label_studio.add_project()
    first, second = (fake_label_studio.add_task(project) for _ in range(2))
    fake_label_studio.annotate(first, [REGION])
    before = client.signs(client.project(project))
    client.create_prediction(second, [REGION], 0.5, "v1")
    assert client.signs(client.project(project)) == before


def test_a_prediction_is_stored_listed_and_deleted(
    client: LabelStudio, fake_label_studio: FakeLabelStudio
) -> None:
    task = fake_label_studio.add_task(fake_label_studio.add_project())
    number = client.create_prediction(task, [REGION], 0.25, "v1")
    (stored,) = client.predictions(task)
    assert (stored["id"], stored["result"], stored["score"], stored["model_version"]) == (
        number,
        [REGION],
        0.25,
        "v1",
    )
    assert client.delete_predictions([number, 99]) == {number, 99}
    assert client.predictions(task) == []


def test_a_prediction_that_may_not_be_deleted_is_not_called_gone(
    client: LabelStudio, fake_label_studio: FakeLabelStudio
) -> None:
    task = fake_label_studio.add_task(fake_label_studio.add_project())
    kept, deleted = (client.create_prediction(task, [], 0.5, "v1") for _ in range(2))
    fake_label_studio.failures = [problem(403, "You do not have permission")]
    assert client.delete_predictions([kept, deleted]) == {deleted}
    assert [prediction["id"] for prediction in client.predictions(task)] == [kept]


def test_deleting_predictions_stops_where_label_studio_is_gone(fake_label_studio: FakeLabelStudio) -> None:
    client = LabelStudio(fake_label_studio.url, fake_label_studio.legacy_token, sleep=lambda seconds: None)
    fake_label_studio.stop()
    with pytest.raises(Unreachable):
        client.delete_predictions([1, 2])


def test_a_prediction_for_a_deleted_task_is_an_error_with_status_400(
    client: LabelStudio, fake_label_studio: FakeLabelStudio
) -> None:
    with pytest.raises(LabelStudioError, match="does not exist") as caught:
        client.create_prediction(9, [], 0.5, "v1")
    assert caught.value.status == 400


def test_a_task_comes_with_its_annotations_and_predictions(
    client: LabelStudio, fake_label_studio: FakeLabelStudio
) -> None:
    task = fake_label_studio.add_task(fake_label_studio.add_project(), image="s3://b/1.png")
    annotation = fake_label_studio.annotate(task, [REGION])
    client.create_prediction(task, [REGION], 0.5, "v1")
    found = client.task(task)
    assert [item["id"] for item in found["annotations"]] == [annotation]
    assert [item["model_version"] for item in found["predictions"]] == ["v1"]


def test_backends_and_webhooks_are_a_projects_own_and_a_webhook_gets_a_header(
    client: LabelStudio, fake_label_studio: FakeLabelStudio
) -> None:
    project = fake_label_studio.add_project()
    ours = {"id": 3, "project": project, "url": "http://b/webhook", "headers": {}}
    fake_label_studio.webhooks = {3: ours, 4: {**ours, "id": 4, "project": 9}}
    fake_label_studio.backends = [{"id": 1, "project": project, "url": "http://b"}, {"id": 2, "project": 9}]
    assert [item["id"] for item in client.backends(project)] == [1]
    client.patch_webhook(3, headers={"Authorization": "Basic x"})
    assert client.webhooks(project) == [{**ours, "headers": {"Authorization": "Basic x"}}]
    client.patch_webhook(3, headers={}, url="http://c/webhook")
    assert client.webhooks(project) == [{**ours, "headers": {}, "url": "http://c/webhook"}]


def test_only_our_own_webhooks_get_the_password_and_only_once(
    client: LabelStudio, fake_label_studio: FakeLabelStudio
) -> None:
    project = fake_label_studio.add_project()
    fake_label_studio.backends = [
        {"id": 1, "project": project, "url": "http://ours/", "basic_auth_user": "us"},
        {"id": 2, "project": project, "url": "http://theirs", "basic_auth_user": "them"},
    ]
    fake_label_studio.webhooks = {
        number: {"id": number, "project": project, "url": url, "headers": headers}
        for number, url, headers in (
            (1, "http://ours/webhook", {"X-Kept": "1"}),
            (2, "http://theirs/webhook", {}),
            (3, "http://elsewhere", None),
        )
    }
    assert client.authorize_webhooks(project, "us", "Basic x") == 1
    assert client.authorize_webhooks(project, "us", "Basic x") == 0
    headers = [hook["headers"] for hook in fake_label_studio.webhooks.values()]
    assert headers == [{"X-Kept": "1", "Authorization": "Basic x"}, {}, None]


def test_what_the_doctor_asks(client: LabelStudio) -> None:
    assert client.version() == "1.23.2"
    assert client.whoami()["email"] == "a@example.com"


def test_a_missing_project_is_an_error_with_status_404(client: LabelStudio) -> None:
    with pytest.raises(LabelStudioError, match=r"No Project matches the given query\.$") as caught:
        client.project(7)
    assert caught.value.status == 404


def test_a_get_is_repeated_after_5xx_with_growing_pauses(
    fake_label_studio: FakeLabelStudio, naps: list[float]
) -> None:
    client = LabelStudio(fake_label_studio.url, fake_label_studio.legacy_token, sleep=naps.append)
    fake_label_studio.add_project()
    fake_label_studio.failures = [Answer(502), Answer(503)]
    assert client.project(1).id == 1
    assert naps == sorted(naps)
    assert len(naps) == 2
    fake_label_studio.failures = [Answer(502)] * 4
    with pytest.raises(LabelStudioError) as caught:
        client.project(1)
    assert caught.value.status == 502
    assert len(fake_label_studio.failures) == 1


def test_what_may_have_been_carried_out_is_not_sent_again(
    client: LabelStudio, fake_label_studio: FakeLabelStudio
) -> None:
    task = fake_label_studio.add_task(fake_label_studio.add_project())
    client.version()
    fake_label_studio.failures = [Answer(502), Answer(502)]
    with pytest.raises(LabelStudioError):
        client.create_prediction(task, [], 0.5, "v1")
    assert len(fake_label_studio.asked("/api/predictions/")) == 1


def test_label_studio_that_restarts_is_waited_for(fake_label_studio: FakeLabelStudio) -> None:
    fake_label_studio.stop()
    naps: list[float] = []
    with pytest.raises(Unreachable, match=r"cannot be reached \(ConnectError\)\. Check that it runs"):
        LabelStudio(fake_label_studio.url, fake_label_studio.legacy_token, sleep=naps.append).project(1)
    assert len(naps) == 2


def test_an_answer_that_does_not_come_is_not_asked_for_again(fake_label_studio: FakeLabelStudio) -> None:
    client = LabelStudio(fake_label_studio.url, fake_label_studio.legacy_token, timeout=0.05)
    with (
        fake_label_studio.lock,
        pytest.raises(Unreachable, match="did not answer GET /api/projects/1/ in time"),
    ):
        client.project(1)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(302, b"", {"Location": "https://labels.example.com/?secret=1"}), "redirect"),
        (Answer(200, b"<html>Welcome to nginx</html>"), "not JSON"),
        (Answer(400, b"[1]"), "with 400"),
        (Answer(400, b"<html>"), "with 400"),
    ],
)
def test_what_is_not_label_studios_api_is_said_with_the_remedy_and_without_addresses(
    client: LabelStudio, fake_label_studio: FakeLabelStudio, answer: Answer, words: str
) -> None:
    client.version()
    fake_label_studio.failures = [answer]
    with pytest.raises(LabelStudioError, match=words) as caught:
        client.project(1)
    assert "secret" not in str(caught.value)
    assert caught.value.status == answer.status


def test_without_an_address_nothing_can_be_asked() -> None:
    client = LabelStudio()
    assert (client.configured, client.url, client.origin, client.token_kind) == (False, "", "", "none")
    with pytest.raises(Unreachable, match="LABEL_STUDIO_URL"):
        client.projects()
    with pytest.raises(Unreachable, match="LABEL_STUDIO_URL"):
        client.reach("/data/upload/1/a.png")
    client.close()


def test_tokens_are_in_no_error_no_log_and_no_representation(
    fake_label_studio: FakeLabelStudio, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = {fake_label_studio.personal_token, fake_label_studio.legacy_token}
    said = []
    for secret in sorted(secrets):
        client = LabelStudio(fake_label_studio.url, secret)
        client.version()
        secrets |= {
            str(request.authorization).split()[1] for request in fake_label_studio.asked("/api/version")
        }
        fake_label_studio.failures = [problem(401, f"{secret} is bad"), problem(401, "so is the other")] * 2
        with pytest.raises(Unauthorized) as refused:
            client.version()
        fake_label_studio.failures = [problem(404, f"{secret} and {max(secrets)} lead nowhere")]
        with pytest.raises(LabelStudioError) as missing:
            LabelStudio(fake_label_studio.url, secret).project(1)
        said += [str(refused.value), repr(refused.value), str(missing.value), repr(client), str(vars(client))]
    said.append(caplog.text)
    assert len(secrets) >= 3
    assert not [secret for secret in secrets for text in said if secret in text]
