#!/bin/bash
# What charts rely on of the upstream image's entrypoint: an empty PGDATA becomes a database cluster with
# POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB, then /docker-entrypoint-initdb.d runs, then the server.
set -euo pipefail

# Upstream takes each of its variables from a file as well.
from_file() {
    local name=$1 file="${1}_FILE"
    if [[ -n ${!file:-} ]]; then
        export "$name=$(<"${!file}")"
    fi
}

initialise() {
    if [[ -z ${POSTGRES_PASSWORD:-} ]]; then
        echo "error: the database is empty and POSTGRES_PASSWORD is not set" >&2
        exit 1
    fi
    # shellcheck disable=SC2086 # the arguments are several words
    initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") ${POSTGRES_INITDB_ARGS:-}
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    # Nobody may connect before it is complete, so it listens on its socket alone.
    pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start
    if [[ $POSTGRES_DB != postgres ]]; then
        sql --dbname postgres --set database="$POSTGRES_DB" <<< 'CREATE DATABASE :"database"'
    fi
    run_files
    pg_ctl -D "$PGDATA" -m fast -w stop
}

run_files() {
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
            *.sh)
                if [[ -x $file ]]; then
                    "$file"
                else
                    # shellcheck source=/dev/null
                    . "$file"
                fi
                ;;
            *.sql) sql --dbname "$POSTGRES_DB" --file "$file" ;;
            *.sql.gz) gunzip -c "$file" | sql --dbname "$POSTGRES_DB" ;;
        esac
    done
}

sql() {
    PGHOST='' psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --no-password "$@"
}

if [[ ${1:-} == -* ]]; then
    set -- postgres "$@"
fi
if [[ ${1:-} == postgres ]]; then
    from_file POSTGRES_USER
    from_file POSTGRES_PASSWORD
    from_file POSTGRES_DB
    from_file POSTGRES_INITDB_ARGS
    export POSTGRES_USER=${POSTGRES_USER:-postgres}
    export POSTGRES_DB=${POSTGRES_DB:-$POSTGRES_USER}
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA" 2> /dev/null || true
    if [[ ! -s $PGDATA/PG_VERSION ]]; then
        initialise
    fi
fi
exec "$@"
