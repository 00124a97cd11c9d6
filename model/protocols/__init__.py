"""The published protocols, where their data is there: COCO-20i, PASCAL-5i, FSS-1000, DAVIS 2017; see docs/protocols.md.

Knows files in the layouts that the data comes in, and no service and no command line. Nothing is fetched.
"""

from model.protocols.few_shot import evaluate_few_shot
from model.protocols.published import PAPER, PUBLISHED, Published
from model.protocols.report import Measured, Report
from model.protocols.sources import Coco20i, FewShotSource, Fss1000, Pascal5i
from model.protocols.video import Davis2017, evaluate_video

__all__ = [
    "PAPER",
    "PUBLISHED",
    "Coco20i",
    "Davis2017",
    "FewShotSource",
    "Fss1000",
    "Measured",
    "Pascal5i",
    "Published",
    "Report",
    "evaluate_few_shot",
    "evaluate_video",
]
