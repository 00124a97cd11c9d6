"""On which approved pictures a target is known not to be: they lie in other targets' pools, and nobody marked it there.

Approvals do not say which targets they hold, pools do. So a mask that left a full pool is noted, or its picture would
be taken for one without the target.
"""

import json
from collections.abc import Collection

from backend import dropped
from backend.revision import Snapshot
from backend.store import ExampleInfo, Store


def note_left(store: Store, project: str, target: str, tasks: Collection[int]) -> None:
    """Note tasks whose examples of a target left its full pool, for as long as other pools hold these tasks.

    Two processes that note at once may lose an entry. The picture then counts as one without the target, which only
    makes the two seem harder to tell apart: no rule gets bolder by it.
    """
    there = {info.task for info in store.pool(project)}
    gone = (_left(store, project, target) | set(tasks)) & there
    store.set_note(_name(project, target), json.dumps(sorted(gone)))


def split(store: Store, snapshot: Snapshot, target: str) -> tuple[list[ExampleInfo], int]:
    """Pictures that are approved without a target, and how many are approved with it.

    Args:
        store: where it is noted what is in no pool any more.
        snapshot: targets and pools of the project.
        target: the target's id.

    Returns:
        An example of another target of the same image tag for each task that lacks the target, by key, so in an order
        that means nothing and stays; and the number of tasks that hold it. What was approved before the target first
        was may lack it only because nobody looked for it then: it counts neither way.
    """
    pool = snapshot.pool.get(target, ())
    everyone = [info for infos in snapshot.pool.values() for info in infos]
    out = {one.task for one in dropped.listed(store, snapshot.project, everyone) if one.target == target}
    held = {info.task for info in pool} | out | _left(store, snapshot.project, target)
    since = min((info.at for info in pool), default="")
    images = {one.id: one.image for one in snapshot.config.targets}
    lacking = {
        info.task: info
        for other, image in images.items()
        if other != target and image == images.get(target)
        for info in snapshot.pool.get(other, ())
        if info.task not in held and info.at >= since
    }
    return sorted(lacking.values(), key=lambda info: info.key), len(held)


def _left(store: Store, project: str, target: str) -> set[int]:
    return set(json.loads(store.note(_name(project, target)) or "[]"))


def _name(project: str, target: str) -> str:
    return f"left:{project}:{target}"
