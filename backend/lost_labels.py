"""Labels that a labeling config lost while they had examples, and what an admin wants their pools to become.

Label Studio lets a label be renamed or taken out of the labeling config while annotations still say it. Its target is
noted then, as the config had it, so that what those annotations say can still be read. Until somebody answers, and
where the answer is to keep them aside, its examples stay in the store under the old target, which nothing is predicted
for. Where the answer names another label, `learner` reads the annotations as if they said that one: the answer is a
rule about annotations, not a change of examples, so that a comparison with Label Studio does not undo it, and taking
it back leaves everything as it was.
"""

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from backend import pins
from backend.errors import LabelConfigError, NotFound, Refused
from backend.label_config import LabelConfig, Target, parse
from backend.reading_again import read_again, while_nothing_is_read
from backend.store import Store
from backend.store.leases import held

Answer = Literal["unanswered", "aside", "move", "split"]
"""What the pool becomes: not known yet, kept for later, moved to another label, or to several, one by one."""


@dataclass(frozen=True)
class LostLabel:
    """A label that the config has no longer.

    Attributes:
        target: as the config had it.
        at: when it was lost, Unix time.
        answer: what its pool becomes.
        to: target id that it is moved to; "" unless `answer` is "move".
        chosen: target id by annotation, where `answer` is "split"; annotations without one are kept aside.
        taught: annotations whose examples it had when it was answered.
        before: by target id, the annotations that taught it before examples were moved there.
    """

    target: Target
    at: float
    answer: Answer = "unanswered"
    to: str = ""
    chosen: Mapping[int, str] = field(default_factory=dict)
    taught: tuple[int, ...] = ()
    before: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def goes_to(self, annotation: int) -> str:
        """Target id that the annotation's mask belongs to now; "" where it is kept aside."""
        return self.to if self.answer == "move" else self.chosen.get(annotation, "")


class LostLabels:
    """The lost labels of a project, as a config sees them.

    Args:
        config: the present one.
        noted: all that were ever lost; those that the config has again do not count.
    """

    def __init__(self, config: LabelConfig, noted: Sequence[LostLabel]) -> None:
        self._there = {target.id for target in config.targets}
        self._lost = {one.target.id: one for one in noted if one.target.id not in self._there}

    def __iter__(self) -> Iterator[LostLabel]:
        return iter(self._lost.values())

    def get(self, target: str) -> LostLabel | None:
        """The lost label with this target id."""
        return self._lost.get(target)

    @property
    def targets(self) -> tuple[Target, ...]:
        """As the configs that had them said."""
        return tuple(one.target for one in self)

    def destination(self, target: str, annotation: int) -> str:
        """Target id of the config that an annotation's mask of a target belongs to.

        Returns:
            The target itself where the config has it; "" for one that is lost and not moved to any that it has.
        """
        passed = set()
        while target in self._lost and target not in passed:
            passed.add(target)
            target = self._lost[target].goes_to(annotation)
        return target if target in self._there else ""

    def answers(self, says: Collection[str], annotation: int) -> str:
        """How an annotation is read otherwise than it says: other texts for other answers, "" where it is not.

        Args:
            says: labels that its regions have.
            annotation: its number.
        """
        moved = {
            one.target.id: to
            for one in self
            if one.target.label in says and (to := self.destination(one.target.id, annotation))
        }
        return json.dumps(moved, sort_keys=True) if moved else ""

    def sorted_out(
        self, masks: Mapping[str, NDArray[np.bool_]], annotation: int
    ) -> tuple[dict[str, NDArray[np.bool_]], dict[str, NDArray[np.bool_]]]:
        """An annotation's masks by what they belong to.

        Args:
            masks: by target id as the annotation says, `[H, W]` bool.
            annotation: its number.

        Returns:
            Masks by target id of the config, where several became one label their union; and those that are kept aside.
        """
        found: dict[str, NDArray[np.bool_]] = {}
        aside: dict[str, NDArray[np.bool_]] = {}
        for target, mask in masks.items():
            to = self.destination(target, annotation)
            if not to:
                aside[target] = mask
            elif to in found and found[to].shape == mask.shape:
                found[to] = found[to] | mask
            else:
                found.setdefault(to, mask)
        return found, aside


