"""What the attacks share: how many inputs are tried, a watchdog, and payloads of Label Studio with something wrong in
them.

In CI 10,000 inputs are tried; `FUZZ_FACTOR=10` by hand tries ten times as many.
"""

import copy
import faulthandler
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

FACTOR = int(os.environ.get("FUZZ_FACTOR", "1"))
PATIENCE = 300
"""Seconds after which an input counts as one that hangs: the process ends with what every thread was doing."""

OUT = [2]
"""Where that is written: the process's own standard error, which pytest keeps aside while it captures."""

TRIED: Counter[str] = Counter()
"""Inputs tried so far, by what was attacked."""

RECORDED = Path(__file__).parents[2] / "fixtures" / "label_studio"
REQUESTS: list[dict[str, Any]] = [
    request
    for file in sorted(RECORDED.glob("*.json"))
    for request in json.loads(file.read_text(encoding="utf-8")).get("requests", [])
]

PHASES = [phase for phase in Phase if phase is not Phase.explain]  # it takes long, and says little here

Where: TypeAlias = tuple[str | int, ...]


def inputs(count: int) -> settings:
    """So many inputs; a slow machine is no reason to fail."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    return settings(max_examples=count * FACTOR, deadline=None, suppress_health_check=slow, phases=PHASES)


@contextmanager
def trying(what: str, count: int = 1) -> Iterator[None]:
    """Count inputs, and end the process if they hang."""
    TRIED[what] += count
    faulthandler.dump_traceback_later(PATIENCE, exit=True, file=OUT[0])
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def recorded(path: str) -> list[Any]:
    """Bodies that Label Studio sent to a route."""
    return [request["body"] for request in REQUESTS if request["path"] == path and request.get("body")]


# -- strange values --------------------------------------------------------------------------------------------------
def nested(depth: int, *, in_objects: bool = False) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = {"in": value} if in_objects else [value]
    return value


NUMBERS = st.sampled_from(
    [0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**30, 10**400, 0.5, -0.0, 1e308, 1e-320]
    + [float(name) for name in ("nan", "inf", "-inf")]
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", " ", "\0", "\ud800", "a\u202eb", "\ufeff", "e\u0301" * 30, "\U0001f52c", "None", "NaN", "1e5", "-1", "٣",
         "9" * 400, "x" * 5000, "../../etc/passwd", "file:///etc/passwd", "http://127.0.0.1:9/x", "data:,", "s3://",
         "2026-13-45T99:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59Z", "1.x", "77", "1.2.3", "9" * 5000 + ".1",
         "' OR 1=1 --", "%s%n", "<View>", "{{7*7}}"]
    ),
)  # fmt: skip
STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    TEXTS,
    st.builds(nested, st.sampled_from([3, 60, 150]), in_objects=st.booleans()),
    st.lists(st.one_of(st.none(), NUMBERS, TEXTS), max_size=4),
    st.dictionaries(st.sampled_from(["id", "result", "value", "data", "", "0"]), NUMBERS, max_size=3),
)


# -- something wrong in a payload ------------------------------------------------------------------------------------
def places(value: Any, here: Where = ()) -> list[Where]:
    """Where something may be wrong; of long lists of numbers only the ends."""
    found = [here]
    if isinstance(value, dict):
        for name, item in value.items():
            found += places(item, (*here, name))
    elif isinstance(value, list):
        ends = range(len(value)) if len(value) <= 8 else (0, 1, len(value) - 1)
        for index in ends:
            found += places(value[index], (*here, index))
    return found


@st.composite
def wrong(draw: st.DrawFn, bodies: list[Any], most: int = 4) -> Any:
    """One of the bodies with up to `most` things wrong in it: missing, renamed, of another type, doubled, moved."""
    body = copy.deepcopy(draw(st.sampled_from(bodies)))
    for _ in range(draw(st.integers(0, most))):
        where = draw(st.sampled_from(places(body)))
        if not where:
            if draw(st.integers(0, 20)) == 20:
                return draw(STRANGE)
            continue
        holder = body
        for step in where[:-1]:
            holder = holder[step]
        _spoil(draw, holder, where[-1], body)
    return body


def _spoil(draw: st.DrawFn, holder: Any, last: Any, body: Any) -> None:
    match draw(st.sampled_from(["replace", "replace", "drop", "rename", "double", "wrap", "elsewhere"])):
        case "drop":
            del holder[last]
        case "rename" if isinstance(holder, dict):
            holder[draw(TEXTS)] = holder.pop(last)
        case "double" if isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
        case "wrap":
            holder[last] = [holder[last]]
        case "elsewhere":
            found: Any = body
            for step in draw(st.sampled_from(places(body))):
                found = found[step]
            holder[last] = copy.deepcopy(found)
        case _:
            holder[last] = draw(STRANGE)


@st.composite
def garbled(draw: st.DrawFn, bodies: list[Any]) -> bytes:
    """The bytes of one of the bodies cut off, overwritten, doubled or in another encoding."""
    text = json.dumps(draw(st.sampled_from(bodies)))
    content = text.encode()
    place = draw(st.integers(0, len(content)))
    match draw(st.sampled_from(["cut", "overwrite", "insert", "encode", "double"])):
        case "cut":
            return content[:place]
        case "overwrite":
            noise = draw(st.binary(min_size=1, max_size=6))
            return content[:place] + noise + content[place + len(noise) :]
        case "insert":
            signs = st.sampled_from(
                [b"\\ud800", b"\xff\xfe", b"\0", b"9" * 5000, b"[" * 1000, b'{"":' * 300, b"NaN"]
            )
            return content[:place] + draw(signs) + content[place:]
        case "encode":
            return text.encode(draw(st.sampled_from(["utf-16", "utf-32", "utf-8-sig"])))
    return content + content
