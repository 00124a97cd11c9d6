"""`predict`: a folder of pictures segmented without Label Studio, by a folder, a project or prompts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from backend.calibrations import write_calibrations
from model import zoom
from model.edges import ProbabilityMap
from model.score import Absence
from model.segmenter import Query
from tests.backend.fake_label_studio import LABEL_CONFIG
from tests.backend.stage import Run, Stage, blob, brush, by_colour, png, write_random_checkpoint


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network's forward pass finds what has the examples' colour, so that masks mean something."""
    monkeypatch.setattr(
        "model.segmenter.Segmenter.maps",
        lambda _, queries: [
            ProbabilityMap(found, found.shape[0], found.shape[1]) for found in by_colour(queries)
        ],
    )


def save_palette(path: Path, indices: NDArray[np.uint8]) -> None:
    picture = Image.fromarray(indices)
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0] + 253 * [9, 9, 9])  # all, so that no index is cut
    picture.save(path)


def add_pair(folder: Path, seed: int, index: int = 1) -> None:
    """A blob and its mask under a class's index, as `evaluate` takes them."""
    image, mask = blob(seed)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / "images" / f"{seed}.png")
    save_palette(folder / "masks" / f"{seed}.png", mask.astype(np.uint8) * index)


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    for seed in range(3):
        add_pair(tmp_path / "examples", seed)
    return tmp_path / "examples"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in (7, 8):
        (folder / f"{seed}.png").write_bytes(png(blob(seed)[0]))
    return folder


def read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.array(picture)


# -- a folder of examples ------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("seeing")
def test_each_picture_gets_a_mask_and_a_preview_with_the_mask_drawn_over(
    run: Run, examples: Path, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "folder").mkdir()
    (pictures / ".hidden").write_bytes(b"no picture")
    out = tmp_path / "out"
    code, said, err = run("predict", str(pictures), "--examples", str(examples), "--out", str(out))
    assert (code, err) == (0, "")
    assert "2 pictures segmented by 3 examples" in said
    assert "2 of 2" in said
    assert sorted(file.name for file in out.iterdir()) == [
        "7.mask.png", "7.preview.jpg", "8.mask.png", "8.preview.jpg"
    ]  # fmt: skip
    image, mask = blob(7)
    assert np.array_equal(read(out / "7.mask.png"), mask.astype(np.uint8) * 255)
    preview = read(out / "7.preview.jpg").astype(int)
    changed = np.abs(preview - image).max(axis=-1)
    assert np.median(changed[mask]) > 60
    assert np.median(changed[~mask]) < 25  # what JPEG makes of noise


@pytest.mark.usefixtures("seeing")
def test_classes_of_a_palette_are_looked_for_apart(
    run: Run, examples: Path, pictures: Path, tmp_path: Path
) -> None:
    add_pair(examples, 3, index=2)
    indices = read(examples / "masks" / "3.png")
    indices[:2] = 255  # to be ignored
    save_palette(examples / "masks" / "3.png", indices)
    out = tmp_path / "out"
    code, said, err = run("predict", str(pictures), "--examples", str(examples), "--out", str(out))
    assert (code, err) == (0, "")
    assert "by 4 examples" in said
    assert (out / "7.class 1.png").exists()
    assert (out / "7.class 2.png").exists()
    only = tmp_path / "only"
    command = (
        "predict",
        str(pictures),
        "--examples",
        str(examples),
        "--label",
        "class 2",
        "--out",
        str(only),
    )
    assert run(*command)[0] == 0
    assert sorted(file.name for file in only.glob("7*")) == ["7.class 2.png", "7.preview.jpg"]
    code, _, err = run("predict", str(pictures), "--examples", str(examples), "--label", "cat")
    assert code == 1
    assert "no label 'cat'; there is: 'class 1', 'class 2'" in err


