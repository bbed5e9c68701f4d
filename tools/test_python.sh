#!/usr/bin/env bash
# Prints the interpreter of an environment with Airflow 3.3.2 for the tests; makes it in FOLDER where it is missing.
set -euo pipefail
folder=$1
if [ ! -e "$folder/ready" ]; then
    rm -rf "$folder" && mkdir -p "$folder"
    packages=(apache-airflow==3.3.2 apache-airflow-task-sdk==1.3.2 apache-airflow-providers-standard apache-airflow-client)
    # As root, children run as users of their own; a Python below /root is out of their reach.
    python=python3
    if [ "$(id -u)" = 0 ] && [ -x /usr/bin/python3 ]; then python=/usr/bin/python3; fi
    if command -v uv >/dev/null; then
        uv venv -q --python "$python" "$folder/venv" >&2
        uv pip install -q --compile-bytecode --python "$folder/venv/bin/python" "${packages[@]}" >&2
    else
        "$python" -m venv "$folder/venv" >&2
        "$folder/venv/bin/python" -m pip install -q --disable-pip-version-check "${packages[@]}" >&2
    fi
    touch "$folder/ready"
fi
echo "$folder/venv/bin/python"
