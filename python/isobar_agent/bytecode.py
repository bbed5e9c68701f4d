"""Where compiled Dag files are kept.

A team's children may read its Dag folders and not write them, so Python could not keep the bytecode beside the source
and every task would compile its file anew. What lies outside the Python installation is cached in the team's own
AIRFLOW_HOME instead; what lies inside is compiled already when the environment is made.
"""

import os
import sys
from importlib import _bootstrap_external as machinery

INSTALLATION = tuple({os.path.join(os.path.realpath(path), "") for path in (sys.prefix, sys.base_prefix)})


def keep_apart() -> None:
    """Sends the bytecode of the team's own sources to AIRFLOW_HOME/bytecode."""
    home = os.environ.get("AIRFLOW_HOME")
    if not home or sys.pycache_prefix or sys.dont_write_bytecode:
        return
    beside_source = machinery.cache_from_source
    folder = os.path.join(home, "bytecode")

    def cache_from_source(path, debug_override=None, *, optimization=None):
        beside = beside_source(path, debug_override, optimization=optimization)
        if os.path.realpath(path).startswith(INSTALLATION):
            return beside
        return os.path.join(folder, *os.path.abspath(beside).split(os.sep)[1:])

    machinery.cache_from_source = cache_from_source
