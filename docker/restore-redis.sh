#!/bin/sh
# Puts a snapshot (backup.rdb) in the place of what Redis holds. A Redis that keeps a log would ignore a snapshot that
# is merely copied into its folder, and start empty. Run in Redis' own container while all others are stopped:
# docs/operations.md, "Restore". The arguments are for a try outside of a container.
set -eu
snapshot="${1:-/backup.rdb}"
folder="${2:-/data}"
port="${3:-6379}"

redis-check-rdb "$snapshot" > /dev/null
rm -rf "$folder/appendonlydir"
cp "$snapshot" "$folder/dump.rdb"
redis-server --bind 127.0.0.1 --port "$port" --dir "$folder" --appendonly no --save '' --daemonize yes > /dev/null

ask() { redis-cli -p "$port" "$@"; }
while [ "$(ask ping 2> /dev/null)" != PONG ]; do sleep 1; done
ask config set appendonly yes > /dev/null
while ask info persistence | grep -Eq '^aof_rewrite_(in_progress|scheduled):1'; do sleep 1; done
ask info persistence | grep -q '^aof_last_bgrewrite_status:ok'
echo "restored: $(ask dbsize) keys"
ask shutdown nosave