@pytest.mark.usefixtures("seeing")
@pytest.mark.parametrize(
    ("form", "where"),
    [(form, "masks") for form in ("1-bit", "8-bit", "soft edges", "RGB", "0 and 1", "0 and 1, ignored")]
    + [(form, "labels/mask") for form in ("1-bit", "8-bit", "0 and 1")],
)
def test_black_and_white_masks_do_as_well(
    run: Run, pictures: Path, tmp_path: Path, form: str, where: str
) -> None:
    """Grey masks of 0 and 1 were read as black, so that nothing was found and nobody told why."""
    folder = tmp_path / "plain"
    (folder / "images").mkdir(parents=True)
    (folder / where).mkdir(parents=True)
    image, mask = blob(1)
    Image.fromarray(image).save(folder / "images" / "a.jpg", quality=98)
    levels = mask.astype(np.uint8) * (1 if form.startswith("0 and 1") else 255)
    if form == "0 and 1, ignored":
        levels[:2] = 255
    if form == "soft edges":
        levels[0, :9] = np.linspace(5, 125, 9)
        levels[np.nonzero(mask)[0][0], np.nonzero(mask)[1][0]] = 200
    painted = Image.fromarray(levels).convert({"1-bit": "1", "RGB": "RGB"}.get(form, "L"))
    painted.save(folder / where / "a.png")
    out = tmp_path / "out"
    assert run("predict", str(pictures), "--examples", str(folder), "--out", str(out))[0] == 0
    assert np.array_equal(read(out / "8.mask.png"), blob(8)[1].astype(np.uint8) * 255)


def test_a_mask_in_which_nothing_is_white_is_named(run: Run, pictures: Path, tmp_path: Path) -> None:
    """A red painting was read as black."""
    folder = tmp_path / "red"
    add_pair(folder, 1)
    image, mask = blob(1)
    red = np.dstack([mask * 255, mask * 0, mask * 0]).astype(np.uint8)
    Image.fromarray(red).save(folder / "masks" / "1.png")
    code, _, err = run("predict", str(pictures), "--examples", str(folder))
    assert code == 1
    assert "1.png" in err
    assert "white" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.usefixtures("seeing")
def test_files_of_earlier_runs_stay_and_are_counted(
    run: Run, examples: Path, pictures: Path, tmp_path: Path
) -> None:
    """Masks of other pictures and of labels that are gone lay among the new ones without a word."""
    out = tmp_path / "out"
    command = ("predict", str(pictures), "--examples", str(examples), "--out", str(out))
    assert "other files" not in run(*command)[1]
    assert "other files" not in run(*command)[1]  # all are written anew
    (pictures / "8.png").unlink()
    _, said, _ = run(*command)
    assert "2 other files lie there from before." in said
    assert (out / "8.mask.png").exists()


