"""What the page asks for and does: the admin API's own functions, called without HTTP, so that both say the same."""

from collections.abc import Iterable
from typing import Any, cast

from fastapi import APIRouter

from backend.admin.examples import Alarm, Dropped, Example
from backend.admin.figures import Figures
from backend.admin.influence import Influences, PreviewWish, TakeOutWish
from backend.admin.labels import AnswerWish, Lost, TakeBackWish
from backend.admin.projects import Prediction, Project
from backend.admin.prompts import PromptSummary, RollBackWish
from backend.admin.shadows import Shadow, ShadowWish, StopWish
from backend.admin.tunings import Tuning, TuningWish
from backend.admin.why import PredictionWhy
from backend.jobs import Jobs
from backend.wiring import Backend


class Offers:
    """The admin API, typed; every method raises what its route would."""

    def __init__(self, backend: Backend, jobs: Jobs, offered: Iterable[APIRouter]) -> None:
        self._store, self._jobs = backend.store, jobs
        self._do: dict[str, Any] = {
            name: endpoint
            for subject in offered
            for route in subject.routes
            if (name := getattr(route, "name", "")) and (endpoint := getattr(route, "endpoint", None))
        }

    # -- look ----------------------------------------------------------------------------------------------------
    def projects(self) -> list[Project]:
        """All projects."""
        return cast(list[Project], self._do["list_projects"]())

    def project(self, key: str) -> Project:
        """One project."""
        return cast(Project, self._do["show_project"](key))

    def examples(self, key: str) -> list[Example]:
        """Its pools."""
        return cast(list[Example], self._do["list_examples"](key))

    def dropped(self, key: str) -> list[Dropped]:
        """What can be put back."""
        return cast(list[Dropped], self._do["list_dropped"](key))

    def alarm(self, key: str) -> Alarm:
        """What harms the others."""
        return cast(Alarm, self._do["show_alarm"](key))

    def figures(self, key: str) -> Figures:
        """Kept IoU, outlook, hours saved."""
        return cast(Figures, self._do["show_figures"](key))

    def prompts(self, key: str) -> list[PromptSummary]:
        """Versions by number."""
        return cast(list[PromptSummary], self._do["list_prompts"](key))

    def tunings(self, key: str) -> list[Tuning]:
        """Tunings, newest first."""
        return cast(list[Tuning], self._do["list_tunings"](key))

    def shadows(self, key: str) -> list[Shadow]:
        """What predicts or predicted silently, the last that was started first."""
        return cast(list[Shadow], self._do["list_shadows"](key))

    def is_predicting(self, key: str) -> bool:
        """Whether a pass over tasks waits or is on its way."""
        return self._jobs.depths()["predictions"] > 0 or bool(self._store.note(f"pass:{key}"))

    def predictions(self, key: str, task: int) -> list[Prediction]:
        """Predictions of a task, newest first."""
        return cast(list[Prediction], self._do["list_predictions"](key, task))

    def why(self, key: str, task: int) -> PredictionWhy:
        """What each part behind a task's newest prediction did."""
        return cast(PredictionWhy, self._do["show_why"](key, task))

    def influence(self, key: str) -> Influences:
        """Whose influence can be taken back, and whose was."""
        return cast(Influences, self._do["show_influence"](key))

    def lost_labels(self, key: str) -> list[Lost]:
        """Labels with examples that the labeling config has no longer."""
        return cast(list[Lost], self._do["list_lost_labels"](key))

    # -- do ------------------------------------------------------------------------------------------------------
    def drop(self, key: str, example: str) -> None:
        """Take an example out of use."""
        self._do["drop_example"](key, example)

    def restore(self, key: str, example: str) -> None:
        """Put it back."""
        self._do["restore_example"](key, example)

    def pin(self, key: str, example: str) -> None:
        """Pin an example."""
        self._do["pin_example"](key, example)

    def unpin(self, key: str, example: str) -> None:
        """Unpin it."""
        self._do["unpin_example"](key, example)

    def preview(self, key: str, wish: PreviewWish) -> None:
        """Preview the project without somebody's examples."""
        self._do["preview_influence"](key, wish)

    def put_away(self, key: str) -> None:
        """Put the preview away."""
        self._do["put_preview_away"](key)

    def take_out(self, key: str, wish: TakeOutWish) -> None:
        """Take out of use what was previewed."""
        self._do["take_out"](key, wish)

    def restore_act(self, key: str, act: str) -> None:
        """Put back what was taken out as one."""
        self._do["restore_act"](key, act)

    def answer(self, key: str, wish: AnswerWish) -> None:
        """Say what a lost label's pool becomes."""
        self._do["answer_lost_label"](key, wish)

    def ask_again(self, key: str, wish: TakeBackWish) -> None:
        """Take such an answer back."""
        self._do["take_answer_back"](key, wish)

    def measure(self, key: str) -> None:
        """Measure which examples harm the others."""
        self._do["measure_examples"](key)

    def measure_why(self, key: str, task: int) -> None:
        """Measure what each part behind a task's newest prediction did."""
        self._do["measure_why"](key, task)

    def refresh(self, key: str) -> None:
        """Predict tasks anew."""
        self._do["refresh_predictions"](key)

    def tune(self, key: str, targets: list[str] | None) -> None:
        """Start tunings, of all targets where none is named."""
        self._do["start_tunings"](key, TuningWish(targets=targets))

    def stop(self, key: str, tuning: int) -> None:
        """Stop a tuning."""
        self._do["stop_tuning"](key, tuning)

    def resume(self, key: str, tuning: int) -> None:
        """Go on with one."""
        self._do["resume_tuning"](key, tuning)

    def activate(self, key: str, number: int) -> None:
        """Activate a prompt."""
        self._do["activate_prompt"](key, number)

    def roll_back(self, key: str, wish: RollBackWish) -> None:
        """Take a prompt out of use."""
        self._do["roll_back"](key, wish)

    def start_shadow(self, key: str, wish: ShadowWish) -> None:
        """Let something predict silently."""
        self._do["start_shadow"](key, wish)

    def stop_shadow(self, key: str, wish: StopWish) -> None:
        """End that."""
        self._do["stop_shadow"](key, wish)
