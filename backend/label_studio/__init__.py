"""Typed client of Label Studio's API: projects, tasks, export, predictions, webhooks, tokens; knows no store."""

from backend.label_studio.client import LabelStudio
from backend.label_studio.origin import Origin
from backend.label_studio.records import ProjectInfo
from backend.label_studio.trouble import is_outage

__all__ = ["LabelStudio", "Origin", "ProjectInfo", "is_outage"]
