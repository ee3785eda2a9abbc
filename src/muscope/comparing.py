"""Runs side by side: from their folders to tables and a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from muscope import comparison, stages
from muscope.comparison.runs import named
from muscope.errors import RunError
from muscope.progress import say
from muscope.reporting import compare as page
from muscope.stages import StudyRun
from muscope.storage.folder import Folder
from muscope.storage.sweep import FILE, SweepFolder

DEFAULT = Path("runs") / "comparison"


def compare(runs: Sequence[Folder | str | Path], out: str | Path | None = None) -> Path:
    """Hold runs against the first of them: curves, differences with intervals, claims.

    Args:
        runs: runs or examinations, of one environment; a sweep's folder stands for all of its
            variants that have tables.
        out: the folder for the page and its tables; by default a sweep's own if it is alone, else
            ``runs/comparison``.

    Returns:
        The page's path.

    Raises:
        RunError: they cannot be compared, or a table is damaged or was made of other agents than
            its run has.

    """
    given = [run.path if isinstance(run, Folder) else Path(run) for run in runs]
    if not given:
        raise RunError("name runs to compare, or a sweep's folder.")
    alone = len(given) == 1 and (given[0] / FILE).is_file()
    folders = [folder for path in given for folder in _folders(path)]
    compared = named(folders)
    comparison.refuse(compared)
    for folder in folders:
        if isinstance(folder, StudyRun) and folder.steps():
            stages.refuse_stale(folder)
    return page.write(compared, Path(out) if out else given[0] if alone else DEFAULT)


def _folders(path: Path) -> list[Folder]:
    """The run or examination in a directory, or the runs of a sweep.

    Raises:
        RunError: there is none, or a sweep has no table yet.

    """
    if not (path / FILE).is_file():
        return [stages.folder_of(path)]
    sweep = SweepFolder(path)
    paths = {name: sweep.run_path(name) for name in sweep.variants()}
    made = {name: at for name, at in paths.items() if any(at.glob("tables/*.parquet"))}
    if not made:
        raise RunError(f"no variant of {path} has tables yet; let 'muscope sweep' go on.")
    if len(made) < len(paths):
        left = ", ".join(name for name in paths if name not in made)
        say(f"without tables, and left out: {left}.")
    return [stages.folder_of(at) for at in made.values()]
