"""Which pictures an episode asks for and which it shows: drawn as HSNet's test draws them, so the same on every machine.

HSNet's `test.py` seeds NumPy with 0 and draws with `numpy.random.choice`. A `RandomState` of that seed draws the same:
NumPy promises that its stream never changes. Where the lists of pictures are the same, so are the episodes.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from model.evaluation import Episode, EvaluationError
from model.protocols.sources import FewShotSource

SEED = 0
EPISODES = 1000
"""Of a fold, where the data set does not say how many."""


def length(source: FewShotSource, fold: int) -> int:
    """How many episodes a fold has: FSS-1000 asks for each picture once."""
    return len(source.queries(fold)) if source.protocol == "fss1000" else EPISODES


def episodes(source: FewShotSource, fold: int, shots: int, at_most: int | None = None) -> list[Episode]:
    """The episodes of a fold.

    Args:
        source: what to draw from.
        fold: one of its folds.
        shots: examples of an episode. As in HSNet's test an example may come twice.
        at_most: so many of the first ones; None for as many as the protocol has.

    Raises:
        EvaluationError: if a class has one picture only, or none has any.
    """
    classes = source.classes(fold)
    if not classes:
        raise EvaluationError(f"{source.folder}: no picture holds a class of fold {fold}")
    if alone := [label for label, names in classes.items() if len(names) < 2]:
        raise EvaluationError(f"{source.folder}: class {alone[0]} of fold {fold} has one picture only")
    random = np.random.RandomState(SEED)
    drawn = source.protocol == "coco20i"
    queries = [] if drawn else source.queries(fold)
    number = length(source, fold)
    found = []
    for place in range(number if at_most is None else min(at_most, number)):
        query, label = _query(random, classes) if drawn else queries[place % len(queries)]
        found.append(Episode(label, query, _examples(random, classes[label], query, shots)))
    return found


def _one(random: np.random.RandomState, count: int) -> int:
    """One of so many; `replace=False` permutes all of them, which decides what is drawn next."""
    return int(random.choice(count, 1, replace=False)[0])


def _query(random: np.random.RandomState, classes: Mapping[int, Sequence[str]]) -> tuple[str, int]:
    label = list(classes)[_one(random, len(classes))]
    return classes[label][_one(random, len(classes[label]))], label


def _examples(random: np.random.RandomState, names: Sequence[str], query: str, shots: int) -> tuple[str, ...]:
    found: list[str] = []
    while len(found) < shots:
        name = names[_one(random, len(names))]
        if name != query:
            found.append(name)
    return tuple(found)
