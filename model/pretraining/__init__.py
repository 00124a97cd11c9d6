"""Trains the embedded checkpoint from packaged and drawn images; the service never imports it."""
