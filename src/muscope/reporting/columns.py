"""The page ``docs/tables.md``, written from the schemas that tables are made with.

python -m muscope.reporting.columns > docs/tables.md
"""

from __future__ import annotations

import textwrap

from muscope import claims, plugins
from muscope.comparison import DIFFERENCES, VALUES
from muscope.experiments import registry
from muscope.experiments.base import Experiment
from muscope.reporting import compare
from muscope.storage import tables
from muscope.storage.schema import Schema

WIDTH = 120  # of the page's sentences
COMMAND = "python -m muscope.reporting.columns > docs/tables.md"
INTRODUCTION = f"""\
# Tables

What every column of every table means that a run or an examination writes to its `tables/`, and a
comparison to its `compare/`. This page is written by a command, from the schemas that the tables
are made with; do not edit it:

```sh
{COMMAND}
```

Tables are tidy: a column holds one quantity, and a row of an experiment's table names its agent and
checkpoint. Figures and claims read nothing else. Rewards and returns are in the environment's
units, those of value errors in the units of the problem that `evaluate.truth` names; a return is
discounted unless its column says otherwise.

The files say all this themselves. A field's metadata has the column's `meaning` and `unit`. The
file's has `made_by`: the versions of muscope, JAX and Python, the git revision where there is one
(with a `+` if files differed from it), and the platform. An experiment's table also has its
`experiment`, the number of `agents`, the `training_steps`, and as `mark` all that its rows depend
on; a changed mark is why a table is made anew. `digest` stands for the file's whole content, and
`muscope.storage.tables.read` refuses a table that is not what its digest says.

```python
import pyarrow.parquet as pq

schema = pq.read_schema("runs/cart-pole-quick-seed0/tables/figure3.parquet")
print(schema.field("error").metadata, schema.metadata[b"made_by"])
```

## Every table ends with

With these settings a row was made. Where a table has a column of such a name itself, as `figure6`
has `simulations`, it has only its own.
"""


def page() -> str:
    """The whole page: the package's own experiments in the order in which they run, and claims."""
    settings = Schema("settings", "", tables.SETTINGS)
    parts = [INTRODUCTION, settings.markdown() + "\n"]
    for source in registry.OWN:
        experiment: Experiment = plugins.load(source)
        parts += [_section(schema, experiment.title) for schema in experiment.tables]
    parts.append(_section(claims.SCHEMA, "The paper's claims and those of users' figures, judged"))
    parts.append(_section(VALUES, "The curves of a comparison", f"{compare.TABLES}/"))
    parts.append(_section(DIFFERENCES, "How far runs are from the first", f"{compare.TABLES}/"))
    return "\n".join(parts)


def _section(schema: Schema, title: str, folder: str = "") -> str:
    about = f"{title}. {schema.rows[:1].upper()}{schema.rows[1:]}."
    return f"## `{folder}{schema.name}`\n\n{textwrap.fill(about, WIDTH)}\n\n{schema.markdown()}\n"


if __name__ == "__main__":
    print(page(), end="")
