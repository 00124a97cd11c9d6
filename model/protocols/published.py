"""Published figures that measured ones are printed beside, in percent as they were printed, each with its table.

All are from the tables of one paper (Wang et al.: SegGPT: Segmenting Everything In Context, arXiv 2304.03284), which
copied those of other methods from theirs. Only what was read there is here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Protocol = Literal["coco20i", "pascal5i", "fss1000", "davis2017"]

PAPER = "arXiv 2304.03284"

SEEN = "trained on the test's categories"
IN_TRAINING = "trained on COCO and PASCAL VOC"
ON_FSS = "trained on FSS-1000"
VIDEO = "trained on videos"


@dataclass(frozen=True)
class Published:
    """A figure of a paper.

    Attributes:
        method: what was measured.
        examples: a number, or the paper's word where it gives none.
        figures: percent, by name: `miou`, or `j_and_f`, `j` and `f`.
        table: of `PAPER`.
        remark: what keeps it from being compared with others, or "".
    """

    method: str
    examples: str
    figures: Mapping[str, float]
    table: str
    remark: str = ""


def _few_shot(table: str, *rows: tuple[str, float, float, str]) -> tuple[Published, ...]:
    """Rows of method, one-shot and few-shot mIoU, remark."""
    return tuple(
        Published(method, examples, {"miou": miou}, table, remark)
        for method, one, few, remark in rows
        for examples, miou in (("1", one), ("few", few))
    )


def _video(table: str, *rows: tuple[str, str, float, float, float, str]) -> tuple[Published, ...]:
    """Rows of method, examples, J&F, J, F, remark."""
    return tuple(
        Published(method, examples, {"j_and_f": both, "j": j, "f": f}, table, remark)
        for method, examples, both, j, f, remark in rows
    )


PUBLISHED: Mapping[Protocol, tuple[Published, ...]] = {
    "coco20i": _few_shot(
        "Table 1",
        ("SegGPT", 56.1, 67.9, IN_TRAINING),
        ("Painter", 32.8, 32.6, ""),
        ("HSNet", 41.2, 49.5, ""),
        ("HSNet*", 41.7, 50.7, SEEN),
        ("VAT", 41.3, 47.9, ""),
        ("VAT*", 42.9, 49.4, SEEN),
        ("FPTrans", 47.0, 58.9, ""),
        ("FPTrans*", 56.5, 65.5, SEEN),
    ),
    "pascal5i": _few_shot(
        "Table 1",
        ("SegGPT", 83.2, 89.8, IN_TRAINING),
        ("Painter", 64.5, 64.6, ""),
        ("HSNet", 66.2, 70.4, ""),
        ("HSNet*", 68.7, 73.8, SEEN),
        ("VAT", 67.9, 72.0, ""),
        ("VAT*", 72.4, 76.3, SEEN),
        ("FPTrans", 68.8, 78.0, ""),
        ("FPTrans*", 77.7, 83.2, SEEN),
    ),
    "fss1000": (
        *_few_shot(
            "Table 2",
            ("SegGPT", 85.6, 89.3, ""),
            ("Painter", 61.7, 62.3, ""),
            ("DAN", 85.2, 88.1, ON_FSS),
            ("HSNet", 86.5, 88.5, ON_FSS),
            ("SSP", 87.3, 88.6, ON_FSS),
            ("VAT", 90.3, 90.8, ON_FSS),
            ("DACM", 90.8, 91.7, ON_FSS),
        ),
        *(
            Published("SegGPT", examples, {"miou": miou}, "Table 4a", remark)
            for examples, miou, remark in (
                ("1", 85.5, ""),
                ("4", 89.3, "spatial ensemble"),
                ("4", 87.8, "feature ensemble"),
                ("8", 89.8, "feature ensemble"),
            )
        ),
    ),
    "davis2017": (
        *_video(
            "Table 3",
            ("SegGPT", "8", 75.6, 72.5, 78.6, ""),
            ("Painter", "", 34.6, 28.5, 40.8, ""),
            ("AGAME", "", 70.0, 67.2, 72.7, VIDEO),
            ("AGSS", "", 67.4, 64.9, 69.9, VIDEO),
            ("STM", "", 81.8, 79.2, 84.3, VIDEO),
            ("AFB-URR", "", 74.6, 73.0, 76.1, VIDEO),
            ("RDE", "", 86.1, 82.1, 90.0, VIDEO),
            ("SWEM", "", 84.3, 81.2, 87.4, VIDEO),
            ("XMem", "", 87.7, 84.0, 91.4, VIDEO),
        ),
        *_video(
            "Table 4b",
            ("SegGPT", "1", 70.0, 66.4, 73.7, ""),
            ("SegGPT", "4", 74.7, 71.6, 77.7, ""),
            ("SegGPT", "12", 74.8, 71.6, 77.9, ""),
            ("SegGPT", "16", 74.6, 71.4, 77.8, ""),
        ),
    ),
}
