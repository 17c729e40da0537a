"""The servers that a team leaves running: Prefect, MLflow and a worker, on one machine."""

from flows.services.stack import ServiceState, down, status, up

__all__ = ["ServiceState", "down", "status", "up"]