def of(store: Store, project: str, config: LabelConfig) -> LostLabels:
    """The project's lost labels under its present config."""
    return LostLabels(config, _read(store, project))


def put_label_config(store: Store, project: str, label_config: str, at: float) -> bool:
    """Remember a project's labeling config, and the labels with a pool that it has no longer.

    Args:
        store: where to.
        project: project key.
        label_config: the XML.
        at: when Label Studio said so, Unix time. An event that comes late and says what was before the last change is
            passed over: it would bring a lost label back, and lose its answer.

    Returns:
        Whether the revision moved.

    Raises:
        LabelConfigError: if it cannot be read; nothing has changed.
    """
    config = parse(label_config)
    record = store.project(project)
    if record is not None and record.targets not in ("", config.fingerprint):
        if at < float(store.note(f"targets-changed:{project}") or 0):
            return False
        _note_lost(store, project, record.label_config, config)
        store.set_note(f"targets-changed:{project}", repr(at))
    return store.put_label_config(project, label_config, config.fingerprint)


def move(store: Store, project: str, target: str, to: str) -> LostLabel:
    """Let another label have the pool, and all that annotations still say of the lost one.

    Raises:
        NotFound: if there is no such lost label.
        Refused: if the other one is not in the labeling config or of other pictures, or the worker learns.
    """
    if not to:
        raise Refused("No label is named that the examples should have.")
    return _answered(store, project, target, answer="move", to=to)


def split(store: Store, project: str, target: str, chosen: Mapping[int, str]) -> LostLabel:
    """Let other labels have examples, each as it was chosen; the rest is kept aside.

    Args:
        store: where it is noted.
        project: project key.
        target: the lost label's target id.
        chosen: target id by annotation, besides what was chosen before; "" keeps its example aside.

    Raises:
        NotFound: if there is no such lost label.
        Refused: if one of the others is not in the labeling config or of other pictures, or the worker learns.
    """
    return _answered(store, project, target, chosen, answer="split")


def keep_aside(store: Store, project: str, target: str) -> LostLabel:
    """Keep the pool where nothing is predicted by it; it can be answered otherwise later.

    Raises:
        NotFound: if there is no such lost label.
        Refused: if the worker learns at this moment.
    """
    return _answered(store, project, target, answer="aside")


def take_back(store: Store, project: str, target: str) -> LostLabel:
    """Ask again what the pool should become; what was moved returns to it with the next comparison.

    Raises:
        NotFound: if there is no such lost label.
        Refused: if it was not answered, or the worker learns at this moment.
    """
    if _known(store, project, target).answer == "unanswered":
        raise Refused("Nothing was answered.")
    return _answered(store, project, target, answer="unanswered")


def may_take(config: LabelConfig, lost: LostLabel) -> list[Target]:
    """The config's targets that the lost label's examples can go to: those on the same pictures."""
    return [target for target in config.targets if target.value == lost.target.value]


def _answered(
    store: Store,
    project: str,
    target: str,
    chosen: Mapping[int, str] | None = None,
    *,
    answer: Answer,
    to: str = "",
) -> LostLabel:
    """Note an answer in place of the one before; the next comparison with Label Studio reads annotations by it."""
    with while_nothing_is_read(store, project), _changing(store, project):
        known = _known(store, project, target)
        merged = {**known.chosen, **chosen} if chosen is not None else {}
        new = replace(
            known,
            answer=answer,
            to=to,
            chosen={annotation: name for annotation, name in merged.items() if name},
        )
        config = _config(store, project)
        _refuse_strangers({to, *merged.values()} - {""}, {one.id for one in may_take(config, known)})
        noted = [one for one in _read(store, project) if one.target.id != target]
        return _put_into_force(store, project, LostLabels(config, [*noted, known]), noted, new)


