"""Which tasks a version of a prompt has learned from: their masks cannot judge it, whoever drew them and when."""

import json
from collections.abc import Iterable, Sequence

from backend.store import ExampleInfo, PromptRecord, Store


def note_tasks(store: Store, tuning: int, infos: Iterable[ExampleInfo]) -> None:
    """Note the tasks that a tuning works with, for the version that may come of it.

    Its record holds keys of examples, and a key says nothing any more once its example was corrected.
    """
    store.set_note(_name(tuning), json.dumps(sorted({info.task for info in infos})))


def seen_by(store: Store, version: PromptRecord, infos: Sequence[ExampleInfo]) -> frozenset[str] | None:
    """Keys of the examples whose picture or mask a version has learned from.

    Args:
        store: where versions and tunings are.
        version: that may have seen them.
        infos: the examples.

    Returns:
        None where it is not known: of an imported version that is none of the project's own.
    """
    if version.origin == "imported":
        content = store.prompts.prompt_content(version.project, version.number)
        own = [one for one in store.prompts.prompts(version.project) if one.origin == "tuned"]
        same = [one for one in own if store.prompts.prompt_content(one.project, one.number) == content]
        if not same:
            return None
        version = same[0]
    tuned = [one.id for one in store.prompts.tunings(version.project) if one.prompt == version.number]
    noted = [task for number in tuned for task in json.loads(store.note(_name(number)) or "[]")]
    tasks = {*noted, *(info.task for info in infos if info.key in version.examples)}
    return frozenset(info.key for info in infos if info.task in tasks)


def _name(tuning: int) -> str:
    return f"tuning-tasks:{tuning}"
