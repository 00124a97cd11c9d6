"""What the Redis engine does in one step, in Lua (keys: see `redis_keys`); tunings and prompts: see `redis_prompts`."""

from collections.abc import Iterable
from typing import Any

from backend.store.redis_database import Script
from backend.store.redis_keys import question, script
from backend.store.redis_records import ARRAYS, KINDS, Columns, Row, as_json, fields, without

# -- projects ------------------------------------------------------------------------------------------------------
PUT_LABEL_CONFIG = script("""
local name, config, targets = take(), take(), take()
local project, moved = key('project', name), 0
local before = call('HGET', project, 'targets')
add_project(name)
if before and before ~= '' and before ~= targets then
    call('HINCRBY', project, 'generation', 1)
    moved = 1
end
call('HSET', project, 'label_config', config, 'targets', targets)
return moved
""")
MOVE_GENERATION = script("""
local project = take()
add_project(project)
return call('HINCRBY', key('project', project), 'generation', 1)
""")
MARK_RECONCILED = script("""
local project = take()
add_project(project)
call('HSET', key('project', project), 'reconciled', take(), 'signs', take())
""")
PROJECTS = question("""
local found, columns = {}, take_list()
for place, project in ipairs(call('ZRANGE', key('projects'), 0, -1)) do
    found[place] = call('HMGET', key('project', project), unpack(columns))
end
return found
""")

# -- events --------------------------------------------------------------------------------------------------------
ADD_EVENT = script("""
local flat, named = take_fields(take())
named.id = exact(call('INCR', key('last-event')))
add_event({'id', named.id, unpack(flat)}, named)
return named.id
""")
PENDING_EVENTS = question("""
local limit, wanted, columns, found = tonumber(take()), take_list()[1], take_list(), {}
for _, id in ipairs(call('ZRANGE', key('events'), 0, -1)) do
    if limit >= 0 and #found >= limit then break end
    if wanted == nil or call('HGET', key('event', id), 'project') == wanted then
        found[#found + 1] = call('HMGET', key('event', id), unpack(columns))
    end
end
return found
""")
RETRY_EVENT = script("""
local event, reason = key('event', take()), take()
if call('EXISTS', event) == 0 then
    return 0
end
call('HSET', event, 'reason', reason)
return call('HINCRBY', event, 'attempts', 1)
""")

# -- approvals and examples ----------------------------------------------------------------------------------------
PUT_APPROVAL = script("""
local project, annotation, task, digest, moment, json = take(), take(), take(), take(), take(), take()
local columns, count = take(), tonumber(take())
local before = cjson.decode(call('HGET', key('approvals', project), annotation) or '{"moment": 0}')
if before.digest == digest then
    if before.moment < tonumber(moment) then
        call('HSET', key('approvals', project), annotation, json)
    end
    return 'unchanged'
elseif count < 0 or before.moment > tonumber(moment) then
    return 'stale'
end
local pinned = pinned_targets(project, annotation)
remove_approval(project, annotation)
remove_taught(project, annotation)
add_approval(project, annotation, task, json)
for _ = 1, count do
    local flat, named = take_fields(columns)
    add_example(flat, named, take(), take())
    if pinned[named.target] then
        call('HSET', key('example', named.key), 'pinned', 1)
    end
end
if before.digest then
    return 'changed'
end
add_project(project)
call('HINCRBY', key('project', project), 'approvals', 1)
return 'new'
""")
WITHDRAW = script("""
local project, found = take(), {}
for _, annotation in ipairs(take_list()) do
    found[#found + 1] = remove_approval(project, annotation) or nil
    remove_taught(project, annotation)
end
return found
""")
APPROVALS_OF_TASKS = question("""
local project, found = take(), {}
for _, task in ipairs(take_list()) do
    for _, annotation in ipairs(call('SMEMBERS', key('task-approvals', project, task))) do
        found[#found + 1] = call('HGET', key('approvals', project), annotation)
    end
end
return found
""")
POOL = question("""
local index, found, columns = take(), {}, take_list()
for place, name in ipairs(call('ZRANGE', index, 0, -1)) do
    found[place] = call('HMGET', key('example', name), unpack(columns))
end
return found
""")
EXAMPLES = question("""
local columns, found = take_list(), {}
for _, name in ipairs(take_list()) do
    if call('EXISTS', key('example', name)) == 1 then
        found[#found + 1] = {
            call('HMGET', key('example', name), unpack(columns)),
            call('HMGET', key('arrays', name), 'image', 'mask'),
        }
    end
end
return found
""")
DROP_EXAMPLES = script("""
local count = 0
for _, name in ipairs(take_list()) do
    count = count + remove_example(name)
end
return count
""")
SCORE_EXAMPLES = script("""
local flat = take_fields(take())
for place = 1, #flat, 2 do
    if call('EXISTS', key('example', flat[place])) == 1 then
        call('HSET', key('example', flat[place]), 'score', flat[place + 1])
    end
end
""")

