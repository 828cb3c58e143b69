"""The tests, with one thread of OpenMP and of BLAS in each of their processes.

On a busy machine several threads wait for each other longer than they compute. It is said here, because libraries count
threads when they are loaded.
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
