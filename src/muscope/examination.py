"""Anybody's agents under the microscope: a folder of tables, figures, claims and a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from muscope import checks, runtime
from muscope.config import EvaluateConfig, to_dict
from muscope.errors import ConfigError, RunError, nearest
from muscope.experiments import evaluate as cells
from muscope.experiments import plans as asking
from muscope.experiments import registry
from muscope.host_call import host_errors
from muscope.reporting.page import report as write_report
from muscope.storage import json_file
from muscope.storage.checkpoint import write_atomically
from muscope.storage.folder import EXAMINATION, Folder, holds_nothing
from muscope.subjects import Subject


@host_errors()
def examine(
    subject: Subject,
    out: str | Path,
    experiments: Sequence[str] | None = None,
    evaluate: EvaluateConfig | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Folder:
    """Put anybody's agents under the microscope: tables, figures, claims and a report.

    Resumable: the same call skips what is there, and makes anew what the agents or settings have
    changed.

    Args:
        subject: see :func:`muscope.subject`.
        out: the folder to fill.
        experiments: names; all by default.
        evaluate: settings that experiments share.
        settings: by experiment, those of its own settings that are not its defaults.

    Raises:
        ConfigError: the environment or the agents break their contract, or a setting cannot be;
            nothing is written.
        RunError: ``out`` holds something else or is in use.
        HostError: a simulator or an agent on the host failed.

    """
    runtime.start()
    evaluate = evaluate or EvaluateConfig()
    plans = asking.plan(subject, evaluate, settings, experiments)
    for name in settings or {}:
        if name not in registry.everything():
            raise ConfigError(f"unknown figure '{name}'.{nearest(name, registry.everything())}")
    checks.before_writing(subject=subject, plans=plans)
    folder = _examination(Path(out))
    with folder.lock():
        _write_down(folder, subject, evaluate, plans)
        cells.fill(subject, folder, plans)
    write_report(folder)
    return folder


def _examination(path: Path) -> Folder:
    """The folder, made if it is not there.

    Raises:
        RunError: it holds something else.

    """
    empty = path.exists() and holds_nothing(path)
    if path.exists() and not (path / EXAMINATION).exists() and not empty:
        raise RunError(f"{path} exists and is not an examination; choose another --out.")
    if not empty and path.exists() and "pooled" in json_file.read(path / EXAMINATION):
        raise RunError(f"{path} was pooled from runs; choose another --out.")
    if empty or not path.exists():
        write_atomically(path / EXAMINATION, b"{}\n")
    return Folder(path)


def _write_down(
    folder: Folder, subject: Subject, evaluate: EvaluateConfig, plans: Sequence[asking.Plan]
) -> None:
    """Note who is examined, and drop tables that were made of other agents."""
    file = folder.path / EXAMINATION
    before = json_file.read(file)
    agents = {str(step): subject.digest(step) for step in subject.steps}
    about = {"subject": subject.settings(), "agents": agents}
    if before and {name: before.get(name) for name in about} != about:
        for table in folder.tables():
            folder.table_path(table).unlink()
        before = {}
    asked = {plan.experiment.name: to_dict(plan.settings) for plan in plans}
    about |= {
        "evaluate": to_dict(evaluate),
        "experiments": {**before.get("experiments", {}), **asked},
    }
    write_atomically(file, json_file.encoded(about))
