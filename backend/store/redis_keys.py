"""Which keys the Redis engine keeps, and in Lua how records get into them and out; knows no Python records.

Keys, each below the prefix. A list is read by its index, never by looking through all keys; what is large (pictures,
tensors, masks) has keys of its own, which lists never touch. No key ever expires.

| key | what |
| --- | --- |
| `version`, `incomplete` | of the keys; there while `store migrate` copies into them |
| `project:P`, `projects` | hash; sorted set of all by name |
| `event:N`, `events`, `last-event` | hash; sorted set of the pending by id; the last id given |
| `approvals:P`, `task-approvals:P:TASK` | hash annotation to JSON; set of annotations |
| `example:KEY`, `arrays:KEY` | hash; hash of image and mask |
| `pool:P`, `target-pool:P:TARGET`, `taught:P:ANNOTATION` | sorted sets by moment, then key; set of keys |
| `prediction:N`, `masks:N`, `last-prediction` | hash; hash target to mask; the last number given |
| `task-predictions:P:TASK`, `predicted:P:REVISION` | hash revision to number; set of tasks |
| `predicted-again:P` | set of tasks that have several predictions |
| `pushed:P:REVISION`, `pushed-revisions:P` | hash id to "task at"; set of revisions that have any |
| `pushed-where:P`, `pushed-of:P:TASK:REVISION` | hash id to revision; set of ids |
| `frame:P:TASK:TARGET`, `task-frames:P:TASK` | hash, pictures too; set of targets |
| `frames:P:TARGET:SEQUENCE`, `frame-times:P` | sorted sets: tasks by frame; "task:target" by time |
| `kept:P`, `kept-times:P` | hash "annotation:target" to JSON; sorted set by time |
| `task-states:P` | hash task to JSON |
| `waiting-tasks:P`, `task-news:P` | set of tasks that are queued or running; when a state changed last |
| `leases`, `lease-owners` | sorted set by the end, in seconds of Redis' clock; hash |
| `notes` | hash |
| `prompt:P:N`, `content:P:N`, `prompts:P` | hash; the file; sorted set by number |
| `tuning:N`, `tunings`, `tunings:P`, `last-tuning` | hash; sorted sets by id; the last id given |
| `open-tuning:P:TARGET`, `state:N` | id of the one that waits or runs; what it needs to go on |
"""

from backend.store.redis_database import Script

