"""Order of work: which version of ours a project shows, so that Label Studio can sort by its scores.

Label Studio sorts by score only while the project's model version is that of the predictions, and then asks its backend
for nothing: what it shows must lie there before it is shown. So the version moves where a pass ahead has come to its
end, and the predictions of the one that is shown stay until then.
"""

import logging

from backend import revision
from backend.errors import LabelStudioError
from backend.label_studio import LabelStudio
from backend.label_studio.records import ProjectInfo
from backend.settings import Settings
from backend.store import Store

log = logging.getLogger(__name__)

_LIVE = ""  # in place of a version: Label Studio asks us whenever it shows a task


def may_move(info: ProjectInfo, shown: str, titles: set[str]) -> bool:
    """Whether a project's model version is ours to move.

    It is as connecting left it (empty, or a backend's title) unless we have moved it from there: then somebody has put
    it back. And it is where it names any version of ours. All else is somebody's choice, and so are predictions that are
    switched off.

    Args:
        info: the project as Label Studio has it.
        shown: the version of ours that we set last; "" where it is to ask for each prediction.
        titles: of the project's backends that are ours.
    """
    if not info.show_collab_predictions:
        return False
    if not info.model_version or revision.is_ours(info.model_version):
        return True
    return not shown and info.model_version in titles


class Ordering:
    """Moves the version that a project shows, from pass to pass."""

    def __init__(self, store: Store, label_studio: LabelStudio, settings: Settings, checkpoint: str) -> None:
        self._store = store
        self._label_studio = label_studio
        self._settings = settings
        self._checkpoint = checkpoint

    @property
    def on(self) -> bool:
        """Whether the setting is on."""
        return self._settings.order_by_score

    def shown(self, project: str) -> str:
        """The version of ours that the project shows now, as far as we have set or seen it; else ""."""
        return self._shown(project)[0]

    def is_due(self, project: str) -> bool:
        """Whether the setting is another one than at the project's last pass, so that one should begin."""
        return self.on != bool(self._store.note(_began(project)))

    def begin(self, project: str) -> None:
        """A pass over the project's tasks begins: remember under which version.

        Where the setting is off, what we have set is taken back.

        Raises:
            LabelStudioError: Label Studio gave no answer or refused; begin again later.
            NotFound: the project is gone, or another one has its number.
        """
        if not self.on:
            self._restore(project)
            self._store.set_note(_began(project), "")
            return
        info = self._label_studio.project_of(project)
        if revision.is_ours(info.model_version) and info.model_version != self.shown(project):
            self._note(project, info.model_version)  # set by hand, or by us and forgotten
        if self.shown(project) == info.model_version and self._labels(project) != self._shown(project)[1]:
            self._ask_for_each(info)  # what is shown has labels that the config may no longer have
        self._store.set_note(_began(project), self._current(project))

    def settle(self, project: str) -> bool:
        """A pass has come to its end: show its version, if that is ours to say.

        Returns:
            False where the version has moved while the pass went on, so that another pass has to follow.

        Raises:
            LabelStudioError: as `begin`.
            NotFound: as `begin`.
        """
        if not self.on:
            return True
        version = self._current(project)
        if self._store.note(_began(project)) != version:
            return False
        info = self._label_studio.project_of(project)
        if info.model_version != version and may_move(info, self.shown(project), self._titles(info.id)):
            self._show(info, version)
        return True

    # -- inside --------------------------------------------------------------------------------------------------
    def _current(self, project: str) -> str:
        record = self._store.project(project)
        return revision.current(self._store, record, self._checkpoint) if record else _LIVE

    def _show(self, info: ProjectInfo, version: str) -> None:
        """Show a version; where Label Studio holds no prediction of it, let it ask for each."""
        try:
            self._label_studio.show_version(info.id, version)
        except LabelStudioError as error:
            if error.status != 400:
                raise
            self._ask_for_each(info)
            return
        self._note(info.key, version)
        log.info("project %s: shows, and can be sorted by, %s", info.key, version)

    def _ask_for_each(self, info: ProjectInfo) -> None:
        title = min(self._titles(info.id), default="")
        if info.model_version != title:
            self._label_studio.show_version(info.id, title)
        self._note(info.key, _LIVE)

    def _restore(self, project: str) -> None:
        """Let Label Studio ask for each prediction again, unless somebody has chosen otherwise since."""
        shown = self.shown(project)
        if not shown:
            return
        info = self._label_studio.project_of(project)
        if info.model_version == shown:
            self._ask_for_each(info)
            log.info("project %s: Label Studio asks for each prediction again", project)
        else:
            self._note(project, _LIVE)

    def _titles(self, number: int) -> set[str]:
        rows = self._label_studio.backends(number)
        return {str(row.get("title")) for row in rows if revision.is_ours(row.get("model_version"))}

    def _labels(self, project: str) -> str:
        """Fingerprint of the labels that the project's config has now."""
        record = self._store.project(project)
        return record.targets if record else ""

    def _shown(self, project: str) -> tuple[str, str]:
        """The version of ours that the project shows, and the labels that its config had when it was set."""
        version, _, labels = (self._store.note(f"shown:{project}") or _LIVE).partition(" ")
        return version, labels

    def _note(self, project: str, version: str) -> None:
        self._store.set_note(f"shown:{project}", f"{version} {self._labels(project)}" if version else _LIVE)


def _began(project: str) -> str:
    return f"pass-version:{project}"
