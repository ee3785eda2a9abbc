"""Claims by name, and tables small enough to judge by hand."""

import numpy as np
import pyarrow as pa

from muscope.claims import Cells
from muscope.experiments import registry

PAPERS_CLAIMS = sorted(
    (c for e in registry.everything().values() for c in e.claims), key=lambda c: c.place
)


def named(environment):
    """The claims that an environment is asked, by label, in order."""
    return {claim.label: claim for claim in PAPERS_CLAIMS if claim.is_about(environment)}


CART_POLE = named("cart-pole")


def rows(agents=3, **axes):
    """All combinations of the axes' values for every agent, as columns."""
    axes = {"agent": list(range(agents)), **axes}
    grid = np.meshgrid(*axes.values(), indexing="ij")
    return {name: values.ravel() for name, values in zip(axes, grid, strict=True)}


def cells(columns, agents=3, name="table", steps=2000):
    return Cells(name, pa.table(columns), range(agents), steps)
