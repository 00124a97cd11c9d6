"""Alerts for Prometheus: they use what `/metrics` has, and lead to a page that says what to do."""

import re
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from prometheus_client.metrics import MetricWrapperBase

from backend.metrics import Metrics
from backend.settings import Settings

ROOT = Path(__file__).parents[1]
PROMETHEUS = ROOT / "docker" / "prometheus"


def figures() -> dict[str, set[str]]:
    """Every series that `/metrics` can have, with its labels."""
    found: dict[str, set[str]] = {}
    for made in vars(Metrics()).values():
        if isinstance(made, MetricWrapperBase):
            (metric,) = made.describe()
            endings = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",)}
            for ending in endings.get(metric.type, ("",)):
                labels = {*made._labelnames, *(["le"] if ending == "_bucket" else [])}
                found[metric.name + ending] = labels
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def operations() -> str:
    return (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def test_alerts_use_only_figures_and_labels_that_there_are() -> None:
    known = figures() | {"up": set()}
    for rule in rules():
        for name, matchers in re.findall(r"\b(seggpt_\w+|up)\b(?:\{([^}]*)\})?", rule["expr"]):
            assert name in known, rule["alert"]
            assert set(re.findall(r"(\w+)=", matchers)) <= known[name] | {"job"}, rule["alert"]
            assert 'job="seggpt"' in matchers, rule["alert"]
        grouped = re.findall(r"(?:by|on) \(([^)]*)\)", rule["expr"])
        assert {label for labels in grouped for label in re.split(r",\s*", labels)} <= {
            "le",
            "project",
            "instance",
        }


def test_every_alert_leads_to_what_to_do() -> None:
    headings = re.findall(r"^#+ (.+)$", operations(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    led = {
        rule["alert"]: rule["annotations"]["runbook"].partition("docs/operations.md#")[2] for rule in rules()
    }
    assert {alert: anchor for alert, anchor in led.items() if anchor not in anchors} == {}


def test_the_docs_name_every_figure_and_every_alert() -> None:
    page = operations()
    names = {re.sub(r"_(bucket|sum|count)$", "", name) if "_seconds_" in name else name for name in figures()}
    assert {name for name in names | {rule["alert"] for rule in rules()} if f"`{name}`" not in page} == set()


def test_each_backend_is_asked_under_the_name_that_the_alerts_use() -> None:
    (job,) = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    assert job["job_name"] == "seggpt"
    assert job["dns_sd_configs"][0]["names"] == ["backend"]
    assert job["dns_sd_configs"][0]["port"] == Settings.model_fields["port"].default
