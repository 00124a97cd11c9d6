"""What Label Studio says of a project, read into one type; knows no request."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, field_validator

UNCERTAINTY = "Uncertainty sampling"
"""The `sampling` by which the label stream gives the lowest score first."""


class ProjectInfo(BaseModel):
    """The fields of `GET /api/projects/{id}/` that matter here.

    Right after a project was made Label Studio gives null for all counts: read as 0.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())

    id: int
    created_at: datetime
    title: str = ""
    label_config: str = ""
    model_version: str = ""
    sampling: str = "Sequential sampling"
    maximum_annotations: int = 1
    skip_queue: str = ""
    show_collab_predictions: bool = True
    evaluate_predictions_automatically: bool = False
    task_number: int = 0
    num_tasks_with_annotations: int = 0
    total_annotations_number: int = 0
    skipped_annotations_number: int = 0
    ground_truth_number: int = 0
    total_predictions_number: int = 0

    @field_validator(
        "task_number", "num_tasks_with_annotations", "total_annotations_number", "skipped_annotations_number",
        "ground_truth_number", "total_predictions_number", mode="before",
    )  # fmt: skip
    @classmethod
    def _none_is_zero(cls, value: object) -> object:
        return 0 if value is None else value

    @field_validator("title", "label_config", "model_version", "skip_queue", "sampling", mode="before")
    @classmethod
    def _none_is_empty(cls, value: object) -> object:
        return "" if value is None else value

    @property
    def key(self) -> str:
        """What `/setup` and `/predict` carry as `project`: the id, a dot, the second of its creation."""
        return f"{self.id}.{int(self.created_at.timestamp())}"
