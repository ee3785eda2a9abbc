"""Two Ray nodes of one core each, in a process without JAX: Ray forks, which JAX does not bear.

Prints the cluster's address; then a line "kill PID" kills, as a power cut would, the node on which
that process works. Anything else, or the end of the input, stops both. The head, which cannot be
spared, has no core: it gets no work.
"""

import sys
from pathlib import Path

from ray.cluster_utils import Cluster


def parent_of(pid: str) -> int:
    """A worker's parent is its node's raylet."""
    status = Path("/proc", pid, "status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("PPid")))


def raylet(node) -> int:
    return node.all_processes["raylet"][0].process.pid


nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
workers = [nodes.add_node(num_cpus=1) for _ in range(2)]
print(nodes.address, flush=True)
for line in sys.stdin:
    if not line.startswith("kill "):
        break
    parent = parent_of(line.split()[1])
    (killed,) = (node for node in workers if raylet(node) == parent)
    nodes.remove_node(killed, allow_graceful=False)
    print("killed", flush=True)
nodes.shutdown()
