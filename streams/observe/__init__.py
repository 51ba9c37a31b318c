"""Observing a running application: metrics, status, logs."""
