"""A sweep: variants of a config, each trained and examined as a run of its own, and compared."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from muscope import runtime, stages, studies, variants
from muscope.comparing import compare
from muscope.config import Config
from muscope.errors import Interrupted, JobError, MuscopeError, RunError
from muscope.progress import say
from muscope.reporting.compare import PAGE, TABLES
from muscope.stages import StudyRun
from muscope.storage.folder import holds_nothing
from muscope.storage.sweep import FILE, SweepFolder

TAKEN = (FILE, PAGE, TABLES)
"""Names in a sweep's folder that are no variant's."""


def sweep(
    config: Config,
    given: Mapping[str, variants.Changes],
    out: str | Path,
    experiments: Sequence[str] | None = None,
    again: str = "the same call",
) -> dict[str, StudyRun]:
    """Train and examine a config and variants of it, as :func:`muscope.study` does,
    but for films and single states.

    All are checked before the first begins.  What is there is skipped, so the same call goes on
    with an interrupted sweep, and one with more variants adds them.

    Args:
        config: the base, which is a variant called ``base``.
        given: for each variant, by name, the settings that it changes, by dotted name:
            ``{"longer": {"loss.unroll": 20}}``.
        out: the sweep's folder; a variant's run has the variant's name in it.
        experiments: names; all by default.
        again: what goes on with a sweep some of whose variants failed, for the message.

    Returns:
        The runs by variant.

    Raises:
        ConfigError: a variant cannot be built; nothing is written.
        RunError: ``out`` holds something else.
        BusyError: another process works on the sweep.
        JobError: some variants failed; all others are done.

    """
    runtime.start()
    base = stages.resolved(config)
    configs = variants.all_of(base, given, TAKEN)
    folder = SweepFolder(out)
    _refuse(folder, configs, experiments)
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.lock():
        folder.write_down({name: given.get(name, {}) for name in configs})
        runs, failed = _each(folder, configs, experiments)
        if len(runs) > 1:
            compare([folder.path])
    if failed:
        told = "; ".join(f"'{name}' ({reason.rstrip('.')})" for name, reason in failed.items())
        raise JobError(
            f"{len(failed)} of {len(configs)} variants failed: {told}. All others are done; "
            f"{again} goes on with those that failed."
        )
    return runs


def _refuse(
    folder: SweepFolder, configs: Mapping[str, Config], experiments: Sequence[str] | None
) -> None:
    """Raise if a variant cannot be built, or the folder holds something else.

    Raises:
        ConfigError: each variant that cannot be built is told.
        RunError: the folder is not a sweep's.

    """
    if not folder.file.is_file() and folder.path.exists() and not holds_nothing(folder.path):
        raise RunError(f"{folder.path} exists and is no sweep; choose another --out.")
    wrong = []
    for name, config in configs.items():
        path = folder.run_path(name)
        try:
            planned, _ = studies.checked(config, path, experiments)
            StudyRun.create(path, planned.config)
        except MuscopeError as error:
            if name == variants.BASE:
                raise  # Of what is wrong with the base, variants are only echoes.
            wrong.append(f"'{name}': {error}")
    variants.refuse_wrong(wrong)


def _each(
    folder: SweepFolder, configs: Mapping[str, Config], experiments: Sequence[str] | None
) -> tuple[dict[str, StudyRun], dict[str, str]]:
    """The runs that could be done, and why others could not, by variant."""
    runs, failed = {}, {}
    began = time.monotonic()
    for i, (name, config) in enumerate(configs.items(), 1):
        minutes = (time.monotonic() - began) / 60
        say(f"variant {i} of {len(configs)}: {name} ({minutes:.1f} min so far).")
        try:
            runs[name] = studies.study(config, folder.run_path(name), experiments, closely=False)
        except Interrupted:
            raise
        except Exception as error:  # One of many must not stop the others, whatever it is.
            if not isinstance(error, MuscopeError):
                traceback.print_exc()
            failed[name] = " ".join(str(error).split()) or type(error).__name__
            say(f"variant '{name}' failed: {failed[name]}")
    return runs, failed
