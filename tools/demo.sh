#!/usr/bin/env bash
# Starts the Rocket demo with the binary given. Its state lives in .demo; ISOBAR_DEMO_PORT chooses another port.
set -euo pipefail
binary=$(realpath "$1")
cd "$(dirname "$0")/.."
export ISOBAR_HOME="${ISOBAR_HOME:-$PWD/.demo}"
export ISOBAR__SERVER__PORT="${ISOBAR_DEMO_PORT:-8080}"
mkdir -p "$ISOBAR_HOME"
command -v python3 >/dev/null || { echo "demo: python3 is missing; hint: apt-get install python3 python3-venv" >&2; exit 1; }
echo "==> making the teams' environments (the first time takes a few minutes)"
"$binary" --config examples/rocket/isobar.toml teams apply
echo "==> starting Isobar; Ctrl-C stops it"
exec "$binary" --config examples/rocket/isobar.toml standalone
