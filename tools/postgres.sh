#!/usr/bin/env bash
# A throw-away PostgreSQL from Debian's packages: `postgres.sh start FOLDER PORT` prints its address, `postgres.sh stop FOLDER` ends it.
# Durability is left on: tests kill processes and expect what was committed to be there.
set -euo pipefail
what=$1 folder=$2 port=${3:-15432}

bin_folder() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1; }

as_owner() { # PostgreSQL refuses to run as root
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

if [ "$what" = stop ]; then
    as_owner "$(bin_folder)/pg_ctl" -D "$folder/data" -m immediate -w stop >/dev/null 2>&1 || true
    rm -rf "$folder"
    exit 0
fi

if [ -z "$(bin_folder)" ]; then
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    $sudo apt-get update -qq >&2 && $sudo apt-get install -y -qq postgresql >&2
fi
rm -rf "$folder" && mkdir -p "$folder"
[ "$(id -u)" != 0 ] || chown postgres "$folder"
as_owner "$(bin_folder)/initdb" -D "$folder/data" -U isobar --auth=trust -E UTF8 --locale=C.UTF-8 >"$folder/../initdb.log" 2>&1
as_owner "$(bin_folder)/pg_ctl" -D "$folder/data" -w -l "$folder/server.log" \
    -o "-p $port -k $folder -c listen_addresses=127.0.0.1 -c max_connections=200" start >/dev/null
as_owner "$(bin_folder)/createdb" -h 127.0.0.1 -p "$port" -U isobar isobar_test
echo "postgres://isobar@127.0.0.1:$port/isobar_test"
