"""A backend that has learned from some annotations, whose admin page people look at, and what goes on in it."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from backend.pre_annotation import PREDICTING
from backend.store import Store
from backend.store.leases import leased
from tests.backend.fake_label_studio import FakeLabelStudio
from tests.backend.served import KEY, Served

EXAMPLES = 6


@dataclass
class Site:
    """A backend that has learned from some annotations."""

    served: Served
    label_studio: FakeLabelStudio
    store: Store

    def address(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.served.port}{path}"

    def api(self, rest: str = "") -> Any:
        return self.served.client.get(f"/api/projects/{KEY}{rest}").json()

    @property
    def at_rest(self) -> bool:
        """Whether all examples teach, and nobody is in the middle of reading any: only then the revision stays."""
        all_teach = len(self.api("/examples")) == EXAMPLES
        return all_teach and not any(map(self.store.held, ("learn", "reconcile")))

    def predicted(self, task: int) -> bool:
        """Whether a task is predicted as it would be now."""
        now_at = self.api()["revision"]
        return (task, "done", now_at) in [
            (row["task"], row["status"], row["revision"]) for row in self.api("/tasks")
        ]

    def worker_gives_way(self) -> AbstractContextManager[bool]:
        """The worker tunes and measures next to nothing meanwhile, as while a request is answered."""
        return leased(self.store, f"{PREDICTING}a test", 600)
