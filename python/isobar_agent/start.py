"""Entry point: `python start.py warm|cold LOCK_FILE`, with the control socket as standard input."""

import os
import sys

AGENT_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

if __name__ == "__main__":
    # The script's folder stands first on the path and would let `import start` or `import preload` find the agent.
    sys.path[0] = AGENT_HOME
    from isobar_agent import zygote

    sys.path.remove(AGENT_HOME)
    zygote.main(*sys.argv[1:])