PLACE_EXAMPLES = script("""
for _ = 1, tonumber(take()) do
    local example = key('example', take())
    local sequence, frame = take(), take()
    if call('EXISTS', example) == 1 then
        call('HSET', example, 'sequence', sequence, 'frame', frame)
    end
end
""")

PIN_EXAMPLES = script("""
local pinned, count = take(), 0
for _, name in ipairs(take_list()) do
    if call('EXISTS', key('example', name)) == 1 then
        call('HSET', key('example', name), 'pinned', pinned)
        count = count + 1
    end
end
return count
""")

# -- predictions ---------------------------------------------------------------------------------------------------
PUT_PREDICTION = script("""
local flat, named = take_fields(take())
local pushed = take()
named.id = exact(call('INCR', key('last-prediction')))
add_prediction({'id', named.id, unpack(flat)}, named)
for _ = 1, tonumber(take()) do
    call('HSET', key('masks', named.id), take(), take())
end
if pushed ~= '' then
    add_pushed(named.project, pushed, named.task, named.revision, named.at)
end
""")
PREDICTIONS = question("""
local project, task, columns, found = take(), take(), take_list(), {}
local numbers = call('HGETALL', key('task-predictions', project, task))
for place = 1, #numbers, 2 do
    found[#found + 1] = {
        call('HMGET', key('prediction', numbers[place + 1]), unpack(columns)),
        call('HGETALL', key('masks', numbers[place + 1])),
        call('SMEMBERS', key('pushed-of', project, task, numbers[place])),
    }
end
return found
""")
PUSHED = question("""
local project, except, columns, found = take(), take_list(), take_list(), {}
for _, revision in ipairs(call('SMEMBERS', key('pushed-revisions', project))) do
    if revision ~= except[1] then
        local pushed = call('HGETALL', key('pushed', project, revision))
        for place = 1, #pushed, 2 do
            local task = string.match(pushed[place + 1], '^%S+')
            local number = call('HGET', key('task-predictions', project, task), revision)
            if number then
                local prediction = call('HMGET', key('prediction', number), unpack(columns))
                found[#found + 1] = {pushed[place], pushed[place + 1], prediction}
            end
        end
    end
end
return found
""")
FORGET_PUSHED = script("""
local project = take()
for _, id in ipairs(take_list()) do
    remove_pushed(project, id)
end
""")
DROP_SUPERSEDED = script("""
local project, before, count = take(), tonumber(take()), 0
for _, task in ipairs(take_list()) do
    local numbers, made = call('HGETALL', key('task-predictions', project, task)), {}
    for place = 1, #numbers, 2 do
        local at = tonumber(call('HGET', key('prediction', numbers[place + 1]), 'at'))
        made[#made + 1] = {revision = numbers[place], number = tonumber(numbers[place + 1]), at = at}
    end
    table.sort(made, function(one, other)
        return one.at < other.at or (one.at == other.at and one.number < other.number)
    end)
    for place = 1, #made - 1 do
        local revision = made[place].revision
        local held = call('EXISTS', key('pushed-of', project, task, revision)) == 1
        if made[place + 1].at <= before and not held then
            remove_prediction(project, task, revision)
            count = count + 1
        end
    end
end
return count
""")
PUT_FRAMES = script("""
local project, task, keep, columns = take(), take(), tonumber(take()), take()
remove_frames(project, task)
for _ = 1, tonumber(take()) do
    local flat, named = take_fields(columns)
    add_frame(flat, named, take(), take())
end
for _, name in ipairs(call('ZREVRANGE', key('frame-times', project), keep, -1)) do
    remove_frame(project, string.match(name, '^(.-):(.*)$'))
end
""")
FRAME_BEFORE = question("""
local project, target, sequence, frame, columns = take(), take(), take(), take(), take_list()
local index = key('frames', project, target, sequence)
local last = call('ZREVRANGEBYSCORE', index, '(' .. frame, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
local found = {}
if last[1] then
    for _, task in ipairs(call('ZRANGEBYSCORE', index, last[2], last[2])) do
        found[#found + 1] = call('HMGET', key('frame', project, task, target), unpack(columns))
    end
end
return found
""")
KEPT_FIGURES = question("""
local project, newest, found = take(), tonumber(take()), {}
for place, name in ipairs(call('ZREVRANGE', key('kept-times', project), 0, newest - 1)) do
    found[place] = call('HGET', key('kept', project), name)
end
return {call('ZCARD', key('kept-times', project)), found}
""")
KEPT = question("""
local project, since, before, newest = take(), take(), take(), tonumber(take())
local wanted, found = take_list()[1], {}
for _, name in ipairs(call('ZREVRANGEBYSCORE', key('kept-times', project), before, since)) do
    if #found == newest then break end
    if wanted == nil or string.match(name, ':(.*)') == wanted then
        found[#found + 1] = call('HGET', key('kept', project), name)
    end
end
return found
""")
WAITING_TASKS = question("""
local project, found = take(), {}
for _, task in ipairs(call('SMEMBERS', key('waiting-tasks', project))) do
    found[#found + 1] = call('HGET', key('task-states', project), task)
end
return {found, call('GET', key('task-news', project)) or '0'}
""")
FORGET_TASKS = script("""
local project = take()
for _, task in ipairs(take_list()) do
    remove_task_state(project, task)
    for _, revision in ipairs(call('HKEYS', key('task-predictions', project, task))) do
        for _, id in ipairs(call('SMEMBERS', key('pushed-of', project, task, revision))) do
            remove_pushed(project, id)
        end
        remove_prediction(project, task, revision)
    end
    remove_frames(project, task)
end
""")

