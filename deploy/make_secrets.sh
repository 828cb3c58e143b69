#!/bin/sh
# Makes the files that docker-compose.yml reads secrets from, each with a random password; one that is there stays.
# The folder is for its owner alone. The files in it can be read by all, because the containers' users read them, and
# Docker mounts them as they are.
set -eu
folder="${FRAUD_SECRETS:-$(dirname "$0")/../secrets}"
mkdir -p "$folder"
chmod 700 "$folder"
for name in postgres_password fraud_password dagster_password mlflow_password grafana_password; do
    if [ ! -s "$folder/$name" ]; then
        password="$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n')"
        printf '%s' "$password" > "$folder/$name"
        chmod 644 "$folder/$name"
        echo "made $folder/$name"
    fi
done
