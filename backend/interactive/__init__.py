"""Interactive requests: clicks and boxes of Label Studio's smart tools to suggested masks."""

from backend.interactive.interactive import Interactive

__all__ = ["Interactive"]
