"""What an annotation of Label Studio teaches: whether it counts as approved, how it came about, and its masks."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from backend import regions
from backend.answered import Answered, is_ours
from backend.errors import RegionError
from backend.label_config import LabelConfig, Target
from backend.learner.kept import Seen
from backend.lost_labels import LostLabels
from backend.protocol import SUGGESTED, as_list, is_id
from backend.store import Approval
from backend.store.records import ApprovalKind

# Fields of a region that an untouched re-submission may change, though it says the same.
_INCIDENTAL = ("id", "origin", "score", "meta", "parentID", "readonly", "hidden", "locked", "touches")
_LONGEST = 1e9  # seconds that somebody can have looked at a task


def counts(
    annotation: Mapping[str, Any], approved_when: Literal["submitted", "ground_truth"], learn_from_bulk: bool
) -> bool:
    """Whether an annotation is an approval: submitted, not skipped, and looked at by a person."""
    if not is_id(annotation.get("id")) or annotation.get("was_cancelled"):
        return False
    if approved_when == "ground_truth" and not annotation.get("ground_truth"):
        return False
    return learn_from_bulk or not made_in_bulk(annotation)


def made_in_bulk(annotation: Mapping[str, Any]) -> bool:
    """Whether "Create annotations from predictions" made it, so that nobody has looked.

    Such a row has no lead time and nobody who ever saved it, and comes from a prediction (Label Studio 1.23, measured):
    it has a parent, until that is deleted, and our regions say so by their origin.
    """
    if annotation.get("updated_by") is not None or annotation.get("lead_time") is not None:
        return False
    ours = any(region.get("origin") == "prediction" for region in result_of(annotation))
    return ours or annotation.get("parent_prediction") is not None


def kind(annotation: Mapping[str, Any], config: LabelConfig) -> ApprovalKind:
    """Drawn from nothing, corrected from a prediction, or accepted unchanged; by the regions' `origin`.

    What a smart tool suggested where somebody pointed counts as corrected. The clicks and boxes themselves do not count.
    """
    masks = [region for region in result_of(annotation) if not _is_hint(region, config)]
    if any(_is_suggestion(region) for region in masks):
        return "corrected"
    origins = {str(region.get("origin")) for region in masks}
    if annotation.get("parent_prediction") is None and not origins & {"prediction", "prediction-changed"}:
        return "drawn"
    return "corrected" if origins & {"manual", "prediction-changed"} else "accepted"


def _is_suggestion(region: Mapping[str, Any]) -> bool:
    meta = region.get("meta")
    return region.get("origin") == "prediction" and isinstance(meta, Mapping) and SUGGESTED in meta


def _is_hint(region: Mapping[str, Any], config: LabelConfig) -> bool:
    """Whether a region is a click or box that a smart tool was asked by, and was left there."""
    if str(region.get("type")).removesuffix("labels") not in ("keypoint", "rectangle"):
        return False
    return all(region.get("from_name") != target.control for target in config.targets)


def result_of(annotation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The annotation's regions; an empty list where it has none or they are malformed.

    A box that a smart tool was asked by is left out where it was left beside the answer: a box of the same control, which
    is the same object again, only better.
    """
    result = annotation.get("result")
    rows = [region for region in result if isinstance(region, Mapping)] if isinstance(result, list) else []
    answered = Answered(rows)
    return [region for region in rows if is_ours(region) or not _is_answered(region, answered)]


def _is_answered(region: Mapping[str, Any], answered: Answered) -> bool:
    control = str(region.get("from_name"))
    return answered.holds(str(region.get("id") or ""), region.get("value"), control)


def masks(
    annotation: Mapping[str, Any], targets: Sequence[Target], max_pixels: int = regions.MAX_PIXELS
) -> dict[str, NDArray[np.bool_]]:
    """Masks by target id, `[H, W]` bool at the image's size; targets without a mask are left out.

    Args:
        annotation: as Label Studio gives it.
        targets: whose masks are wanted.
        max_pixels: largest image that can be read, so that no larger mask has to be.

    Raises:
        RegionError: where a region of a target cannot be read.
    """
    result = result_of(annotation)
    decoded = {target.id: regions.decode(result, target, max_pixels) for target in targets}
    return {target: mask for target, mask in decoded.items() if mask is not None}


def says(annotation: Mapping[str, Any], target: Target) -> bool:
    """Whether an annotation has a region of a target, however empty; far cheaper than its mask."""
    try:
        return regions.original_size(result_of(annotation), target) is not None
    except RegionError:
        return False


def newest_first(tasks: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tasks by their latest annotation: once the pool is full of what is recent, older images need no reading."""

    def latest(task: Mapping[str, Any]) -> str:
        return max((str(a.get("updated_at") or "") for a in as_list(task.get("annotations"))), default="")

    return sorted(tasks, key=latest, reverse=True)


def digest(annotation: Mapping[str, Any], config: LabelConfig, lost: LostLabels) -> str:
    """Hash of what an annotation says under a label config; incidental fields and left-over prompts do not count.

    Where the config lost labels, what their pools became counts for annotations that still say them.
    """
    says = [
        {name: value for name, value in region.items() if name not in _INCIDENTAL}
        for region in result_of(annotation)
        if not _is_hint(region, config)
    ]
    spoken: dict[str, object] = {"result": says, "targets": config.fingerprint}
    if answers := lost.answers(_labels(annotation) if lost.targets else (), annotation["id"]):
        spoken["answers"] = answers
    return hashlib.sha256(json.dumps(spoken, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _labels(annotation: Mapping[str, Any]) -> set[str]:
    """All labels that the annotation's regions have."""
    lists = [
        listed
        for region in result_of(annotation)
        if isinstance(value := region.get("value"), Mapping)
        for name, listed in value.items()
        if str(name).endswith("labels") and isinstance(listed, list)
    ]
    return {str(label) for listed in lists for label in listed}


def seen(annotation: Mapping[str, Any]) -> Seen:
    """Which prediction the annotator saw.

    Label Studio keeps what it calls `prediction` with an annotation where the project showed one version of stored
    predictions: the task's, of that version, at the submission.
    """
    parent, shown = annotation.get("parent_prediction"), annotation.get("prediction")
    version = shown.get("model_version") if isinstance(shown, Mapping) else None
    return Seen(parent if is_id(parent) else None, version if isinstance(version, str) else "")


def _is_time(seconds: object) -> TypeGuard[float]:
    return isinstance(seconds, int | float) and abs(seconds) <= _LONGEST


def approval(
    project: str,
    task: Mapping[str, Any],
    annotation: Mapping[str, Any],
    config: LabelConfig,
    lost: LostLabels,
) -> Approval:
    """The record of an approved annotation."""
    lead_time = annotation.get("lead_time")
    annotator = annotation.get("completed_by")
    if isinstance(annotator, Mapping):
        annotator = annotator.get("id")
    return Approval(
        project=project,
        task=int(task["id"]),
        annotation=int(annotation["id"]),
        kind=kind(annotation, config),
        annotator=annotator if is_id(annotator) else None,
        at=str(annotation.get("updated_at") or annotation.get("created_at") or ""),
        digest=digest(annotation, config, lost),
        lead_time=float(lead_time) if _is_time(lead_time) else None,
    )
