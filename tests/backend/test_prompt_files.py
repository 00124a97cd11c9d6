"""Prompt files: what is packed comes back, and a stranger's file is read as asked or refused with a sentence."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save

from backend.errors import BadRequest
from backend.store import tensors
from backend.store.tensors import (
    FORMAT,
    LARGEST_SIDE,
    LARGEST_VALUE,
    LIMIT_BYTES,
    LONGEST_TEXT,
    MOST_FIGURES,
    SMALLEST_SIDE,
    PromptCard,
    PromptFile,
    pack_prompt,
    unpack_prompt,
)

CARD = PromptCard(
    "embedded-1a2b3c4d", "Katze 👩\u200d👧", "brush", "both", 12, {"iou": 0.75, "gain": None}, "2026-03-01"
)
FIELDS = {
    "format": FORMAT,
    "checkpoint": "embedded-1a2b3c4d",
    "label": "Cat",
    "kind": "brush",
    "uses": "prompt",
    "examples": "12",
    "figures": '{"iou": 0.75, "gain": null}',
    "created": "2026-03-01",
}
ODD = {
    "checkpoint": ["", "x" * 201, "../embedded-1a2b3c4d", "a\\b", "embedded\x00"],
    "label": ["", "  ", "x" * 201, "Cat\n", "Cat\x00", "Cat\x85", "Cat\u2028", "\u202etaC"],
    "kind": ["", "brush; drop", "x" * 41, "brush\n"],
    "uses": ["Prompt", ""],
    "examples": ["-1", "1.5", "", "\u0661\u0662", "9" * 5000],
    "created": ["20260301", "2026-W09-7", "2026-02-30", "2026-03-01T00:00", ""],
    "figures": [
        *["", "null", "[]", "[" * 50_000, '{"iou": NaN}', '{"iou": Infinity}', '{"iou": 1e999}'],
        *['{"iou": true}', '{"iou": "0.5"}', '{"iou": [0.5]}', '{"iou": 0.5, "iou": 0.6}', '{"": 0.5}'],
        *['{"ward-7.png": 0.5}', '{"\\u00e9": 0.5}', '{"iou\\n": 0.5}', '{"iou": ' + "9" * 5000 + "}"],
        *[json.dumps({"x" * 41: 0.5}), json.dumps({f"x{number}": 0.5 for number in range(33)})],
    ],
}
ABSENT: Any = object()
REMEDY = r"(Export the prompt again|Choose a file|Update this backend|see whether)"


def pixels(side: int = 8, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(3, side, side)).astype(np.float32)


def prompt_file(side: int = 8, **card: Any) -> PromptFile:
    return PromptFile(pixels(side, 1), pixels(side, 2), replace(CARD, **card))


def short(value: object) -> str:
    return ascii(value)[:30]


def packed(changes: Mapping[str, Any] | None = None, arrays: Mapping[str, Any] | None = None) -> bytes:
    """A file as a stranger may write it: any arrays, any fields; ABSENT leaves a field out."""
    metadata = {name: value for name, value in {**FIELDS, **(changes or {})}.items() if value is not ABSENT}
    return save(dict(arrays or {"image": pixels(seed=1), "mask": pixels(seed=2)}), metadata)


def with_header(change: Callable[[str], str | bytes]) -> bytes:
    """A sound file whose header is put through `change`."""
    content = packed()
    end = 8 + int.from_bytes(content[:8], "little")
    changed = change(content[8:end].decode())
    header = changed if isinstance(changed, bytes) else changed.encode()
    return len(header).to_bytes(8, "little") + header + content[end:]


def replaced(old: str, new: str) -> bytes:
    """A sound file in whose header the first `old` is `new`."""
    assert old in HEADER
    return with_header(lambda header: header.replace(old, new, 1))


HEADER = packed()[8:].partition(b"}}")[0].decode()
DAMAGED = {
    "nothing": (b"", "cut short"),
    "seven bytes": (b"\x00" * 7, "cut short"),
    "a length of 2**64 - 1": (b"\xff" * 100, "cut short"),
    "a PNG": (b"\x89PNG\r\n\x1a\n" + bytes(100), "cut short"),
    "zeros": (bytes(100), "no safetensors file"),
    "a list": (with_header(lambda _: "[]"), "no JSON object"),
    "a deep header": (with_header(lambda _: "[" * 60_000), "cannot be read"),
    "another encoding": (with_header(lambda _: b"\xff\xfe{}"), "cannot be read"),
    "a long header": (with_header(lambda _: " " * 70_000), "header of 70000 bytes"),
    "an endless side": (replaced("[3,8,8]", "[3,8," + "9" * 5000 + "]"), "cannot be read"),
    "an infinite side": (replaced("[3,8,8]", "[3,8,1e999]"), "damaged"),
    "a negative side": (replaced("[3,8,8]", "[3,-8,-8]"), "damaged"),
    "a size beyond 64 bits": (replaced("[3,8,8]", f"[{2**62},{2**62},8]"), "damaged"),
    "a tensor twice": (replaced('"mask"', '"image"'), "cannot be read"),
    "a field twice": (replaced('"label":', '"label":"Dog","label":'), "cannot be read"),
    "half a character": (replaced('"Cat"', '"\\ud800"'), "control characters"),
    "a number for a text": (replaced('"Cat"', "5"), "no text"),
    "a deep type": (replaced('"F32"', "[" * 900 + "]" * 900), "type list"),
    "a type NumPy lacks": (replaced('"F32"', '"BF16"'), "BF16"),
    "a note beside a tensor": (replaced('"shape"', '"by":"Ann","shape"'), "'by'"),
    "tensors that overlap": (replaced("[768,1536]", "[0,768]"), "damaged"),
    "tensors beyond the end": (replaced("[768,1536]", "[1536,2304]"), "damaged"),
    "a byte less": (packed()[:-1], "damaged"),
    "a byte more": (packed() + b"\x00", "damaged"),
    "no metadata": (save({"image": pixels(), "mask": pixels()}), "format"),
    "a text for the metadata": (with_header(lambda _: '{"__metadata__":"format"}'), "format"),
}
UNFIT: dict[str, tuple[dict[str, NDArray[Any]], str]] = {
    "no mask": ({"image": pixels()}, "no tensor `mask`"),
    "no image": ({"mask": pixels()}, "no tensor `image`"),
    "one more": ({"image": pixels(), "mask": pixels(), "sound": pixels()}, "tensor 'sound'"),
    "half floats": ({"image": pixels().astype(np.float16), "mask": pixels()}, "'F16' instead of F32"),
    "integers": ({"image": pixels(), "mask": pixels().astype(np.int32)}, "'I32' instead of F32"),
    "two axes": ({"image": pixels()[0], "mask": pixels()}, r"shape \[8, 8\]"),
    "four axes": ({"image": pixels(), "mask": pixels()[None]}, r"shape \[1, 3, 8, 8\]"),
    "two channels": ({"image": pixels()[:2], "mask": pixels()}, r"shape \[2, 8, 8\]"),
    "no square": ({"image": pixels(9)[:, 1:].copy(), "mask": pixels()}, r"shape \[3, 8, 9\]"),
    "unequal sides": ({"image": pixels(), "mask": pixels(9)}, "8 px a side and a mask of 9"),
    "small": ({"image": pixels(7), "mask": pixels(7)}, "at 7 px"),
    "empty": ({"image": pixels(0), "mask": pixels(0)}, "at 0 px"),
    "one number": ({"image": np.array(1, np.float32), "mask": pixels()}, r"shape \[\]"),
}


def assert_sane(file: PromptFile) -> None:
    for tensor in (file.image, file.mask):
        assert tensor.dtype == np.float32
        assert tensor.shape == (3, tensor.shape[1], tensor.shape[1])
        assert SMALLEST_SIDE <= tensor.shape[1] <= LARGEST_SIDE
        assert np.abs(tensor).max() <= LARGEST_VALUE  # False for NaN too
    assert file.image.shape == file.mask.shape
    assert 1 <= len(file.card.label) <= LONGEST_TEXT
    assert len(file.card.figures) <= MOST_FIGURES
    assert unpack_prompt(pack_prompt(file)).card == file.card


class TestWriting:
    @pytest.mark.parametrize("side", [SMALLEST_SIDE, 17, 448])
    def test_what_is_packed_comes_back_bit_by_bit(self, side: int) -> None:
        file = prompt_file(side)
        back = unpack_prompt(pack_prompt(file))
        assert back.card == CARD
        assert (back.image.tobytes(), back.mask.tobytes()) == (file.image.tobytes(), file.mask.tobytes())
        assert back.image.shape == back.mask.shape == (3, side, side)

    def test_a_tensor_that_is_a_view_is_packed_as_it_reads(self) -> None:
        image = pixels().transpose(0, 2, 1)[:, ::-1]
        back = unpack_prompt(pack_prompt(replace(prompt_file(), image=image)))
        assert (back.image == image).all()

    def test_other_programs_read_the_card_as_plain_metadata(self) -> None:
        content = pack_prompt(prompt_file())
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        assert header["__metadata__"] == {
            "format": "seggpt-prompt-1",
            "checkpoint": "embedded-1a2b3c4d",
            "label": "Katze 👩\u200d👧",
            "kind": "brush",
            "uses": "both",
            "examples": "12",
            "figures": '{"iou": 0.75, "gain": null}',
            "created": "2026-03-01",
        }

    def test_figures_of_numpy_are_figures(self) -> None:
        figures: Any = {"iou": np.float32(0.5), "seconds": np.float64(0.25), "count": 3}
        assert unpack_prompt(pack_prompt(prompt_file(figures=figures))).card.figures == {
            "iou": 0.5,
            "seconds": 0.25,
            "count": 3.0,
        }

    def test_an_odd_label_is_tidied_rather_than_costing_a_tuning(self) -> None:
        label = "Cat\n\x1b[31m\u202e\ud800" + "x" * 300
        back = unpack_prompt(pack_prompt(prompt_file(label=label)))
        assert back.card.label == "Cat  [31m  " + "x" * (LONGEST_TEXT - 11)

    def test_the_card_has_no_place_for_a_name_of_a_person_an_image_a_task_or_a_project(self) -> None:
        """A new field turns this red: whoever adds one decides here whether strangers may read it."""
        assert [field.name for field in fields(PromptCard)] == [
            "checkpoint",
            "label",
            "kind",
            "uses",
            "examples",
            "figures",
            "created",
        ]

    def test_what_a_richer_card_says_is_not_written(self) -> None:
        @dataclass(frozen=True)
        class Richer(PromptCard):
            annotator: str = "Ann Smith"
            images: tuple[str, ...] = ("ward-7/ann-smith.png",)

        content = pack_prompt(PromptFile(pixels(), pixels(), Richer(**asdict(CARD))))
        assert b"mith" not in content
        assert unpack_prompt(content).card == CARD

    @pytest.mark.parametrize(
        "card",
        [
            {"checkpoint": "/ann/seggpt.pth"},
            {"checkpoint": "C:\\Ann\\seggpt"},
            {"kind": "ann smith"},
            {"uses": "ann"},
            {"examples": ("ann.png",)},
            {"examples": True},
            {"examples": -1},
            {"figures": {"ann.png": 0.5}},
            {"figures": {"Ann Smith": 0.5}},
            {"figures": {"iou": float("nan")}},
            {"created": "2026-03-01T12:00:00 by Ann"},
            {"created": "2026-03-01T12:00:00"},
        ],
        ids=str,
    )
    def test_the_fields_take_no_names_paths_or_times_of_day(self, card: dict[str, Any]) -> None:
        with pytest.raises(BadRequest, match=REMEDY):
            pack_prompt(prompt_file(**card))

    def test_a_figure_cannot_be_a_text(self) -> None:
        with pytest.raises(ValueError, match="could not convert"):
            pack_prompt(prompt_file(figures={"by": "Ann Smith"}))

    @pytest.mark.parametrize(
        "image",
        [
            pixels().astype(np.float64),
            pixels().astype(">f4"),
            pixels(16),
            pixels()[:, :, :7],
            np.full((3, 8, 8), np.nan, np.float32),
        ],
        ids=lambda image: f"{image.dtype}{list(image.shape)}",
    )
    def test_tensors_that_would_not_be_read_are_not_written(self, image: Any) -> None:
        with pytest.raises(BadRequest):
            pack_prompt(replace(prompt_file(), image=image))

    def test_a_file_too_large_to_be_read_is_not_written(self) -> None:
        large = np.zeros((3, 1700, 1700), np.float32)
        with pytest.raises(BadRequest, match=r"more than 64 MiB.*see whether"):
            pack_prompt(PromptFile(large, large, CARD))


class TestReading:
    def test_the_stranger_s_file_that_the_refusals_start_from_is_read(self) -> None:
        """Without this, each of the refusals below could be for another reason than the one it names."""
        file = unpack_prompt(packed())
        assert (file.card.label, file.card.uses, file.card.examples) == ("Cat", "prompt", 12)
        assert file.card.figures == {"iou": 0.75, "gain": None}
        assert unpack_prompt(with_header(lambda header: header + "   ")).card == file.card
        assert_sane(file)

    @pytest.mark.parametrize(("content", "reason"), DAMAGED.values(), ids=DAMAGED)
    def test_what_is_no_sound_safetensors_file_is_refused(self, content: bytes, reason: str) -> None:
        with pytest.raises(BadRequest, match=reason) as refused:
            unpack_prompt(content)
        assert refused.match(REMEDY)

    def test_a_file_too_large_is_refused_before_it_is_read(self) -> None:
        with pytest.raises(BadRequest, match="more than 64 MiB"):
            unpack_prompt(bytes(LIMIT_BYTES + 1))

    @pytest.mark.parametrize("newer", [FORMAT.replace("1", "2"), FORMAT.replace("1", "10")])
    def test_a_newer_format_is_called_newer_whatever_else_is_new_in_it(self, newer: str) -> None:
        changes = {"format": newer, "figures": ABSENT, "mood": "good"}
        content = packed(changes, {"image": pixels(), "sound": pixels()})
        with pytest.raises(BadRequest, match=rf"newer backend.*{newer}.*Update this backend"):
            unpack_prompt(content)

    @pytest.mark.parametrize(
        "other", ["pt", "", "seggpt-prompt-0", "seggpt-prompt-1 ", "seggpt-prompt-²", "x" * 999]
    )
    def test_another_format_is_named_and_not_called_newer(self, other: str) -> None:
        with pytest.raises(BadRequest, match=f"this backend reads {FORMAT}") as refused:
            unpack_prompt(packed({"format": other}))
        assert "newer" not in str(refused.value)
        assert len(str(refused.value)) < 300

    @pytest.mark.parametrize(("arrays", "reason"), UNFIT.values(), ids=UNFIT)
    def test_tensors_of_other_names_types_or_shapes_are_refused(self, arrays: Any, reason: str) -> None:
        with pytest.raises(BadRequest, match=reason) as refused:
            unpack_prompt(packed(arrays=arrays))
        assert refused.match(REMEDY)

    def test_a_side_beyond_the_largest_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """At the real bound the file's size is refused first, so the bound is moved."""
        monkeypatch.setattr(tensors, "LARGEST_SIDE", 8)
        unpack_prompt(packed())
        with pytest.raises(BadRequest, match="at 9 px, not 8 to 8"):
            unpack_prompt(packed(arrays={"image": pixels(9), "mask": pixels(9)}))

    @pytest.mark.parametrize("name", ["image", "mask"])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 100.01, -100.01, 3e38])
    def test_numbers_that_no_tuning_makes_are_refused(self, name: str, value: float) -> None:
        arrays = {"image": pixels(), "mask": pixels()}
        arrays[name][2, 7, 7] = 100
        unpack_prompt(packed(arrays=arrays))
        arrays[name][2, 7, 7] = value
        with pytest.raises(BadRequest, match=f"numbers in `{name}`"):
            unpack_prompt(packed(arrays=arrays))

    @pytest.mark.parametrize("name", [name for name in FIELDS if name != "format"])
    def test_a_missing_field_is_named(self, name: str) -> None:
        with pytest.raises(BadRequest, match=f"no `{name}` in its metadata"):
            unpack_prompt(packed({name: ABSENT}))

    @pytest.mark.parametrize("name", ["annotator", "project", "\x1b[31m"])
    def test_a_field_that_does_not_belong_there_is_refused(self, name: str) -> None:
        with pytest.raises(BadRequest, match="does not belong there") as refused:
            unpack_prompt(packed({name: "5"}))
        assert str(refused.value).isprintable()

    @pytest.mark.parametrize(
        ("name", "value"), [(name, value) for name in ODD for value in ODD[name]], ids=short
    )
    def test_an_odd_field_is_named_and_refused(self, name: str, value: str) -> None:
        with pytest.raises(BadRequest, match={"created": "day"}.get(name, name.removesuffix("s"))) as refused:
            unpack_prompt(packed({name: value}))
        assert refused.match(REMEDY)
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 300

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("checkpoint", "x" * 200),
            ("label", "x" * 200),
            ("label", "میـ\u200cخ"),
            ("kind", "x" * 40),
            ("examples", "0"),
            ("figures", "{}"),
            ("figures", json.dumps({f"x{number}": -1 for number in range(32)})),
        ],
    )
    def test_a_field_at_its_bound_is_read(self, name: str, value: str) -> None:
        assert_sane(unpack_prompt(packed({name: value})))


