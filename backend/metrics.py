"""Figures for Prometheus, in a registry of their own; knows only names and numbers."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
    start_http_server,
)

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60)


class Metrics:
    """All figures of one process; `render` is what `/metrics` answers.

    Those in `work` are of who does the jobs, and of the process itself; they are all that a worker shows.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.work = CollectorRegistry()
        ProcessCollector(registry=self.work)
        self.jobs = Histogram(
            "seggpt_job_seconds",
            "Time of one job, by its name",
            ["job"],
            buckets=_SECONDS,
            registry=self.work,
        )
        self.job_failures = Counter(
            "seggpt_job_failures_total", "Jobs that ended with an error", ["job"], registry=self.work
        )
        self.pushed = Counter(
            "seggpt_pushed_predictions_total",
            "Predictions pushed into Label Studio",
            ["project"],
            registry=self.work,
        )
        self.requests = Histogram(
            "seggpt_request_seconds",
            "Time to answer, by route",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.predictions = Counter(
            "seggpt_predictions_total",
            "Tasks asked for, by what came of them",
            ["outcome"],
            registry=self.registry,
        )
        self.events = Counter(
            "seggpt_events_total", "Webhook events, by action", ["action"], registry=self.registry
        )
        self.pool = Gauge(
            "seggpt_pool_examples", "Examples in the pool", ["project", "target"], registry=self.registry
        )
        self.approvals = Gauge("seggpt_approvals", "Approvals ever", ["project"], registry=self.registry)
        self.kept = Gauge(
            "seggpt_kept_iou_mean",
            "Mean kept IoU of the last 50 submissions",
            ["project"],
            registry=self.registry,
        )
        self.kept_count = Gauge(
            "seggpt_kept_iou_count",
            "Kept IoUs recorded, one for each annotation and target",
            ["project"],
            registry=self.registry,
        )
        self.queue = Gauge("seggpt_queue_depth", "Jobs waiting, by lane", ["lane"], registry=self.registry)
        self.pending_events = Gauge(
            "seggpt_pending_events", "Stored events not dealt with", registry=self.registry
        )

        self.store_away = Gauge(
            "seggpt_store_away", "1 while the store does not answer, else 0", registry=self.registry
        )
        self.spooled_events = Gauge(
            "seggpt_spooled_events",
            "Events that wait on this machine's disk for the store, 100 at most",
            registry=self.registry,
        )
        self.tunings = Gauge(
            "seggpt_open_tunings", "Tunings that wait or run", ["project"], registry=self.registry
        )
        self.prompts = Gauge(
            "seggpt_active_prompts", "Tuned prompts in use", ["project"], registry=self.registry
        )

    def render(self) -> bytes:
        """The text exposition format, UTF-8."""
        return generate_latest(self.registry) + generate_latest(self.work)

    def show(self, host: str, port: int) -> None:
        """Answer `/metrics` of a worker on a port, in a thread of its own; to whoever asks, as `serve` does.

        Raises:
            OSError: the port is taken.
        """
        start_http_server(port, host, self.work)
