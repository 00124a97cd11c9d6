"""The admin page in a real browser, on real processes: `serve` with its worker, and Label Studio's part faked."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import pytest
from playwright.sync_api import Browser, Page, expect

from backend.store.sqlite import SqliteStore
from tests.backend.admin_site import EXAMPLES, Site
from tests.backend.browser import Watched, opened_browser
from tests.backend.fake_label_studio import FakeLabelStudio
from tests.backend.loopback import FakeBucket
from tests.backend.served import KEY, Served, until
from tests.backend.stage import blob, brush, now, png

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TOKEN = "an-admin-token"  # noqa: S105 - no secret


@pytest.fixture(scope="module")
def running(checkpoint_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with FakeLabelStudio() as label_studio:
        project = label_studio.add_project()
        for seed in range(EXAMPLES):
            image, mask = blob(seed)
            label_studio.annotate(label_studio.add_task(project, png(image)), [brush(mask)], updated_at=now())
        label_studio.add_task(project, png(blob(50)[0]))
        served = Served(
            folder, checkpoint_file, ADMIN_TOKEN=TOKEN, LABEL_STUDIO_URL=label_studio.url,
            LABEL_STUDIO_API_KEY=label_studio.legacy_token, TUNE_EVERY="0", TUNE_GATE="1", TUNE_STEPS="40",
        )  # fmt: skip
        try:
            served.client.headers["Authorization"] = f"Bearer {TOKEN}"
            setup = {
                "project": KEY, "schema": label_studio.projects[project]["label_config"],
                "hostname": label_studio.url, "access_token": label_studio.legacy_token,
            }  # fmt: skip
            assert served.client.post("/setup", json=setup).status_code == 200
            with closing(SqliteStore(folder / "data" / "store.sqlite3")) as store:
                yield Site(served, label_studio, store)
        finally:
            served.stop()


@pytest.fixture
def site(running: Site) -> Site:
    """At rest: what a test before has set going has come to its end. Where it once did not, nobody waits again."""
    try:
        until(lambda: not running.unrest(), patience=0 if running.restless else 300)
    except AssertionError:
        running.restless = True
        pytest.fail(f"Not at rest after a test before: {running.unrest()}", pytrace=False)
    return running


@pytest.fixture(scope="module")
def browser(missing: Callable[[str], NoReturn]) -> Iterator[Browser]:
    with opened_browser(missing) as opened:
        yield opened


@pytest.fixture
def watch(browser: Browser) -> Iterator[Callable[..., Watched]]:
    """Opens pages; nothing may have gone wrong on any of them."""
    watched: list[Watched] = []

    def make(**options: Any) -> Watched:
        watched.append(Watched(browser, **options))
        return watched[-1]

    yield make
    complaints = [complaint for each in watched for complaint in each.complaints]
    for each in watched:
        each.close()
    assert complaints == []


def log_in(site: Site, page: Page, to: str = "/") -> None:
    page.goto(site.address(to))
    page.get_by_label("Admin token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(site.address(to))


def headings_in_order(page: Page) -> None:
    levels = page.eval_on_selector_all("h1,h2,h3,h4,h5,h6", "all => all.map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


def is_in_order(page: Page) -> None:
    """A page for everybody: headings, names of all that can be used, nothing wider than the window."""
    headings_in_order(page)
    assert page.title()
    assert page.get_by_role("main").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{page.url} fits"
    unnamed = page.eval_on_selector_all(
        "a, button, input:not([type=hidden]), select, img, progress",
        "all => all.filter(e => !(e.matches(':not(select)') && e.textContent.trim() || e.alt || e.labels?.length"
        " || e.ariaLabel)).map(e => e.outerHTML)",
    )
    assert unnamed == []
    ids = page.eval_on_selector_all("[id]", "all => all.map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_an_admin_logs_in_sees_the_pool_and_takes_an_example_out_and_back(
    site: Site, watch: Callable[..., Watched]
) -> None:
    page = watch().page
    page.goto(site.address(f"/projects/{KEY}/examples"))
    page.get_by_label("Admin token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#pool > li")).to_have_count(EXAMPLES)
    until(lambda: page.evaluate("[...document.images].every(i => i.scrollIntoView() || i.naturalWidth > 0)"))
    revision = page.locator("#revision").inner_text()
    assert revision == site.api()["revision"]
    first = page.locator("#pool > li").first
    link = first.get_by_role("link").get_attribute("href")
    assert link is not None
    assert link.startswith(f"{site.label_studio.url}/projects/1/data?task=")

    first.get_by_role("button", name="Take out of use").click()
    expect(page.get_by_role("status").filter(has_text="out of use")).to_be_visible()
    expect(page.locator("#pool > li")).to_have_count(EXAMPLES - 1)
    moved = page.locator("#revision").inner_text()
    assert moved != revision
    assert moved == site.api()["revision"]

    page.get_by_role("button", name="Put back").click()
    until(lambda: len(site.api("/examples")) == EXAMPLES)
    page.goto(site.address(f"/projects/{KEY}/examples"))
    expect(page.locator("#pool > li")).to_have_count(EXAMPLES)

    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(site.address("/login"))
    page.goto(site.address(f"/projects/{KEY}"))
    expect(page.get_by_label("Admin token")).to_be_visible()


def watch_and_stop(page: Page) -> None:
    """A tuning that is under way is shown by itself, and stopped."""
    progress = page.get_by_label("Progress").first
    expect(page.locator(".steps").first).to_contain_text(re.compile("step [1-9]"))  # nobody reloads
    assert float(progress.get_attribute("max") or 0) > 0
    page.get_by_role("button", name="Stop tuning").click()


def test_a_tuning_is_started_and_watched_and_its_prompt_used_and_taken_back(
    site: Site, watch: Callable[..., Watched]
) -> None:
    page = watch().page
    log_in(site, page, f"/projects/{KEY}/prompts")
    before = page.locator("#revision").inner_text()
    with site.worker_gives_way():  # after its first step; else it may end before it is stopped
        page.get_by_role("button", name="Tune cell").click()
        watch_and_stop(page)
    expect(page.locator(".cards .status").first).to_have_text("stopped")
    assert site.api("/tunings")[0]["status"] == "stopped"
    with site.worker_gives_way():  # else it may end before the page has seen that it goes on
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_role("button", name="Stop tuning")).to_be_visible()
    expect(page.locator("#prompt-1 .status")).to_have_text("candidate", timeout=600_000)
    expect(page.locator("#said")).to_have_text("It has ended.")

    page.get_by_role("button", name="Activate prompt 1").click()
    expect(page.locator("#prompt-1 .status")).to_have_text("active")
    assert page.locator("#revision").inner_text() == f"{before}-p1" == site.api()["revision"]
    page.get_by_role("button", name="Roll back prompt 1").click()
    expect(page.locator("#prompt-1 .status")).to_have_text("retired")
    assert page.locator("#revision").inner_text() == before == site.api()["revision"]


def test_all_of_it_can_be_done_by_keyboard(site: Site, watch: Callable[..., Watched]) -> None:
    page = watch().page
    page.goto(site.address(f"/projects/{KEY}/examples"))

    def press_until(what: str) -> None:
        """Press Tab until something whose words begin so is reached; it must be seen that it is."""
        for _ in range(80):
            page.keyboard.press("Tab")
            words, width = page.evaluate(
                "(() => { const a = document.activeElement, s = getComputedStyle(a);"
                " return [(a.innerText || a.labels?.[0]?.innerText || '').trim(), s.outlineStyle == 'none' ? '0' : s.outlineWidth]; })()"
            )
            if words.startswith(what):
                assert float(width.removesuffix("px")) >= 2, f"{what} shows that it is reached"
                return
        raise AssertionError(f"Tab never reaches '{what}'")

    press_until("Admin token")
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_url(site.address(f"/projects/{KEY}/examples"))
    press_until("To the content")
    page.keyboard.press("Enter")
    until(lambda: page.evaluate("document.activeElement.id") == "main")
    count = page.locator("#pool > li").count()
    press_until("Take out of use")
    page.keyboard.press("Enter")
    expect(page.locator("#pool > li")).to_have_count(count - 1)
    page.wait_for_load_state()
    press_until("Put back")
    page.keyboard.press("Space")
    expect(page.get_by_role("status").filter(has_text="read again")).to_be_visible()
    until(lambda: len(site.api("/examples")) == count)
    press_until("Predictions")
    page.keyboard.press("Enter")
    page.wait_for_url(site.address(f"/projects/{KEY}/tasks"))
    press_until("Why was this predicted")
    page.keyboard.type("7")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Why this mask: task 7")


def test_every_page_is_there_in_light_and_dark_wide_and_narrow(
    site: Site, watch: Callable[..., Watched]
) -> None:
    shades = {}
    for scheme in ("light", "dark"):
        page = watch(color_scheme=scheme).page
        log_in(site, page)
        for path in (
            "/",
            "/doctor",
            *(
                f"/projects/{KEY}{rest}"
                for rest in ("", "/examples", "/influence", "/lost-labels", "/prompts", "/tasks", "/tasks/7")
            ),
        ):
            for width in (1200, 360):
                page.set_viewport_size({"width": width, "height": 800})
                page.goto(site.address(path))
                is_in_order(page)
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        shades[scheme] = sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(",")))
    assert shades["dark"] < 150 < 600 < shades["light"]


def test_what_each_example_did_is_measured_by_the_worker_and_comes_by_itself(
    site: Site, watch: Callable[..., Watched]
) -> None:
    task = EXAMPLES + 1
    page = watch().page
    log_in(site, page, f"/projects/{KEY}/tasks")
    until(lambda: site.predicted(task))
    page.goto(site.address(f"/projects/{KEY}/tasks/{task}"))
    page.get_by_role("button", name="Measure what each did").click()
    measured = page.locator(".measured").filter(has_text="Without it, the mask would differ by")
    expect(measured).to_have_count(EXAMPLES, timeout=600_000)
    assert [mask["status"] for mask in site.api(f"/tasks/{task}/why")["masks"]] == ["measured"]
    is_in_order(page)


def test_a_pin_is_set_and_taken_off(site: Site, watch: Callable[..., Watched]) -> None:
    page = watch().page
    log_in(site, page, f"/projects/{KEY}/examples")
    first = page.locator("#pool > li").first
    first.get_by_role("button", name="Pin the example of task").click()
    expect(page.get_by_role("status").filter(has_text="is pinned")).to_be_visible()
    expect(first.locator(".pinned")).to_have_text("pinned")
    assert [one["pinned"] for one in site.api("/examples")].count(True) == 1
    first.get_by_role("button", name="Unpin the example of task").click()
    expect(page.locator(".pinned")).to_have_count(0)


def test_a_person_s_influence_is_previewed_taken_out_and_put_back_by_keyboard(
    site: Site, watch: Callable[..., Watched]
) -> None:
    page = watch(color_scheme="dark").page
    log_in(site, page, f"/projects/{KEY}/influence")
    page.get_by_label("Without the examples of").focus()
    page.keyboard.type("user 1")
    page.keyboard.press("Tab")
    with site.worker_gives_way():  # else it may have measured before the page is there
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Without user 1")).to_be_visible()
        expect(page.locator("#would-go > li")).to_have_count(EXAMPLES)
        expect(page.locator("[data-refresh]")).to_be_visible()
    expect(page.get_by_role("button", name="Take them out of use")).to_be_visible()  # nobody reloads
    expect(page.locator("#said")).to_have_text("It has ended.")
    page.set_viewport_size({"width": 360, "height": 800})
    is_in_order(page)
    page.get_by_role("button", name="Take them out of use").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="out of use")).to_be_visible()
    assert site.api("/examples") == []
    expect(page.locator("#acts > li")).to_have_count(1)
    is_in_order(page)
    page.get_by_role("button", name="Put all back of user 1").focus()
    page.keyboard.press("Space")
    expect(page.get_by_role("status").filter(has_text="being read again")).to_be_visible()
    until(lambda: len(site.api("/examples")) == EXAMPLES)


def test_what_a_lost_label_becomes_is_asked_answered_and_taken_back(
    site: Site, watch: Callable[..., Watched]
) -> None:
    project = site.label_studio.projects[1]
    before = project["label_config"]

    def say(label_config: str) -> None:
        project["label_config"] = label_config
        setup = {
            "project": KEY, "schema": label_config, "hostname": site.label_studio.url,
            "access_token": site.label_studio.legacy_token,
        }  # fmt: skip
        assert site.served.client.post("/setup", json=setup).status_code == 200

    def taught(target: str) -> int:
        return sum(one["target"] == target for one in site.api("/examples"))

    say(before.replace('<Label value="cell"/>', '<Label value="round"/><Label value="long"/>'))
    page = watch().page
    log_in(site, page, f"/projects/{KEY}")
    page.get_by_role("link", name="Say what is to become of them").click()
    expect(page.locator(".status")).to_contain_text("Not answered yet.")
    page.get_by_label("It was renamed to, or merged into").select_option("round")
    page.get_by_role("button", name="Move all there").click()
    expect(page.locator(".status")).to_contain_text("All are round now.")
    until(lambda: taught("tag/image/round") == EXAMPLES)
    page.get_by_role("button", name="Take the answer back").click()
    until(lambda: taught("tag/image/cell") == EXAMPLES)
    page.reload()

    page.get_by_text("Split it").click()
    for width in (360, 1200):
        page.set_viewport_size({"width": width, "height": 800})
        is_in_order(page)
    page.get_by_label("becomes").first.select_option("long")
    page.get_by_role("button", name="Save these choices").click()
    expect(page.locator(".status")).to_contain_text(f"Split: 1 of {EXAMPLES}")
    until(lambda: taught("tag/image/long") == 1)
    say(before)
    until(lambda: taught("tag/image/cell") == EXAMPLES)
    page.reload()
    expect(page.get_by_text("has all labels that examples have")).to_be_visible()


def test_without_scripts_everything_can_be_seen_and_done(site: Site, watch: Callable[..., Watched]) -> None:
    page = watch(java_script_enabled=False).page
    log_in(site, page, f"/projects/{KEY}/tasks")
    page.get_by_role("button", name="Predict tasks anew").click()
    expect(page.get_by_role("status").filter(has_text="queued")).to_be_visible()
    until(lambda: site.predicted(EXAMPLES + 1))
    page.goto(site.address(f"/projects/{KEY}/tasks/{EXAMPLES + 1}"))
    shares = page.locator(".pool").first.locator(".share")
    assert shares.count() == EXAMPLES
    expect(shares.first).to_contain_text("17 %")
    link = shares.first.get_by_role("link").get_attribute("href")
    assert link is not None
    assert link.startswith(site.label_studio.url)


def test_a_page_of_another_origin_can_press_no_button(
    site: Site, browser: Browser, bucket: FakeBucket
) -> None:
    """One of the same site, whose requests carry the cookie, and that has even read the form's word."""
    watched = Watched(browser)
    page = watched.page
    log_in(site, page, f"/projects/{KEY}/prompts")
    before = len(site.api("/tunings"))
    form = page.locator("form[action$='/tunings']").first
    action, word = form.get_attribute("action"), form.locator("input[name=word]").get_attribute("value")
    evil = (
        f'<form method="post" action="{site.address(str(action))}"><input name="word" value="{word}">'
        "<button>Win</button></form>"
    )
    page.goto(bucket.put("/evil.html", evil.encode(), Content_Type="text/html"))
    page.get_by_role("button", name="Win").click()
    expect(page.get_by_role("alert")).to_contain_text("very address")
    assert len(site.api("/tunings")) == before
    page.goto(site.address())
    expect(page.get_by_role("heading", level=1)).to_have_text("Projects")
    watched.close()