_LIBRARY = """
local call, given = redis.call, ARGV
local place_of_last = 1

local function take()
    place_of_last = place_of_last + 1
    return given[place_of_last]
end

local function take_list()
    return cjson.decode(take())
end

-- `count` fields: names and values in turn, and the values by name
local function take_fields(count)
    local flat, named = {}, {}
    for place = 1, tonumber(count) * 2, 2 do
        flat[place], flat[place + 1] = take(), take()
        named[flat[place]] = flat[place + 1]
    end
    return flat, named
end

local function key(kind, ...)
    local parts = {...}
    for place, part in ipairs(parts) do
        parts[place] = string.gsub(string.gsub(part, '%%', '%%25'), ':', '%%3A')
    end
    return given[1] .. kind .. (#parts > 0 and ':' .. table.concat(parts, ':') or '')
end

-- Leases go by Redis' clock, so that machines with other clocks agree.
local function clock()
    local now = call('TIME')
    return tonumber(now[1]) + tonumber(now[2]) / 1000000
end

local function exact(number)
    return string.format('%.0f', number)
end

local function add_project(project)
    call('HSET', key('project', project), 'key', project)
    call('ZADD', key('projects'), 0, project)
end

local function add_approval(project, annotation, task, json)
    call('HSET', key('approvals', project), annotation, json)
    call('SADD', key('task-approvals', project, task), annotation)
end

local function remove_approval(project, annotation)
    local json = call('HGET', key('approvals', project), annotation)
    if json then
        call('HDEL', key('approvals', project), annotation)
        call('SREM', key('task-approvals', project, exact(cjson.decode(json).task)), annotation)
    end
    return json
end

local function remove_example(name)
    local found = call('HMGET', key('example', name), 'project', 'target', 'annotation')
    local project, target, annotation = found[1], found[2], found[3]
    if not project then
        return 0
    end
    call('DEL', key('example', name), key('arrays', name))
    call('ZREM', key('pool', project), name)
    call('ZREM', key('target-pool', project, target), name)
    call('SREM', key('taught', project, annotation), name)
    return 1
end

local function remove_taught(project, annotation)
    for _, name in ipairs(call('SMEMBERS', key('taught', project, annotation))) do
        remove_example(name)
    end
end

local function pinned_targets(project, annotation)
    local pinned = {}
    for _, name in ipairs(call('SMEMBERS', key('taught', project, annotation))) do
        local found = call('HMGET', key('example', name), 'target', 'pinned')
        pinned[found[1]] = found[2] == '1' or pinned[found[1]]
    end
    return pinned
end

local function add_example(flat, named, image, mask)
    remove_example(named.key)
    call('HSET', key('example', named.key), unpack(flat))
    call('HSET', key('arrays', named.key), 'image', image, 'mask', mask)
    call('ZADD', key('pool', named.project), named.moment, named.key)
    call('ZADD', key('target-pool', named.project, named.target), named.moment, named.key)
    call('SADD', key('taught', named.project, named.annotation), named.key)
end

local function remove_pushed(project, id)
    local revision = call('HGET', key('pushed-where', project), id)
    if not revision then
        return
    end
    local pushed = key('pushed', project, revision)
    local task = string.match(call('HGET', pushed, id), '^%S+')
    call('HDEL', key('pushed-where', project), id)
    call('HDEL', pushed, id)
    call('SREM', key('pushed-of', project, task, revision), id)
    if call('EXISTS', pushed) == 0 then
        call('SREM', key('pushed-revisions', project), revision)
    end
end

local function add_pushed(project, id, task, revision, at)
    remove_pushed(project, id)
    call('HSET', key('pushed-where', project), id, revision)
    call('HSET', key('pushed', project, revision), id, task .. ' ' .. at)
    call('SADD', key('pushed-revisions', project), revision)
    call('SADD', key('pushed-of', project, task, revision), id)
end

local function index_predictions(project, task)
    local several = call('HLEN', key('task-predictions', project, task)) > 1
    call(several and 'SADD' or 'SREM', key('predicted-again', project), task)
end

local function remove_prediction(project, task, revision)
    local number = call('HGET', key('task-predictions', project, task), revision)
    if number then
        call('DEL', key('prediction', number), key('masks', number))
        call('HDEL', key('task-predictions', project, task), revision)
        call('SREM', key('predicted', project, revision), task)
        index_predictions(project, task)
    end
end

local function add_prediction(flat, named)
    remove_prediction(named.project, named.task, named.revision)
    call('HSET', key('prediction', named.id), unpack(flat))
    call('HSET', key('task-predictions', named.project, named.task), named.revision, named.id)
    call('SADD', key('predicted', named.project, named.revision), named.task)
    index_predictions(named.project, named.task)
end

local function remove_frame(project, task, target)
    local frame = key('frame', project, task, target)
    local sequence = call('HGET', frame, 'sequence')
    if sequence then
        call('DEL', frame)
        call('SREM', key('task-frames', project, task), target)
        call('ZREM', key('frames', project, target, sequence), task)
        call('ZREM', key('frame-times', project), task .. ':' .. target)
    end
end

local function remove_frames(project, task)
    for _, target in ipairs(call('SMEMBERS', key('task-frames', project, task))) do
        remove_frame(project, task, target)
    end
end

local function add_frame(flat, named, image, mask)
    local project, task, target = named.project, named.task, named.target
    remove_frame(project, task, target)
    call('HSET', key('frame', project, task, target), 'image', image, 'mask', mask, unpack(flat))
    call('SADD', key('task-frames', project, task), target)
    call('ZADD', key('frames', project, target, named.sequence), named.frame, task)
    call('ZADD', key('frame-times', project), named.at, task .. ':' .. target)
end

local function is_open(status)
    return status == 'queued' or status == 'running'
end

local function index_task_state(project, task, status, at)
    call(is_open(status) and 'SADD' or 'SREM', key('waiting-tasks', project), task)
    if tonumber(at) > tonumber(call('GET', key('task-news', project)) or 0) then
        call('SET', key('task-news', project), at)
    end
end

local function add_task_state(named, json)
    call('HSET', key('task-states', named.project), named.task, json)
    index_task_state(named.project, named.task, named.status, named.at)
end

local function remove_task_state(project, task)
    call('HDEL', key('task-states', project), task)
    call('SREM', key('waiting-tasks', project), task)
    if call('EXISTS', key('task-states', project)) == 0 then
        call('DEL', key('task-news', project))
    end
end

local function add_kept(named, json)
    local name = named.annotation .. ':' .. named.target
    call('HSET', key('kept', named.project), name, json)
    call('ZADD', key('kept-times', named.project), named.at, name)
end

-- Let the next id be larger than this one
local function count_on(counter, id)
    if tonumber(id) > tonumber(call('GET', key(counter)) or 0) then
        call('SET', key(counter), id)
    end
end

-- Whether the target has an open tuning besides this one
local function is_taken(project, target, id)
    local found = call('GET', key('open-tuning', project, target))
    return found and found ~= id
end

local function mark_open(project, target, id, status)
    local open = key('open-tuning', project, target)
    if is_open(status) then
        call('SET', open, id)
    elseif call('GET', open) == id then
        call('DEL', open)
    end
end

local function add_tuning(flat, named)
    call('HSET', key('tuning', named.id), unpack(flat))
    call('ZADD', key('tunings'), named.id, named.id)
    call('ZADD', key('tunings', named.project), named.id, named.id)
    mark_open(named.project, named.target, named.id, named.status)
end

local function add_prompt(flat, named, content)
    call('HSET', key('prompt', named.project, named.number), unpack(flat))
    call('SET', key('content', named.project, named.number), content)
    call('ZADD', key('prompts', named.project), named.number, named.number)
end

local function add_event(flat, named)
    call('HSET', key('event', named.id), unpack(flat))
    call('ZADD', key('events'), named.id, named.id)
end
"""


def script(body: str) -> Script:
    """A step that writes; it may use what the library offers."""
    return Script(_LIBRARY + body)


def question(body: str) -> Script:
    """A step that writes nothing."""
    return Script(_LIBRARY + body, reads=True)
