"""Where everything metarec writes is kept, and the environment that keeps its tools inside it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from metarec_core.errors import StorageError

HOME_VARIABLE = "METAREC_HOME"
DEFAULT_HOME = "var"
_ODD = "*?[]{}%#"


@dataclass(frozen=True, slots=True)
class Home:
    """The directory ``$METAREC_HOME`` (default ``./var``) and the places inside it."""

    root: Path

    @classmethod
    def from_environment(cls) -> Home:
        """The home that the environment names, as an absolute path; nothing is created."""
        return cls(Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).expanduser().absolute())

    @property
    def datasets(self) -> Path:
        """Fetched datasets, one directory each."""
        return self.root / "datasets"

    @property
    def lake(self) -> Path:
        """Outputs of stages: ``lake/<stage>/<key>/``."""
        return self.root / "lake"

    @property
    def lists(self) -> Path:
        """Published recommendations: ``lists/run_date=YYYY-MM-DD/`` and the ``latest`` link."""
        return self.root / "lists"

    @property
    def runs(self) -> Path:
        """One directory a run with its ``status.json`` and ``summary.md``, and ``latest``."""
        return self.root / "runs"

    @property
    def tuning(self) -> Path:
        """Studies of ``metarec tune``, each in a directory of its own."""
        return self.root / "tuning"

    @property
    def data_docs(self) -> Path:
        """The Great Expectations site; ``index.html`` inside."""
        return self.root / "data_docs"

    @property
    def prefect(self) -> Path:
        """Prefect's own home: profiles, database, results."""
        return self.root / "prefect"

    @property
    def mlflow(self) -> Path:
        """MLflow's database and artifacts."""
        return self.root / "mlflow"

    @property
    def lock(self) -> Path:
        """Held by the process that writes this home; the kernel frees it when that ends."""
        return self.root / ".lock"

    @property
    def services(self) -> Path:
        """Process ids, logs and addresses of the servers that ``make up`` starts."""
        return self.root / "services"

    @property
    def mlflow_uri(self) -> str:
        """The tracking store: ``$MLFLOW_TRACKING_URI`` or the SQLite file of this home."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.mlflow / 'mlflow.db'}"

    @property
    def mlflow_ui(self) -> str:
        """Address at which ``make up`` serves MLflow's pages."""
        return f"http://127.0.0.1:{os.environ.get('METAREC_MLFLOW_PORT') or 5000}"

    def ensure(self) -> Home:
        """Create the home and return it.

        Raises:
            StorageError: If it cannot be created or written, or its path holds characters that
                some tool below would take for a pattern or an escape.
        """
        odd = sorted(set(str(self.root)) & set(_ODD))
        if odd:
            raise StorageError(
                f"home directory {self.root}",
                found=f"{' '.join(odd)} in its path",
                wanted=f"a path without any of {' '.join(_ODD)}",
                next_step=f"set {HOME_VARIABLE} to another directory",
            )
        try:
            for place in (self.root, self.lake, self.runs, self.lists, self.mlflow, self.prefect):
                place.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".write-probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StorageError(
                f"home directory {self.root}",
                found=f"{type(error).__name__}: {error.strerror or error}",
                wanted="a directory that this user can create and write",
                next_step=f"set {HOME_VARIABLE} to such a directory, or repair its permissions",
            ) from error
        return self

    def environment(self) -> dict[str, str]:
        """Variables that keep Prefect, MLflow and Great Expectations inside this home and silent.

        They are defaults: a variable that is already set keeps its value.
        """
        return {
            HOME_VARIABLE: str(self.root),
            "PREFECT_HOME": str(self.prefect),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_CLI_PROMPT": "false",
            # A run without a server starts one of its own; the default of 20 s is too short for a
            # busy machine that also creates the database.
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
            "DO_NOT_TRACK": "true",
            "GX_ANALYTICS_ENABLED": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
            "MPLCONFIGDIR": str(self.root / "matplotlib"),
        }

    def apply_environment(self) -> None:
        """Set every variable of :meth:`environment` that is not set yet, in this process."""
        for name, value in self.environment().items():
            os.environ.setdefault(name, value)
