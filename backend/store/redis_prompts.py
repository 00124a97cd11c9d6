"""Tunings and prompts in the Redis store; knows no other records."""

import json
from collections.abc import Sequence
from dataclasses import replace

from typing_extensions import override

from backend.store.contract import IN_USE_AGAIN, REPLACED, PromptStore
from backend.store.records import PromptRecord, TuningRecord
from backend.store.redis_database import RedisDatabase
from backend.store.redis_keys import question, script
from backend.store.redis_records import PROMPT, TUNING, counted, listed, row_of, values, without

_PROGRESS = without(TUNING, "id", "project", "target", "asked_by", "created", "stop")

_PUT = """
local function fits(id, named)
    local found = call('HMGET', key('tuning', id), 'project', 'target')
    return not (found[1] and is_open(named.status) and is_taken(found[1], found[2], id))
end

local function put(id, flat, named)
    local found = call('HMGET', key('tuning', id), 'project', 'target')
    if found[1] then
        call('HSET', key('tuning', id), unpack(flat))
        mark_open(found[1], found[2], id, named.status)
        if named.status == 'done' or named.status == 'failed' then
            call('DEL', key('state', id))
        end
    end
end
"""
_UNFIT = "return redis.error_reply('UNFIT another tuning of the target is open')"

_ADD_TUNING = script("""
local flat, named = take_fields(take())
if is_taken(named.project, named.target) then
    return ''
end
named.id = exact(call('INCR', key('last-tuning')))
add_tuning({'id', named.id, unpack(flat)}, named)
return named.id
""")
_TUNINGS = question("""
local index, found, columns = take(), {}, take_list()
for place, id in ipairs(call('ZREVRANGE', index, 0, -1)) do
    found[place] = call('HMGET', key('tuning', id), unpack(columns))
end
return found
""")
_PUT_TUNING = script(f"""
{_PUT}
local id, has_state, state = take(), take(), take()
local flat, named = take_fields(take())
if has_state == '1' and call('EXISTS', key('tuning', id)) == 0 then
    return redis.error_reply('UNFIT there is no such tuning')
elseif not fits(id, named) then
    {_UNFIT}
end
if has_state == '1' then
    call('SET', key('state', id), state)
end
put(id, flat, named)
""")
_ASK_STOP = script("""
local tuning = key('tuning', take())
if call('EXISTS', tuning) == 1 then
    call('HSET', tuning, 'stop', 1)
end
""")
_REOPEN_TUNING = script("""
local id = take()
local found = call('HMGET', key('tuning', id), 'status', 'project', 'target')
if found[1] ~= 'stopped' or is_taken(found[2], found[3], id) then
    return 0
end
call('HSET', key('tuning', id), 'status', 'queued', 'stop', 0, 'ended', '', 'reason', '')
mark_open(found[2], found[3], id, 'queued')
return 1
""")

_ACTIVATE = f"""
-- Status and `replaced` of a target's versions, by number, and the number of the active one
local function versions_of(project, target)
    local versions, active = {{}}, ''
    for _, found in ipairs(call('ZRANGE', key('prompts', project), 0, -1)) do
        local row = call('HMGET', key('prompt', project, found), 'target', 'replaced', 'status')
        if row[1] == target then
            versions[found] = {{replaced = row[2]}}
            active = row[3] == 'active' and found or active
        end
    end
    return versions, active
end

local function retire(project, number, at, reason)
    call('HSET', key('prompt', project, number), 'status', 'retired', 'retired', at, 'reason', reason)
end

local function use(project, number, at, replaced, reason)
    call('HSET', key('prompt', project, number), 'status', 'active', 'activated', at, 'retired', '',
        'replaced', replaced, 'reason', reason)
end

-- Whether a version was active before another one, or before that one, and so on
local function is_before(number, newest, versions)
    local seen, found = {{}}, newest
    while versions[found] and versions[found].replaced ~= '' and not seen[found] do
        seen[found] = true
        found = versions[found].replaced
        if found == number then
            return true
        end
    end
    return false
end

local function activate(project, target, number, at, reason)
    local versions, before = versions_of(project, target)
    if number == before or not versions[number] then
        return 0
    end
    local replaced = before
    if before ~= '' then
        retire(project, before, at, string.format('{REPLACED}', number))
        -- Going back to what was there before must not make the newer one look like its forerunner.
        if is_before(number, before, versions) then
            replaced = versions[number].replaced
        end
    end
    use(project, number, at, replaced, reason)
    return 1
end
"""
_ACTIVATE_PROMPT = script(f"""
{_ACTIVATE}
return activate(take(), take(), take(), take(), take())
""")
_RETIRE_PROMPT = script(f"""
{_ACTIVATE}
local project, number, back_to, at, reason = take(), take(), take(), take(), take()
local target = call('HGET', key('prompt', project, number), 'target')
local versions, active = versions_of(project, target)
if number ~= active or (back_to ~= '' and (back_to == number or not versions[back_to])) then
    return 0
end
retire(project, number, at, reason)
if back_to ~= '' then
    use(project, back_to, at, versions[back_to].replaced, string.format('{IN_USE_AGAIN}', number))
end
return 1
""")
_ADD_PROMPT = script(f"""
{_PUT}
{_ACTIVATE}
local active, content, columns, tuning = take(), take(), take_list(), take()
local flat, named = take_fields(take())
local progress_flat, progress = take_fields(take())
if tuning ~= '' and not fits(tuning, progress) then
    {_UNFIT}
end
local last = call('ZREVRANGE', key('prompts', named.project), 0, 0)[1]
named.number = exact((tonumber(last) or 0) + 1)
add_prompt({{'number', named.number, unpack(flat)}}, named, content)
if active == '1' then
    activate(named.project, named.target, named.number, named.created, named.reason)
end
if tuning ~= '' then
    progress_flat[#progress_flat + 1] = 'prompt'
    progress_flat[#progress_flat + 1] = named.number
    put(tuning, progress_flat, progress)
    call('DEL', key('state', tuning))
end
return call('HMGET', key('prompt', named.project, named.number), unpack(columns))
""")
_PROMPTS = question("""
local project, columns, found = take(), take_list(), {}
for place, number in ipairs(call('ZRANGE', key('prompts', project), 0, -1)) do
    found[place] = call('HMGET', key('prompt', project, number), unpack(columns))
end
return found
""")


