"""COCO-20i, PASCAL-5i and FSS-1000: mIoU of a segmenter over the episodes of `draws`."""

from collections.abc import Sequence
from statistics import fmean

from model.evaluation import AT_ONCE, EvaluationError, Progress, Row, Tally
from model.example import Context
from model.protocols.draws import episodes, length
from model.protocols.report import Measured, Report
from model.protocols.sources import FewShotSource
from model.segmenter import Segmenter


def evaluate_few_shot(
    source: FewShotSource,
    segmenter: Segmenter,
    shots: Sequence[int] = (1, 5),
    folds: Sequence[int] | None = None,
    at_most: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Evaluate a segmenter on a data set.

    A class's IoU is its total intersection over its total union in a fold's episodes, at the size of the masks; mIoU is
    the mean over the fold's classes, and "all" the mean over the folds.

    Args:
        source: the data set.
        segmenter: what to evaluate.
        shots: numbers of examples, each at least 1.
        folds: which; None for all.
        at_most: so many episodes of a fold, for a quick look; None for as many as the protocol has.
        progress: called with (queries done, queries in all), first with 0 done.

    Raises:
        EvaluationError: if something is missing, or there is no such fold.
    """
    if not shots or min(shots) < 1:
        raise EvaluationError(f"shots must be numbers from 1 on, not {list(shots)}")
    if at_most is not None and at_most < 1:
        raise EvaluationError(f"there must be at least one episode, not {at_most}")
    chosen = source.folds if folds is None else tuple(folds)
    if unknown := sorted(set(chosen) - set(source.folds)):
        has = ", ".join(map(str, source.folds))
        raise EvaluationError(f"{source.protocol} has the folds {has}, and no fold {unknown[0]}")
    planned = {
        (count, fold): episodes(source, fold, count, at_most)
        for count in dict.fromkeys(shots)
        for fold in chosen
    }
    total, done = sum(map(len, planned.values())), 0
    report = progress or (lambda done, total: None)
    report(0, total)
    found: dict[int, dict[int, Row]] = {}
    for (count, fold), asked in planned.items():
        tally = Tally(count, "context")
        for start in range(0, len(asked), AT_ONCE):
            part = asked[start : start + AT_ONCE]
            contexts = [
                Context(tuple(source.example(name, each.label) for name in each.examples)) for each in part
            ]
            tally.segment(source, segmenter, part, contexts)
            done += len(part)
            report(done, total)
        found.setdefault(count, {})[fold] = tally.row()
    rows = [row for count, of_folds in found.items() for row in _rows(source, count, of_folds)]
    return Report(
        source.protocol, segmenter.identity, tuple(rows), (*source.notes, *_said(source, chosen, at_most))
    )


def _rows(source: FewShotSource, shots: int, of_folds: dict[int, Row]) -> list[Measured]:
    """A row for each fold, where there are several, and one for all that were measured."""
    parts = [(f"fold {fold}", [row]) for fold, row in of_folds.items()] if len(source.folds) > 1 else []
    if len(of_folds) == len(source.folds):
        parts.append(("all", list(of_folds.values())))
    return [
        Measured(
            part,
            shots,
            {"miou": fmean(row.miou for row in rows)},
            sum(row.queries for row in rows),
            fmean(row.seconds_per_image for row in rows),
        )
        for part, rows in parts
    ]


def _said(source: FewShotSource, folds: Sequence[int], at_most: int | None) -> list[str]:
    said = []
    if len(folds) < len(source.folds):
        said.append("Published figures are the mean over all folds.")
    if at_most is not None and at_most < min(length(source, fold) for fold in folds):
        said.append(
            f"The first {at_most} episodes {'of each fold ' if len(source.folds) > 1 else ''}only: not comparable with published figures."
        )
    return said
