"""What a tuning comes to where memory or a kept prompt fails it: the record says what, and how it can go on."""

import logging
from collections.abc import Callable

import pytest
import torch

from tests.backend.stage import Stage
from tests.backend.test_prompts import add
from tests.backend.test_tuning_gate import FOREVER, approved, ask

Staging = Callable[..., Stage]


def damage(stage: Stage, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the store give the first thousand bytes of a prompt, as a disk that was full would leave it."""
    kept = stage.backend.store.prompts
    real = kept.prompt_content

    def content(project: str, wanted: int) -> bytes | None:
        found = real(project, wanted)
        return found[:1000] if found is not None and wanted == number else found

    monkeypatch.setattr(kept, "prompt_content", content)


def test_where_memory_never_suffices_the_record_says_so_in_words(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = staging()
    approved(stage, 4)

    def fail(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 8 GiB.")

    monkeypatch.setattr("model.tuning.Tuning._loss", fail)
    ended = stage.backend.tunings.run(ask(stage), FOREVER).tuning
    assert ended.status == "failed"
    assert ended.reason.startswith("cpu has not enough memory to tune with even one picture")
    assert "use a smaller checkpoint" in ended.reason


def test_a_damaged_prompt_in_use_does_not_stop_its_label_from_being_tuned_anew(
    staging: Staging, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Predictions are made by examples then, so it is these that the new one is compared with, and takes the place of."""
    stage = staging(tune_gate=-1.0, tune_steps=1)
    approved(stage, 5)
    number = add(stage, activate=True)
    damage(stage, number, monkeypatch)
    with caplog.at_level(logging.WARNING):
        ended = stage.backend.tunings.run(ask(stage), FOREVER)
    assert (ended.tuning.status, ended.tuning.prompt, ended.moved) == ("done", number + 1, True)
    found = {prompt.number: prompt for prompt in stage.prompts}
    assert (found[number].status, found[number + 1].status) == ("retired", "active")
    assert found[number + 1].figures["incumbent_iou"] is None
    assert f"project {stage.key}: prompt {number} of 'cell' is in use, but cannot be read" in caplog.text