class RedisPrompts(PromptStore):
    """The part of a store that an engine hands out as `prompts`."""

    def __init__(self, database: RedisDatabase) -> None:
        self._database = database

    # -- tunings -------------------------------------------------------------------------------------------------
    @override
    def add_tuning(self, project: str, target: str, asked_by: str, at: float) -> TuningRecord | None:
        tuning = TuningRecord(0, project, target, "queued", asked_by, at)
        columns = without(TUNING, "id")
        number = self._database.run(_ADD_TUNING, *counted(columns, row_of(tuning, columns)))
        return replace(tuning, id=int(number)) if number else None

    @override
    def tuning(self, number: int) -> TuningRecord | None:
        reply = self._database.read("HMGET", self._database.key("tuning", number), *TUNING)
        return None if reply[0] is None else _tuning(reply)

    @override
    def tunings(self, project: str | None = None) -> list[TuningRecord]:
        parts = () if project is None else (project,)
        replies = self._database.run(_TUNINGS, self._database.key("tunings", *parts), listed(TUNING))
        return [_tuning(reply) for reply in replies]

    @override
    def put_tuning(self, tuning: TuningRecord, state: bytes | None = None) -> None:
        given = (0, b"") if state is None else (1, state)
        self._database.run(_PUT_TUNING, tuning.id, *given, *counted(_PROGRESS, row_of(tuning, _PROGRESS)))

    @override
    def tuning_state(self, number: int) -> bytes | None:
        state: bytes | None = self._database.read("GET", self._database.key("state", number))
        return state

    @override
    def ask_stop(self, number: int) -> None:
        self._database.run(_ASK_STOP, number)

    @override
    def reopen_tuning(self, number: int) -> bool:
        return bool(self._database.run(_REOPEN_TUNING, number))

    # -- prompts -------------------------------------------------------------------------------------------------
    @override
    def add_prompt(
        self,
        prompt: PromptRecord,
        content: bytes,
        *,
        tuning: TuningRecord | None = None,
        activate: bool = False,
    ) -> PromptRecord:
        columns = without(PROMPT, "number")
        progress = [0] if tuning is None else counted(_PROGRESS, row_of(tuning, _PROGRESS))
        reply = self._database.run(
            _ADD_PROMPT,
            int(activate),
            content,
            listed(PROMPT),
            "" if tuning is None else tuning.id,
            *counted(columns, row_of(replace(prompt, status="candidate"), columns)),
            *progress,
        )
        return _prompt(reply)

    @override
    def prompts(self, project: str, target: str | None = None) -> list[PromptRecord]:
        replies = self._database.run(_PROMPTS, project, listed(PROMPT))
        found = [_prompt(reply) for reply in replies]
        return [prompt for prompt in found if target in (None, prompt.target)]

    @override
    def prompt_content(self, project: str, number: int) -> bytes | None:
        content: bytes | None = self._database.read("GET", self._database.key("content", project, number))
        return content

    @override
    def activate_prompt(self, project: str, target: str, number: int, at: float, reason: str) -> bool:
        return bool(self._database.run(_ACTIVATE_PROMPT, project, target, number, repr(float(at)), reason))

    @override
    def retire_prompt(self, project: str, number: int, back_to: int | None, at: float, reason: str) -> bool:
        to = "" if back_to is None else back_to
        return bool(self._database.run(_RETIRE_PROMPT, project, number, to, repr(float(at)), reason))


def _tuning(reply: Sequence[bytes | None]) -> TuningRecord:
    row = values(TUNING, reply)
    return TuningRecord(**{**row, "examples": tuple(json.loads(row["examples"])), "stop": bool(row["stop"])})


def _prompt(reply: Sequence[bytes | None]) -> PromptRecord:
    row = values(PROMPT, reply)
    many = {name: tuple(json.loads(row[name])) for name in ("examples", "withdrawn")}
    return PromptRecord(**{**row, **many, "figures": json.loads(row["figures"])})
