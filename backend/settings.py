"""Every setting, typed, in one table; read from the environment (or `.env`) when asked, never at import."""

import base64
import contextlib
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """Settings of one backend; an environment variable is the field's name in capitals."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", env_ignore_empty=True)

    label_studio_url: str = Field("", description="Where Label Studio is, e.g. `http://localhost:8080`.")
    label_studio_api_key: SecretStr = Field(
        SecretStr(""), description="A user's token: personal access token or, where enabled, legacy token."
    )
    basic_auth_user: str = Field("", description="User name that Label Studio must send; empty: no check.")
    basic_auth_pass: SecretStr = Field(SecretStr(""), description="Password that Label Studio must send.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Verbosity of the log."
    )
    host: str = Field("127.0.0.1", alias="BACKEND_HOST", description="Address that `serve` listens on.")
    port: int = Field(9090, ge=1, le=65535, description="Port that `serve` listens on.")

    checkpoint: str = Field(
        "embedded",
        description="`embedded`, a folder, a file (`.pth`, `.safetensors`) or a Hugging Face hub id.",
    )
    device: str = Field("auto", description="`auto`, `cpu`, `cuda`, `cuda:1`, `mps`.")
    data_dir: Path = Field(Path("data"), description="Folder for the store and the queue.")
    redis_url: SecretStr = Field(
        SecretStr(""), description="Redis that keeps store and queue; empty: SQLite in DATA_DIR."
    )
    worker: Literal["auto", "on", "inside", "off"] = Field(
        "auto",
        description="`on`: `serve` starts a worker process; `inside`: it works itself; `auto`: `inside` on a GPU."
        " `off`: run `worker` elsewhere.",
    )
    worker_metrics_port: int = Field(
        0, ge=0, le=65535, description="Port on which `worker` answers `/metrics`; 0: none."
    )
    admin_token: SecretStr = Field(
        SecretStr(""), description="Bearer token of the admin API; empty: loopback only."
    )

    approved_when: Literal["submitted", "ground_truth"] = Field(
        "submitted", description="What counts as approved: any submitted annotation, or ground truth only."
    )
    learn_from_bulk: bool = Field(
        False, description="Whether annotations made in bulk from predictions teach (nobody looked at them)."
    )
    shots: int = Field(8, ge=1, le=16, description="Examples in the context of one prediction, at most.")
    pool_size: int = Field(64, ge=1, le=1024, description="Examples kept for one target, at most.")
    ensemble: Literal["feature", "spatial", "both"] = Field(
        "feature", description="How several examples are used."
    )
    instances: bool = Field(
        False, description="One region per object, touching ones told apart, instead of one per label."
    )
    min_area: float = Field(
        0.0002, ge=0, lt=1, description="Components smaller than this share of the image are dropped."
    )
    edges: Literal["guided", "off"] = Field(
        "guided", description="Whether masks follow the image's edges; `off`: the enlarged probability's."
    )
    zoom: Literal["auto", "off"] = Field(
        "auto", description="Whether pictures are looked at again in parts where a label's objects are small."
    )
    hide_absent: Literal["auto", "off"] = Field(
        "auto", description="Whether a mask is left out where its label is taken not to be on the picture."
    )
    threshold: float = Field(
        0.5, gt=0, lt=1, description="Probability from which a pixel belongs to the mask."
    )
    predict_deadline: float = Field(
        40.0, gt=0, description="Seconds after which `/predict` answers with what it has."
    )
    pre_annotate: str = Field(
        "all", description="Tasks predicted ahead in the background: `off`, a number, or `all`."
    )
    order_by_score: bool = Field(
        False,
        description="Whether a project shows one version of ours at a time, so that Label Studio sorts by its scores.",
    )
    sequence_key: str = Field(
        "",
        description="Field of a task's data that names the sequence it is a frame of; empty: no sequences.",
    )
    frame_key: str = Field(
        "frame",
        description="Field of a task's data that holds its number in the sequence, or a name that ends in it.",
    )
    reconcile_every: float = Field(
        60.0, ge=5, description="Seconds between looks at Label Studio for silent changes."
    )

    tune_every: int = Field(
        20, ge=0, description="Approvals of a project after which its labels are tuned; 0: not by number."
    )
    tune_interval: float = Field(
        0.0, ge=0, description="Hours after which they are, if anything was approved; 0: not by time."
    )
    tune_gate: float = Field(
        0.0,
        ge=-1,
        le=1,
        description="By how much mean IoU a tuned prompt must beat what is in use; -1: not at all.",
    )
    tune_steps: int = Field(60, ge=1, le=100_000, description="Updates of one tuning, at most.")

    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Comma-separated hosts besides Label Studio that images may come from, though private.",
    )
    local_files_root: Path | None = Field(
        None, description="Folder below which local files may be read; empty: none."
    )
    max_body_bytes: int = Field(256 * 2**20, ge=1024, description="Largest body of a request, in bytes.")
    max_image_bytes: int = Field(100 * 2**20, ge=1, description="Largest image file read, in bytes.")
    max_image_pixels: int = Field(100_000_000, ge=1, description="Largest image decoded, in pixels.")
    image_timeout: float = Field(20.0, gt=0, description="Seconds for fetching one image.")
    image_cache_bytes: int = Field(256 * 2**20, ge=0, description="Memory for decoded images, in bytes.")

    @field_validator("label_studio_url")
    @classmethod
    def _without_trailing_slash(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        try:
            _ = urlsplit(url).port
        except ValueError:
            raise ValueError("has a host or a port that cannot be read") from None
        return url.rstrip("/")

    @field_validator("label_studio_api_key", "admin_token")
    @classmethod
    def _without_space_around(cls, token: SecretStr) -> SecretStr:
        stripped = token.get_secret_value().strip()
        if token and not stripped:
            raise ValueError("holds nothing but white space")
        return SecretStr(stripped)

    @field_validator("label_studio_api_key")
    @classmethod
    def _as_a_header_can_hold_it(cls, token: SecretStr) -> SecretStr:
        if not is_sendable(token.get_secret_value()):
            raise ValueError("holds a character that no token has; was something invisible copied with it?")
        return token

    @field_validator("pre_annotate")
    @classmethod
    def _off_all_or_number(cls, value: str) -> str:
        value = value.strip().lower()
        if value not in {"off", "all"} and not value.isdecimal():
            raise ValueError("must be off, all or a number")
        return value

    @field_validator("order_by_score")
    @classmethod
    def _only_what_is_predicted_ahead(cls, value: bool, others: ValidationInfo) -> bool:
        if value and others.data.get("pre_annotate") in {"off", "0"}:
            raise ValueError("needs PRE_ANNOTATE, all or a number above 0: nothing else is predicted ahead")
        return value

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(host.strip().lower() for host in value.split(",") if host.strip())
        return value

    @property
    def basic_authorizations(self) -> tuple[str, ...]:
        """The `Authorization` headers of which Label Studio must send one; none where there is no check.

        Programs write what is not ASCII in UTF-8, or in Latin-1 where that has it (`requests`, hence Label Studio).
        """
        if not self.basic_auth_user:
            return ()
        pair = f"{self.basic_auth_user}:{self.basic_auth_pass.get_secret_value()}"
        forms = [pair.encode()]
        with contextlib.suppress(UnicodeEncodeError):
            forms.append(pair.encode("latin-1"))
        return tuple("Basic " + base64.b64encode(form).decode() for form in dict.fromkeys(forms))

    @property
    def own_url(self) -> str:
        """Where this machine reaches `serve`, without a slash at the end."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - not listened on
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def pre_annotate_limit(self) -> int | None:
        """Tasks to predict ahead; None for all, 0 for none."""
        if self.pre_annotate == "all":
            return None
        return 0 if self.pre_annotate == "off" else int(self.pre_annotate)


def is_sendable(token: str) -> bool:
    """Whether a header of HTTP can hold a token."""
    return token.isascii() and token.isprintable()