@pytest.mark.usefixtures("seeing")
def test_specks_are_left_out_as_in_label_studio(
    run: Run, examples: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, mask = blob(7)
    away = np.argwhere(~mask & (np.roll(mask, 30, axis=1) == 0))[-1]
    image[tuple(away)] = [230, 200, 60]  # one pixel of the disc's colour
    (pictures / "7.png").write_bytes(png(image))
    for least, expected in (("0", mask.sum() + 1), ("0.01", mask.sum()), ("0.5", 0)):
        monkeypatch.setenv("MIN_AREA", least)
        out = tmp_path / least
        assert run("predict", str(pictures), "--examples", str(examples), "--out", str(out))[0] == 0
        assert np.count_nonzero(read(out / "7.mask.png")) == expected


def test_with_more_examples_than_shots_those_are_used_that_suit_a_picture(
    run: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that is like the picture stands last by name, where the first ones were taken whatever they showed."""
    folder = tmp_path / "many"
    for seed in range(5):
        add_pair(folder, seed)
        Image.fromarray(255 - blob(seed)[0]).save(folder / "images" / f"{seed}.png")
    add_pair(folder, 9)
    used: list[str] = []

    def looking(_: object, queries: list[object]) -> list[ProbabilityMap]:
        used.extend(example.key for query in queries for example in query.context.examples)  # type: ignore[attr-defined]
        return [ProbabilityMap(np.zeros((4, 4), np.float32), 48, 64) for _ in queries]

    monkeypatch.setattr("model.segmenter.Segmenter.maps", looking)
    monkeypatch.setenv("SHOTS", "1")
    out = tmp_path / "out"
    assert run("predict", str(pictures), "--examples", str(folder), "--out", str(out))[0] == 0
    assert used == ["mask/9", "mask/9"]


# -- a project, and what it exports --------------------------------------------------------------------------------
@pytest.fixture
def learned(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A project with cells and debris approved."""
    monkeypatch.setenv("DATA_DIR", str(stage.settings.data_dir))
    two = LABEL_CONFIG.replace('<Label value="cell"/>', '<Label value="cell"/><Label value="debris"/>')
    stage.label_studio.projects[stage.project]["label_config"] = two
    for seed in (1, 2):
        image, mask = blob(seed)
        stage.submit(stage.upload(image), brush(mask), brush(mask, "debris"))
    stage.work()
    return stage


@pytest.mark.usefixtures("seeing")
def test_a_project_s_examples_segment_a_folder(
    run: Run, learned: Stage, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, said, err = run("predict", str(pictures), "--project", str(learned.project), "--out", str(out))
    assert (code, err) == (0, "")
    assert f"4 examples and 0 prompts of project {learned.project}" in said
    for label in ("cell", "debris"):
        assert np.array_equal(read(out / f"7.{label}.png"), blob(7)[1].astype(np.uint8) * 255)


@pytest.mark.usefixtures("seeing")
def test_an_exported_project_gives_what_the_project_gives(
    run: Run, learned: Stage, pictures: Path, tmp_path: Path
) -> None:
    by_export, by_project, folder = (tmp_path / name for name in ("a", "b", "export"))
    project = str(learned.project)
    assert run("examples", "export", project, str(folder))[0] == 0
    assert run("predict", str(pictures), "--examples", str(folder), "--out", str(by_export))[0] == 0
    assert run("predict", str(pictures), "--project", project, "--out", str(by_project))[0] == 0
    names = sorted(file.name for file in by_project.iterdir())
    assert names == sorted(file.name for file in by_export.iterdir())
    assert len(names) == 6
    for name in names:
        if name.endswith(".png"):
            assert np.array_equal(read(by_export / name), read(by_project / name))


@pytest.mark.usefixtures("seeing")
def test_a_label_that_label_studio_is_not_shown_gets_an_empty_mask(
    run: Run, learned: Stage, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was written as found, though the server takes it not to be there."""
    backend, surely_absent = learned.backend, {"tag/image/cell": Absence(1.0, 0.9)}
    write_calibrations(backend.store, learned.key, backend.segmenter.identity, {}, surely_absent)
    command = ("predict", str(pictures), "--project", str(learned.project), "--out")
    code, said, err = run(*command, str(tmp_path / "auto"))
    assert (code, err) == (0, "")
    assert "0 of 2" in said
    assert not read(tmp_path / "auto" / "7.cell.png").any()
    assert read(tmp_path / "auto" / "7.debris.png").any()
    monkeypatch.setenv("HIDE_ABSENT", "off")
    assert run(*command, str(tmp_path / "off"))[0] == 0
    assert read(tmp_path / "off" / "7.cell.png").any()


@pytest.mark.usefixtures("seeing")
def test_a_label_for_which_a_nearer_look_does_not_pay_gets_none(
    run: Run, learned: Stage, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    really = zoom.maps

    def noting(segmenter: object, queries: list[Query], nearer: object, until: object = None) -> object:
        asked.append(nearer)
        return really(segmenter, queries, False)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(zoom, "maps", noting)
    backend = learned.backend
    write_calibrations(backend.store, learned.key, backend.segmenter.identity, {}, whole=["tag/image/debris"])
    command = ("predict", str(pictures / "7.png"), "--project", str(learned.project), "--out")
    assert run(*command, str(tmp_path / "out"))[0] == 0
    assert asked == [[True, False]]


def test_a_project_of_which_nothing_was_approved_or_seen_is_named(
    run: Run, stage: Stage, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_DIR", str(stage.settings.data_dir))
    stage.setup()
    code, _, err = run("predict", str(pictures), "--project", str(stage.project))
    assert code == 1
    assert "Nothing has been approved" in err
    code, _, err = run("predict", str(pictures), "--project", "999")
    assert code == 1
    assert "never been seen" in err


# -- prompts -------------------------------------------------------------------------------------------------------
def test_an_exported_prompt_segments_a_folder_with_its_own_checkpoint_only(
    run: Run,
    staging: Callable[..., Stage],
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = staging(tune_gate=1.0, tune_steps=1)
    monkeypatch.setenv("DATA_DIR", str(stage.settings.data_dir))
    stage.tune_four()
    file, out = tmp_path / "cell.safetensors", tmp_path / "out"
    assert run("prompts", "export", str(stage.project), "1", str(file))[0] == 0
    code, said, err = run("predict", str(pictures), "--prompt", str(file), "--out", str(out))
    assert (code, err) == (0, "")
    assert "by 1 prompts" in said
    assert {file.name for file in out.iterdir()} == {
        f"{n}.{e}" for n in (7, 8) for e in ("cell.png", "preview.jpg")
    }
    code, _, err = run("predict", str(pictures), "--prompt", str(file), "--prompt", str(file))
    assert code == 1
    assert "a prompt of 'cell' already" in err
    other = write_random_checkpoint(tmp_path / "other.safetensors", 32)
    code, _, err = run("predict", str(pictures), "--prompt", str(file), "--checkpoint", str(other))
    assert code == 1
    assert "was tuned for the checkpoint random-" in err
    assert "--checkpoint" in err
    file.write_bytes(file.read_bytes()[:-100])
    code, _, err = run("predict", str(pictures), "--prompt", str(file))
    assert code == 1
    assert "prompt file" in err


# -- what is wrong -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "what", ["no picture", "empty folder", "no examples", "no source", "two sources", "into itself"]
)
def test_predict_says_what_is_missing(
    run: Run, examples: Path, pictures: Path, tmp_path: Path, what: str
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    told = {
        "no picture": ("There is no picture", tmp_path / "none.png", ("--examples", str(examples))),
        "empty folder": ("There is no picture", empty, ("--examples", str(examples))),
        "no examples": ("holds no pair", pictures, ("--examples", str(empty))),
        "no source": ("--examples FOLDER", pictures, ()),
        "two sources": ("--examples FOLDER", pictures, ("--examples", str(examples), "--project", "1")),
        "into itself": ("--out", pictures, ("--examples", str(examples), "--out", str(pictures))),
    }
    expected, where, options = told[what]
    code, _, err = run("predict", str(where), *options)
    assert code == 1
    assert expected in err
    assert len(err.strip().splitlines()) == 1


def test_a_picture_that_cannot_be_read_is_named_and_the_others_are_done(
    run: Run, examples: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pictures / "1 [bold].png").write_bytes(b"no picture")
    out = tmp_path / "out"
    code, said, err = run("predict", str(pictures), "--examples", str(examples), "--out", str(out))
    assert code == 1
    assert err.startswith("1 [bold].png:")
    assert len(err.strip().splitlines()) == 1
    assert "2 pictures segmented" in said
    monkeypatch.setenv("MAX_IMAGE_BYTES", "100")
    code, _, err = run("predict", str(pictures / "7.png"), "--examples", str(examples))
    assert code == 1
    assert "MAX_IMAGE_BYTES" in err


def test_pictures_of_one_name_keep_their_masks_apart(
    run: Run, examples: Path, pictures: Path, tmp_path: Path
) -> None:
    Image.fromarray(blob(7)[0]).save(pictures / "7.bmp")
    out = tmp_path / "out"
    assert run("predict", str(pictures), "--examples", str(examples), "--out", str(out))[0] == 0
    assert {file.name for file in out.glob("*.mask.png")} == {
        "7.bmp.mask.png",
        "7.png.mask.png",
        "8.mask.png",
    }


def test_a_mask_of_another_size_than_its_picture_is_named(run: Run, examples: Path, pictures: Path) -> None:
    save_palette(examples / "masks" / "1.png", np.ones((4, 5), np.uint8))
    code, _, err = run("predict", str(pictures), "--examples", str(examples))
    assert code == 1
    assert "the mask is 5 x 4 pixels, its picture 64 x 48" in err
