"""The tree of errors that people are meant to read; knows neither HTTP nor exit codes (see `app` and `cli`).

BackendError
├── BadRequest            what came in does not fit the protocol
│   ├── LabelConfigError  the labeling config cannot be read
│   └── RegionError       an annotation's region cannot be read
├── ImageError            one task's image cannot be had
├── LabelStudioError      Label Studio's API did not do what was asked
│   ├── Unreachable       no answer
│   └── Unauthorized      no token, or a refused one
├── StoreError            the store cannot be used
├── NotFound              no such project, task, prompt or example
└── Refused               well-formed, but not possible now; the reason says why
"""


class BackendError(Exception):
    """Something a person can act on.

    Attributes:
        remedy: what to do about it, a sentence, or "".
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} {self.remedy}".strip()


class BadRequest(BackendError):
    """What came in does not fit the protocol."""


class LabelConfigError(BadRequest):
    """The labeling config cannot be read."""


class RegionError(BadRequest):
    """An annotation's region cannot be read."""


class ImageError(BackendError):
    """One task's image cannot be had."""


class LabelStudioError(BackendError):
    """Label Studio's API did not do what was asked.

    Attributes:
        status: the HTTP status of its answer, or None where there was none.
    """

    def __init__(self, message: str, *, remedy: str = "", status: int | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class Unreachable(LabelStudioError):
    """Label Studio gave no answer.

    Attributes:
        slow: whether there was just none in time.
    """

    def __init__(
        self, message: str, *, remedy: str = "", status: int | None = None, slow: bool = False
    ) -> None:
        super().__init__(message, remedy=remedy, status=status)
        self.slow = slow


class Unauthorized(LabelStudioError):
    """There is no token for Label Studio, or it was refused."""


class StoreError(BackendError):
    """The store cannot be used."""


class NotFound(BackendError):
    """No such project, task, prompt or example."""


class Refused(BackendError):
    """Well-formed, but not possible now."""
