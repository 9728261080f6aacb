#!/usr/bin/env bash
# What one would guess: `pg_xact_status` tells a client that lost the answer to its COMMIT what became of it; PostgreSQL's
#   documentation offers it for that: "whether their transaction committed or aborted after the application and database
#   server become disconnected while a COMMIT is in progress".
# What happens (PostgreSQL 15.18): if the server crashed meanwhile, the number of a transaction whose records had not reached
#   the disk is given to the next one. `pg_xact_status` then says "committed", of another transaction, and the update is gone.
# Documented: not there. That a crash can hand out a number again follows from how numbers are logged.
# Needs Debian's `postgresql`; as root it runs as the user `postgres`.
set -euo pipefail
bin=$(dirname "$(find /usr/lib/postgresql -name initdb | sort -V | tail -n 1)")
folder=$(mktemp -d)
as=()
if [ "$(id -u)" = 0 ]; then
    chown postgres "$folder"
    as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi
cd "$folder"
end() {
    "${as[@]}" "$bin/pg_ctl" -D "$folder/data" -m immediate stop >"$folder.end" 2>&1 || true
    rm -rf "$folder" "$folder.end"
}
trap end EXIT
"${as[@]}" "$bin/initdb" -D "$folder/data" -A trust --no-sync --no-instructions >initdb.log
start() {
    "${as[@]}" "$bin/pg_ctl" -D "$folder/data" -w -l "$folder/data/log" \
        -o "-c listen_addresses= -c unix_socket_directories=$folder" start >start.log
}
ask() { "${as[@]}" "$bin/psql" -h "$folder" -X -q -A -t -d postgres "$@"; }
start
echo "PostgreSQL $(ask -c 'SHOW server_version')"
ask -c 'CREATE TABLE counted (n int)' -c 'INSERT INTO counted VALUES (1)'
# An open transaction, whose session the crash ends.
mkfifo orders
ask <orders >lost 2>ended.log &
session=$!
exec 3>orders
echo 'BEGIN; UPDATE counted SET n = n + 1 RETURNING pg_current_xact_id();' >&3
for _ in $(seq 100); do [ -s lost ] && break || sleep 0.1; done
"${as[@]}" "$bin/pg_ctl" -D "$folder/data" -m immediate stop >stop.log
exec 3>&-
wait "$session" || true
start
ask -c 'UPDATE counted SET n = n + 10'
number=$(head -n 1 lost)
status=$(ask -c "SELECT pg_xact_status('$number'::xid8)")
n=$(ask -c 'SELECT n FROM counted')
echo "transaction $number, which the crash undid, is told as: $status; n is $n, 1 and the other's 10"
[ "$status" = committed ] && [ "$n" = 11 ]
