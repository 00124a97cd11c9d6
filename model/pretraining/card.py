"""The model card beside the weights: sources with licences, recipe, seed, hours, figures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from model.pretraining.shards import TASKS
from model.pretraining.sources import SOURCES
from model.seggpt import SegGPTConfig


@dataclass(frozen=True)
class Facts:
    """What a card tells of one training.

    Attributes:
        recipe: its name.
        config: sizes of the network in the file.
        parameters: how many numbers the network has.
        seed: of weights and samples.
        hours: of training.
        samples: seen in training.
        groups: made for training.
        machine: what it ran on, in words.
        copyleft: whether copyleft images were used.
        validation: IoU by task on kept-apart pictures and concepts.
        sets: by evaluation set, mIoU by number of shots.
        permissive: what leaving out the copyleft images costs, in words.
        history: what else happened on the way, in whole sentences.
    """

    recipe: str
    config: SegGPTConfig
    parameters: int
    seed: int
    hours: float
    samples: int
    groups: int
    machine: str
    copyleft: bool
    validation: Mapping[str, float] = field(default_factory=dict)
    sets: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    permissive: str = "not measured"
    history: str = ""


def write(path: Path, facts: Facts) -> None:
    """Write the card, whole or not at all.

    Args:
        path: of the Markdown file.
        facts: what it tells.
    """
    parts = (_opening(facts), _training(facts), _figures(facts), _sources(facts))
    partial = path.with_suffix(".partial")
    partial.write_text("\n\n".join(parts) + "\n")
    partial.replace(path)


def _opening(facts: Facts) -> str:
    config = facts.config
    return (
        "# The embedded checkpoint\n\n"
        f"A small SegGPT ({facts.parameters / 1e6:.1f} million parameters, {config.image_size} px, patches of {config.patch_size} px), trained "
        "from nothing by `python -m model.pretraining` on packaged and drawn images. It is a demonstration and a test bed, there so that "
        "the whole loop works without a download and on a CPU: things that look like their examples come out, things of a kind "
        "often do not. Real work uses the published weights (README)."
    )


def _training(facts: Facts) -> str:
    shares = ", ".join(f"{task.name} {task.share:.2f}" for task in TASKS if task.share)
    kept = ", ".join(task.name for task in TASKS if not task.share)
    sizes = ", ".join(f"{name} {value}" for name, value in asdict(facts.config).items())
    return (
        "## Training\n\n"
        f"- Recipe `{facts.recipe}`, seed {facts.seed}, {_duration(facts.hours)} on {facts.machine}: {facts.samples:,} samples drawn "
        f"from {facts.groups:,} groups of five images that share a concept.\n"
        f"- Shares of the tasks: {shares}. For validation only: {kept}.\n"
        f"- Sizes: {sizes}. Stored in half precision, loaded in single precision.\n"
        "- Masks are painted white on black; read the mean of the channels."
        + f"\n- {facts.history}"
        * bool(facts.history)
    )


def _duration(hours: float) -> str:
    return f"{60 * hours:.1f} minutes" if hours < 1 else f"{hours:.1f} hours"


def _figures(facts: Facts) -> str:
    lines = ["## Figures"]
    if facts.sets:
        lines += [
            "",
            "mIoU by `python -m backend evaluate`; none of these images was trained on. A mean is over the sets with enough images for so many shots.",
            "",
        ]
        lines += _table(facts.sets)
    if facts.validation:
        scores = ", ".join(f"{name} {value:.2f}" for name, value in facts.validation.items())
        lines += ["", f"IoU with one example on kept-apart pictures and concepts: {scores}."]
    lines += ["", f"Leaving out the images under copyleft licences: {facts.permissive}."]
    return "\n".join(lines)


def _table(sets: Mapping[str, Mapping[int, float]]) -> list[str]:
    shots = sorted({count for row in sets.values() for count in row})
    lines = [
        "| set | " + " | ".join(f"{count} shot{'s' * (count > 1)}" for count in shots) + " |",
        "| --- |" + " --- |" * len(shots),
    ]
    for name, row in sets.items():
        lines.append(
            f"| {name} | "
            + " | ".join(f"{row[count]:.2f}" if count in row else "-" for count in shots)
            + " |"
        )
    means = [mean([row[count] for row in sets.values() if count in row]) for count in shots]
    lines.append("| **mean** | " + " | ".join(f"**{value:.2f}**" for value in means) + " |")
    return lines


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean of at least one value."""
    return sum(values) / len(values)


def _sources(facts: Facts) -> str:
    lines = [
        "## Images",
        "",
        "Packages of Debian and npm by name, and drawings made by code (cells, thin structures, spots, layouts). Licences as the packages "
        "state them. What a copyleft image asks of weights trained on it is an open question; the images themselves are not here.",
        "",
        "| package | serves as | licence | copyleft |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {source.package} | {source.use} | {source.licence} | {'yes' if source.copyleft else 'no'} |"
        for source in SOURCES
        if facts.copyleft or not source.copyleft
    ]
    return "\n".join(lines)