# -- leases --------------------------------------------------------------------------------------------------------
ACQUIRE = script("""
local name, owner, now = take(), take(), clock()
for _, gone in ipairs(call('ZRANGEBYSCORE', key('leases'), '-inf', string.format('%.6f', now))) do
    call('ZREM', key('leases'), gone)
    call('HDEL', key('lease-owners'), gone)
end
local holder = call('HGET', key('lease-owners'), name)
if holder and holder ~= owner then
    return 0
end
call('HSET', key('lease-owners'), name, owner)
call('ZADD', key('leases'), string.format('%.6f', now + tonumber(take())), name)
return 1
""")
RELEASE = script("""
local name = take()
if call('HGET', key('lease-owners'), name) == take() then
    call('HDEL', key('lease-owners'), name)
    call('ZREM', key('leases'), name)
end
""")
HELD = question("""
local prefix = take()
for _, name in ipairs(call('ZRANGEBYSCORE', key('leases'), '(' .. string.format('%.6f', clock()), '+inf')) do
    if string.sub(name, 1, #prefix) == prefix then
        return 1
    end
end
return 0
""")


# -- rows as they are ----------------------------------------------------------------------------------------------
BESIDE: dict[str, Columns] = {
    **{kind: {} for kind in KINDS},
    "examples": ARRAYS,
    "predicted_masks": {"mask": "blob"},
    "frames": ARRAYS,
    "prompts": {"content": "blob"},
    "tuning_states": {"state": "blob"},
}
"""Columns that do not lie with the others, by kind of row."""

_AS_JSON = ("approvals", "kept", "task_states")


def _add_rows(body: str) -> Script:
    """A step that adds rows: `flat` and `named` hold a row's values, `extra` those that lie beside, or its JSON."""
    return script(f"""
local columns, extras = take(), tonumber(take())
for _ = 1, tonumber(take()) do
    local flat, named = take_fields(columns)
    local extra = {{}}
    for place = 1, extras do
        extra[place] = take()
    end
    {body}
end
""")


ADD_ROWS = {
    "projects": _add_rows("add_project(named.key) call('HSET', key('project', named.key), unpack(flat))"),
    "events": _add_rows("add_event(flat, named)"),
    "approvals": _add_rows("add_approval(named.project, named.annotation, named.task, extra[1])"),
    "examples": _add_rows("add_example(flat, named, extra[1], extra[2])"),
    "predictions": _add_rows("add_prediction(flat, named) count_on('last-prediction', named.id)"),
    "predicted_masks": _add_rows("call('HSET', key('masks', named.prediction), named.target, extra[1])"),
    "frames": _add_rows("add_frame(flat, named, extra[1], extra[2])"),
    "pushed": _add_rows("add_pushed(named.project, named.id, named.task, named.revision, named.at)"),
    "kept": _add_rows("add_kept(named, extra[1])"),
    "task_states": _add_rows("add_task_state(named, extra[1])"),
    "prompts": _add_rows("add_prompt(flat, named, extra[1])"),
    "tunings": _add_rows("add_tuning(flat, named)"),
    "tuning_states": _add_rows("call('SET', key('state', named.tuning), extra[1])"),
}
"""Rows of a kind added with their ids and indices, each in place of an earlier one."""


def rows_of(kind: str, rows: Iterable[Row]) -> list[Any]:
    """The arguments of `ADD_ROWS`.

    Raises:
        StoreError: a value does not fit its column.
    """
    beside, as_whole = BESIDE[kind], kind in _AS_JSON
    columns = without(KINDS[kind], *beside)
    count, flat = 0, []
    for row in rows:
        count += 1
        flat += fields(columns, row) + fields(beside, row)[1::2]
        if as_whole:
            flat.append(as_json(columns, row))
    return [len(columns), len(beside) + as_whole, count, *flat]
