#!/bin/sh
# Runs a command with DAGSTER_HOME where `fraud run` and `fraud dev` have it: in FRAUD_HOME, under the contract's
# name. All containers then share one folder for the logs of steps, whichever contract FRAUD_CONTRACT names.
# The passwords that the container was given go into the file that libpq reads (PGPASSFILE), by user: none is in a
# command line or the environment, and `docker compose exec` has them, too, which does not come by here.
set -eu
secrets=/run/secrets
if [ -n "${PGPASSFILE:-}" ] && [ -d "$secrets" ]; then
    (
        umask 077
        for file in "$secrets"/*_password; do
            [ -e "$file" ] || continue
            # In a password, a colon would end it.
            printf '*:*:*:%s:%s\n' "$(basename "$file" _password)" "$(sed 's/[\\:]/\\&/g' "$file")"
        done > "$PGPASSFILE.new"
        mv "$PGPASSFILE.new" "$PGPASSFILE"
    )
fi
DAGSTER_HOME="$(python -c 'from fraud_assets.settings import Settings; print(Settings().dagster_home)')"
export DAGSTER_HOME
exec "$@"
