"""For notebooks: a chart of a table in one call, and a table as a frame."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import vl_convert

from muscope.errors import ConfigError, nearest
from muscope.experiments import registry
from muscope.experiments.base import Experiment
from muscope.reporting import charts, look
from muscope.reporting.panel import ROWS, Control, Json
from muscope.storage.checkpoint import write_atomically

MIME = "application/vnd.vegalite.v5+json"
"""What JupyterLab and others draw by themselves, without a network.  The specifications are good
for Vega-Lite 5 and 6."""
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"


class Chart:
    """A chart that a notebook shows, with its choices below it; see :func:`chart`.

    Attributes:
        spec: of Vega-Lite, its data included.  ``altair.Chart.from_dict(chart.spec)`` makes
            Altair's chart of it.

    """

    def __init__(self, spec: Json):
        self.spec = spec

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {MIME: self.spec, "text/plain": repr(self)}

    def save(self, path: str | Path, scale: float = 2.0) -> Path:
        """Write it to a file, without a browser.

        Args:
            path: ends in .png, .svg, .pdf, .html (which needs no network) or .json.
            scale: pixels of a PNG per point.

        Raises:
            ConfigError: it ends in something else.

        """
        path = Path(path)
        text = json.dumps(self.spec)
        makers: dict[str, Any] = {
            ".png": lambda: vl_convert.vegalite_to_png(text, scale=scale),
            ".svg": lambda: vl_convert.vegalite_to_svg(text).encode(),
            ".pdf": lambda: vl_convert.vegalite_to_pdf(text),
            ".html": lambda: vl_convert.vegalite_to_html(text, bundle=True).encode(),
            ".json": text.encode,
        }
        if path.suffix not in makers:
            raise ConfigError(f"{path} must end in one of {', '.join(makers)}.")
        write_atomically(path, makers[path.suffix]())
        return path


def chart(
    table: pa.Table,
    *,
    panel: int = 0,
    measure: str | None = None,
    agents: Sequence[int] | None = None,
    single: bool = False,
    **chosen: Any,
) -> Chart:
    """A chart of an experiment's table, as the report has it.

    Args:
        table: as ``run.table("figure3")`` gives it, or some of its rows.
        panel: which, of an experiment whose view has several.
        measure: the column on the y axis; the view's first by default.
        agents: whose means are drawn; all by default.
        single: whether single agents are drawn too.
        chosen: by column, a value or a list of them, of what the view lets one choose: ``step=0``.

    Raises:
        ConfigError: the table does not say whose it is, its experiment has no view, or there is no
            such choice.

    """
    experiment = _experiment(table)
    if experiment.view is None:
        raise ConfigError(f"{experiment.name} declares no view; it can be drawn by its plot alone.")
    given = {experiment.name: table}
    view = experiment.view(given)
    made = charts.panels(view, given)
    if not 0 <= panel < len(made):
        raise ConfigError(f"{experiment.name} has panels 0..{len(made) - 1}, not {panel}.")
    spec = look.coloured(made[panel].spec, look.LIGHT)
    values = {parameter["name"]: parameter for parameter in spec["params"]}
    asked: dict[str, Any] = {f"pick_{column}": value for column, value in chosen.items()}
    asked |= {"single": single}
    asked |= {} if measure is None else {"measure": measure}
    asked |= {} if agents is None else {"agents": list(agents)}
    for name, value in asked.items():
        if name not in values:
            known = [known.removeprefix("pick_") for known in values if known.startswith("pick_")]
            column = name.removeprefix("pick_")
            raise ConfigError(f"'{column}' is no choice of it.{nearest(column, known)}")
        several = isinstance(values[name]["value"], list)
        values[name]["value"] = value if not several or isinstance(value, list) else [value]
    _bind(values, charts.controls(view, given))
    for layer in spec["layer"]:
        layer.pop("params", None)  # Points are told without looking for the nearest one.
    rows = table.select(made[panel].columns).to_pylist()
    own = {"$schema": SCHEMA, "width": 560, "datasets": {ROWS: _jsonable(rows)}}
    return Chart({**spec, **own, "config": look.config(look.LIGHT)})


def _experiment(table: pa.Table) -> Experiment:
    source = (table.schema.metadata or {}).get(b"experiment", b"").decode()
    for experiment in registry.everything().values():
        if source and source in (registry.source(experiment), experiment.name):
            return experiment
    what = f"of '{source}', which is not known here" if source else "without muscope's metadata"
    raise ConfigError(f"the table is {what}; give one as run.table(NAME) gives it.")


def _bind(parameters: Mapping[str, Json], controls: Sequence[Control]) -> None:
    """Let a notebook show what it has inputs for: one value of several, and a switch."""
    parameters["single"]["bind"] = {"input": "checkbox", "name": "single agents "}
    for control in controls:
        if control.how != "some" and control.parameter in parameters:
            parameters[control.parameter]["bind"] = {
                "input": "select",
                "options": control.values,
                "labels": control.shown,
                "name": f"{control.label} ",
            }


def _jsonable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """NaN, which JSON does not have, as null."""
    return [{k: None if v != v else v for k, v in row.items()} for row in rows]


def frame(table: pa.Table, kind: str = "pandas") -> Any:
    """A table as a frame of another library (extra ``[frames]``).

    Args:
        table: any.
        kind: pandas or polars.

    Raises:
        ConfigError: it is not, or is neither.

    """
    try:
        if kind == "pandas":
            return table.to_pandas()
        if kind == "polars":
            import polars

            return polars.from_arrow(table)
    except ImportError as error:
        raise ConfigError(f"{kind} is not installed; pip install {kind}.") from error
    raise ConfigError(f"'{kind}' is no kind of frame; choose pandas or polars.")
