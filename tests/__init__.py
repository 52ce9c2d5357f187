"""Tests run in a process for each core, and start more: threads of each would fight for the cores.

How many threads there are must be in the environment before the libraries are imported.
"""

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["OPENCV_FOR_THREADS_NUM"] = "1"
