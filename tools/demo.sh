#!/usr/bin/env bash
# Starts the Rocket demo with the binary given. Its state lives in .demo; ISOBAR_DEMO_PORT chooses another port.
set -euo pipefail
binary=$(realpath "$1")
cd "$(dirname "$0")/.."
rocket=$PWD/examples/rocket home=$PWD/.demo
# As root, each team's tasks run as a user of their own. Where those cannot walk into this clone (below /root, say),
# the demo stands outside it.
if [ "$(id -u)" = 0 ] && ! runuser -u nobody -- test -r "$rocket/isobar.toml"; then
    home=/var/tmp/isobar-demo
    rocket=$home/rocket
    mkdir -p "$home" && rm -rf "$rocket" && cp -r examples/rocket "$rocket"
    echo "==> this clone is closed to other users, so the demo lives in $home"
fi
export ISOBAR_HOME="${ISOBAR_HOME:-$home}"
export ISOBAR__SERVER__PORT="${ISOBAR_DEMO_PORT:-8080}"
mkdir -p "$ISOBAR_HOME"
command -v python3 >/dev/null || { echo "demo: python3 is missing; hint: apt-get install python3 python3-venv" >&2; exit 1; }
echo "==> making the teams' environments (the first time takes a few minutes)"
"$binary" --config "$rocket/isobar.toml" teams apply
cat <<TEXT
==> starting Isobar on http://localhost:$ISOBAR__SERVER__PORT (Ctrl-C stops it); the password of all of them is: rocket
      dora  user of data-engineering
      ana   op of analytics
      sam   op of data-science
      erin  an engineer: op of data-engineering, viewer of the other two
      olga  admin of the organisation
    All Dags have run within some minutes of the first start; the page shows it.
TEXT
exec "$binary" --config "$rocket/isobar.toml" standalone
