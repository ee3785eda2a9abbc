"""From an experiment's view to Vega-Lite: one specification per panel, without its data.

A specification reads a table's rows as they are, and all that is computed of them stands in it:
means within an agent, then over the agents that are chosen.  What the reader chooses are its
parameters: ``agents`` (numbers), ``single`` (whether single agents are drawn), ``measure`` (a
column), and ``pick_COLUMN`` per choice (a value, or a list of them).
"""

from __future__ import annotations

from muscope.experiments.view import Lines, Matrix, View
from muscope.reporting.lines import lines_panel
from muscope.reporting.matrix import matrix_panel
from muscope.reporting.panel import Control, Panel, Tables, control_of, measures_of, table_of


def controls(view: View, given: Tables) -> list[Control]:
    """What can be chosen in all panels of a view, but for agents: measures, then its choices.

    Args:
        view: a panel of one measure keeps it, whatever is chosen for the others.
        given: its experiment's tables, the main one first.

    """
    table = next(iter(given.values()))
    each = [measures_of(panel, given) for panel in view.panels]
    measures = {name: label for of in each if len(of) > 1 for name, label in of.items()}
    found = [control_of(choice, table, view) for choice in view.choices]
    if len(measures) > 1:
        names = list(measures)
        found.insert(0, Control("measure", "shown", "measure", names, [*measures.values()], []))
    return [control for control in found if len(control.values) > 1]


def panels(view: View, given: Tables) -> list[Panel]:
    """The specifications of a view's panels, for these tables.

    Raises:
        ValueError: a column that the view names is not in its table.

    """
    for panel in view.panels:
        _check(panel, view, given)
    return [
        matrix_panel(panel, view, given)
        if isinstance(panel, Matrix)
        else lines_panel(panel, view, given)
        for panel in view.panels
    ]


def _check(panel: Lines | Matrix, view: View, given: Tables) -> None:
    name, table = table_of(panel, given)
    named = [panel.x, *(choice.column for choice in view.choices)]
    if isinstance(panel, Matrix):
        named.append(panel.y)
    else:
        named += [panel.colour, panel.dash, *panel.where]
        named += [column for each in panel.beside for column in (each.column, *each.where)]
    named += [] if measures_of(panel, given) else [*panel.measures]
    lacking = [column for column in named if column and column not in table.column_names]
    if lacking:
        raise ValueError(f"table {name} has no column '{lacking[0]}'")
