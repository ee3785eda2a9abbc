"""Two Ray nodes of one core each, in a process without JAX: Ray forks, which JAX does not bear.

Prints the cluster's address; then a line "kill" kills the second node as a power cut would, and
anything else, or the end of the input, stops both.
"""

import sys

from ray.cluster_utils import Cluster

nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
second = nodes.add_node(num_cpus=1)
print(nodes.address, flush=True)
for line in sys.stdin:
    if line.strip() != "kill":
        break
    nodes.remove_node(second, allow_graceful=False)
    print("killed", flush=True)
nodes.shutdown()
