"""Label Studio's side: protocol, projects, approvals, predictions. Uses `model`, never the other way round."""
