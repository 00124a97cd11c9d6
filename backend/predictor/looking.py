"""Maps of queries with a nearer look at small objects, as many as there is time for; knows neither tasks nor the store."""

import time
from collections.abc import Sequence

from model import zoom
from model.edges import ProbabilityMap
from model.segmenter import Query, Segmenter


def maps(
    segmenter: Segmenter, queries: Sequence[Query], nearer: Sequence[bool], until: float | None = None
) -> list[ProbabilityMap]:
    """Segment queries in their order.

    Args:
        segmenter: what looks.
        queries: at least one.
        nearer: whether small objects get a nearer look, as many as queries.
        until: `time.monotonic()` after which no nearer look may end, by how long the first one took; None for no limit.

    Returns:
        One map a query; none of the query whose nearer look would end too late, nor of those after it.

    Raises:
        DeviceMemoryError: as `Segmenter.maps`.
    """
    began = time.monotonic()
    found = segmenter.maps(queries)
    each = (time.monotonic() - began) / len(queries)
    for place, query in enumerate(queries):
        look = zoom.plan(segmenter, query, found[place]) if nearer[place] else None
        if look is None:
            continue
        if until is not None and time.monotonic() + each * len(look.tiles) > until:
            return found[:place]
        found[place] = zoom.joined(look, segmenter.maps(look.queries), found[place])
    return found
