"""Label Studio's side: protocol, projects, approvals, predictions. Uses `model`, never the other way round."""

__version__ = "0.1.0"
