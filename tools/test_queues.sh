#!/usr/bin/env bash
# Prints a folder with what tests of message queues need, made in FOLDER where it is missing: `redis-server`, and below
# `packages` Airflow's providers for message queues.
set -euo pipefail
folder=$1
if [ ! -e "$folder/ready" ]; then
    rm -rf "$folder" && mkdir -p "$folder"
    packages=(apache-airflow-providers-common-messaging==2.1.2 apache-airflow-providers-redis==4.7.1 redis async-timeout)
    # Airflow itself is in the environment that they are added to.
    if command -v uv >/dev/null; then
        uv pip install -q --no-deps --target "$folder/packages" "${packages[@]}" >&2
    else
        python3 -m pip install -q --disable-pip-version-check --no-deps --target "$folder/packages" "${packages[@]}" >&2
    fi
    if command -v redis-server >/dev/null; then
        ln -s "$(command -v redis-server)" "$folder/redis-server"
    else
        # Unpacked, not installed: Debian's package would start a server. The program is one of its tools under another name.
        mkdir "$folder/debian"
        download() { (cd "$folder/debian" && apt-get download -qq redis-tools libatomic1 libjemalloc2 liblua5.1-0 liblzf1 lua-cjson >&2); }
        # A new machine may not know yet what there is.
        sudo=$([ "$(id -u)" = 0 ] || echo sudo)
        download 2>/dev/null || { $sudo apt-get update -qq >&2 && download; }
        for package in "$folder"/debian/*.deb; do dpkg -x "$package" "$folder/debian"; done
        libraries=$(dirname "$(find "$folder/debian" -name 'libjemalloc.so.2' | head -1)")
        printf '#!/bin/bash\nLD_LIBRARY_PATH=%s exec -a redis-server %s "$@"\n' \
            "$libraries" "$folder/debian/usr/bin/redis-check-rdb" >"$folder/redis-server"
        chmod 755 "$folder/redis-server"
    fi
    touch "$folder/ready"
fi
echo "$folder"
