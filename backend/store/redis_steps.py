"""What brings a Redis store of an earlier version up to date; knows no Python records.

Step n brings a store of version n to version n + 1, which is then written down. What has been released never changes:
whoever needs other keys adds a step. Several processes may do a step at once, each may be cut off, and one that is
done already may write meanwhile: so a step works by small pieces, each of which leaves right what it finds.
"""

from backend.store.redis_database import RedisDatabase, Step
from backend.store.redis_keys import script
from backend.store.redis_records import listed

_AT_ONCE = 500

_INDEX_TASK_STATES = script("""
local project = take()
for _, task in ipairs(take_list()) do
    local json = call('HGET', key('task-states', project), task)
    if json then
        local state = cjson.decode(json)
        index_task_state(project, task, state.status, string.format('%.17g', state.at))
    end
end
""")
_INDEX_PREDICTIONS = script("""
for _ = 1, tonumber(take()) do
    index_predictions(take(), take())
end
""")


def _index_tasks(database: RedisDatabase) -> None:
    """`waiting-tasks`, `task-news` and `predicted-again`, which 0.1.0 did not keep."""
    for key in database.keys("task-states"):
        (project,) = database.parts_of(key)
        tasks = [name.decode() for name, _ in database.scanned("HSCAN", key)]
        for start in range(0, len(tasks), _AT_ONCE):
            database.run(_INDEX_TASK_STATES, project, listed(tasks[start : start + _AT_ONCE]))
    predicted = [database.parts_of(key) for key in database.keys("task-predictions")]
    for start in range(0, len(predicted), _AT_ONCE):
        some = predicted[start : start + _AT_ONCE]
        database.run(_INDEX_PREDICTIONS, len(some), *(part for parts in some for part in parts))


def _pin_examples(_database: RedisDatabase) -> None:
    """`pinned` and place of examples, predicted frames: none where missing. A backend without would forget them."""


STEPS: tuple[Step, ...] = (_index_tasks, _pin_examples)

VERSION = len(STEPS) + 1
"""Of the keys and what they hold; grows when an older backend could not work with them."""
