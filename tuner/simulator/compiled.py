"""To import this is to have the simulator compiled, or loaded from numba's cache.

Compiling takes six seconds of CPU and happens once for each version of ``batcher.py``; numba keeps
the result beside that file or, if it cannot write there, in the user's cache folder.
"""

import numpy as np

from tuner.simulator.scheduling import Scheduling
from tuner.simulator.simulate import ServiceTimes, simulate

simulate(np.zeros(1), Scheduling(False, 1, (1,)), ServiceTimes(np.zeros(2)))