def _put_into_force(
    store: Store, project: str, earlier: LostLabels, noted: Sequence[LostLabel], new: LostLabel
) -> LostLabel:
    """Examples that do not belong any more where they were moved make room at once, for what had to leave for them.

    All others change when their annotations are read by the new answer.
    """
    lost, pool = new.target.id, store.pool(project)
    known = earlier.get(lost) or new
    later = LostLabels(_config(store, project), [*noted, new])
    leaving = [
        info
        for info in pool
        if info.annotation in known.taught
        and info.annotation not in known.before.get(info.target, ())
        and info.target
        == earlier.destination(lost, info.annotation)
        != later.destination(lost, info.annotation)
    ]
    there = {(info.annotation, info.target) for info in pool}
    displaced = {
        annotation
        for name in {info.target for info in leaving}
        for annotation in known.before.get(name, ())
        if (annotation, name) not in there
    }
    moving = [
        (info.annotation, later.destination(lost, info.annotation) or lost)
        for info in pool
        if info.pinned and (info.target == lost or info in leaving)
    ]
    gone = {info.key for info in leaving}
    own = {info.annotation for info in pool if info.target == lost}
    wanted = {new.to, *new.chosen.values()} - {""}
    before = {
        name: tuple(i.annotation for i in pool if i.target == name and i.key not in gone) for name in wanted
    }
    new = replace(
        new,
        taught=tuple(sorted({*known.taught, *own})),
        before={**before, **{n: known.before[n] for n in wanted & known.before.keys()}},
    )
    _write(store, project, [*noted, new])
    pins.wait_for(store, project, moving)
    store.drop_examples(gone)
    read_again(store, project, displaced)
    return new


def _refuse_strangers(wanted: Collection[str], there: Collection[str]) -> None:
    strange = sorted(set(wanted) - set(there))
    if strange:
        raise Refused(
            f"The labeling config has no {', '.join(strange)}, or on other pictures.",
            remedy=f"Name one of these: {', '.join(sorted(there)) or 'there is none'}.",
        )


def _note_lost(store: Store, project: str, before: str, config: LabelConfig) -> None:
    try:
        known = parse(before).targets
    except LabelConfigError:  # nothing was learned by it
        return
    there = {target.id for target in config.targets}
    taught = {info.target for info in store.pool(project)}
    gone = [target for target in known if target.id in taught - there]
    if gone:
        with _changing(store, project):
            names = {target.id for target in gone}
            staying = [one for one in _read(store, project) if one.target.id not in names]
            _write(store, project, [*staying, *(LostLabel(target, time.time()) for target in gone)])


def _known(store: Store, project: str, target: str) -> LostLabel:
    known = of(store, project, _config(store, project)).get(target)
    if known is None:
        raise NotFound("The project has lost no such label.")
    return known


def _config(store: Store, project: str) -> LabelConfig:
    record = store.project(project)
    return parse(record.label_config) if record else LabelConfig(())


def _changing(store: Store, project: str) -> AbstractContextManager[None]:
    return held(store, f"changing:{_name(project)}", "Somebody else answers at this moment; try again.")


def _read(store: Store, project: str) -> list[LostLabel]:
    return [_unpacked(one) for one in json.loads(store.note(_name(project)) or "[]")]


def _unpacked(row: Mapping[str, Any]) -> LostLabel:
    return LostLabel(
        target=Target(**row["target"]),
        at=row["at"],
        answer=row["answer"],
        to=row["to"],
        chosen={int(annotation): name for annotation, name in row["chosen"].items()},
        taught=tuple(row["taught"]),
        before={name: tuple(annotations) for name, annotations in row["before"].items()},
    )


def _write(store: Store, project: str, noted: Sequence[LostLabel]) -> None:
    store.set_note(_name(project), json.dumps([asdict(one) for one in noted]))


def _name(project: str) -> str:
    return f"lost-labels:{project}"
