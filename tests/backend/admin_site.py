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
    restless: bool = False
    """Whether it once did not come to rest in time."""

    def address(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.served.port}{path}"

    def api(self, rest: str = "") -> Any:
        return self.served.client.get(f"/api/projects/{KEY}{rest}").json()

    def unrest(self) -> str:
        """What is missing until all examples teach, and nobody reads any: only then the revision stays. "" at rest."""
        teach = len(self.api("/examples"))
        busy = [lease for lease in ("learn", "reconcile") if self.store.held(lease)]
        return "" if teach == EXAMPLES and not busy else f"{teach} of {EXAMPLES} examples teach; held: {busy}"

    def predicted(self, task: int) -> bool:
        """Whether a task is predicted as it would be now."""
        now_at = self.api()["revision"]
        return (task, "done", now_at) in [
            (row["task"], row["status"], row["revision"]) for row in self.api("/tasks")
        ]

    def worker_gives_way(self) -> AbstractContextManager[bool]:
        """The worker tunes and measures next to nothing meanwhile, as while a request is answered."""
        return leased(self.store, f"{PREDICTING}a test", 600)
