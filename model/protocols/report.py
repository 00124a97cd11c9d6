"""What was measured by a protocol, in the form that is printed and written."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.protocols.published import PAPER, PUBLISHED, Protocol


@dataclass(frozen=True)
class Measured:
    """One number of examples on one part of the data.

    Attributes:
        part: "fold 0" and the like, or "all": what is compared with published figures.
        examples: of a query.
        figures: by name as in `published`, each 0 to 1.
        queries: pictures that were segmented; in videos, each object of a frame.
        seconds_per_query: of segmentation, files not counted.
    """

    part: str
    examples: int
    figures: Mapping[str, float]
    queries: int
    seconds_per_query: float


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
        protocol: which.
        checkpoint: the segmenter's identity.
        rows: in the order in which they were measured.
        notes: what a reader must know to compare, a sentence each.
    """

    protocol: Protocol
    checkpoint: str
    rows: tuple[Measured, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For `json.dump`; figures 0 to 1, the published ones too."""
        return {
            "protocol": self.protocol,
            "checkpoint": self.checkpoint,
            "rows": [
                {
                    "part": row.part,
                    "examples": row.examples,
                    **row.figures,
                    "queries": row.queries,
                    "seconds_per_query": row.seconds_per_query,
                }
                for row in self.rows
            ],
            "published": [
                {
                    "method": figure.method,
                    "examples": figure.examples,
                    **{name: round(value / 100, 4) for name, value in figure.figures.items()},
                    "source": f"{PAPER}, {figure.table}",
                    "remark": figure.remark,
                }
                for figure in PUBLISHED[self.protocol]
            ],
            "notes": list(self.notes),
        }