class TestAccidents:
    CONTENT = pack_prompt(prompt_file())

    @given(st.data())
    def test_no_beginning_of_a_file_is_taken_for_one(self, data: st.DataObject) -> None:
        end = data.draw(st.integers(0, len(self.CONTENT) - 1))
        with pytest.raises(BadRequest):
            unpack_prompt(self.CONTENT[:end])

    @given(st.data())
    @settings(max_examples=500)
    def test_flipped_bits_are_refused_or_leave_something_sane(self, data: st.DataObject) -> None:
        header = 8 + int.from_bytes(self.CONTENT[:8], "little")
        places = st.one_of(st.integers(0, 8 * header - 1), st.integers(0, 8 * len(self.CONTENT) - 1))
        content = bytearray(self.CONTENT)
        for place in data.draw(st.lists(places, min_size=1, max_size=4)):
            content[place // 8] ^= 1 << place % 8
        try:
            file = unpack_prompt(bytes(content))
        except BadRequest as refused:
            assert refused.remedy  # noqa: PT017 - either way is right, so `raises` does not fit
            return
        assert_sane(file)

    @given(st.binary(max_size=300))
    def test_bytes_that_nobody_wrote_are_refused(self, content: bytes) -> None:
        with pytest.raises(BadRequest):
            unpack_prompt(content)

    @given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=9) | st.integers(), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["image", "mask", "__metadata__", "format", "dtype", "shape"]), inner, max_size=4)))  # fmt: skip
    def test_a_header_of_any_json_is_refused(self, header: Any) -> None:
        with pytest.raises(BadRequest):
            unpack_prompt(with_header(lambda _: json.dumps(header)))
