"""What label-studio-ml's repository has today, as far as a model class sees it, since only 1.0.9 can be installed.

Signatures, order of calls and forms of requests and answers are those of its `model.py` and `api.py`; the rest is not
there. A test puts this file in place of `label_studio_ml/model.py` and starts it.
"""

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Flask, jsonify, request

CACHE: dict[tuple[str, str], str] = {}
TRAIN_EVENTS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATION_DELETED", "START_TRAINING")


class LabelStudioMLBase:
    """One object for each request; what lasts is in a cache by project."""

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        self.project_id = project_id or ""
        if label_config is not None:
            self.set("label_config", label_config)
        if not self.model_version:
            self.set("model_version", "0.0.1")
        self.setup()

    def setup(self) -> None:
        """For the model class."""

    def get(self, key: str) -> str | None:
        return CACHE.get((self.project_id, key))

    def set(self, key: str, value: str) -> None:
        CACHE[self.project_id, key] = value

    @property
    def label_config(self) -> str | None:
        return self.get("label_config")

    @property
    def model_version(self) -> str | None:
        return self.get("model_version")

    def predict(
        self, tasks: Sequence[Mapping[str, Any]], context: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> Any:
        """For the model class."""

    def fit(self, event: str, data: Mapping[str, Any], **additional_params: Any) -> Any:
        """For the model class."""


def serve(model_class: type[LabelStudioMLBase], port: int) -> None:
    """Its routes."""

    def setup() -> Any:
        data = request.get_json()
        model = model_class(project_id=data["project"].split(".", 1)[0], label_config=data.get("schema"))
        return jsonify({"model_version": model.get("model_version")})

    def predict() -> Any:
        data = request.get_json()
        project = data.get("project")
        project_id = str(project).split(".", 1)[0] if project else None
        params = data.get("params", {})
        context = params.pop("context", {})
        model = model_class(project_id=project_id, label_config=data.get("label_config"))
        response = model.predict(data.get("tasks"), context=context, **params)
        results = [] if response is None else response
        return jsonify(
            {"results": results.get("predictions", results) if isinstance(results, dict) else results}
        )

    def webhook() -> Any:
        data = request.get_json()
        event = data.pop("action")
        if event not in TRAIN_EVENTS:
            return jsonify({"status": "Unknown event"}), 200
        model = model_class(str(data["project"]["id"]), label_config=data["project"]["label_config"])
        return jsonify({"result": model.fit(event, data), "status": "ok"}), 201

    app = Flask(__name__)
    app.add_url_rule("/health", "health", lambda: jsonify({"status": "UP"}))
    for name, route in (("setup", setup), ("predict", predict), ("webhook", webhook)):
        app.add_url_rule(f"/{name}", name, route, methods=["POST"])
    # So that a test sees why; Label Studio sees no more than the status, as without it.
    app.register_error_handler(ConnectionError, lambda error: (jsonify({"detail": str(error)}), 500))
    app.run(host="127.0.0.1", port=port)


if __name__ == "__main__":
    serve(importlib.import_module(sys.argv[1]).SegGPTBackend, int(sys.argv[2]))
