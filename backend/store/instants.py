"""When an annotation was last changed, as a number that compares rightly; the same for every engine."""

from datetime import UTC, datetime


def unix_seconds(at: str) -> float:
    """Unix time of an ISO 8601 text; without a time zone it is taken as UTC.

    Label Studio leaves out the fraction where it is zero and writes the zone as `Z` or `+00:00`, so texts do not sort
    as the instants that they name. What is no time at all counts as older than everything (0.0).
    """
    try:
        instant = datetime.fromisoformat(at)
    except ValueError:
        return 0.0
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return instant.timestamp()
