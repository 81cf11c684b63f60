"""As ``tuner.simulator.compiled``, for networks of models."""

import numpy as np

from tuner.simulator.network import Network, Node, Visit, simulate_network
from tuner.simulator.scheduling import Scheduling
from tuner.simulator.simulate import ServiceTimes

_NODE = Node(Scheduling(False, 1, (1,)), ServiceTimes(np.zeros(2)))
simulate_network(np.zeros(1), Network((_NODE,), (Visit(0),)))
