#!/bin/sh
# Runs a command with DAGSTER_HOME where `fraud run` and `fraud dev` have it: in FRAUD_HOME, under the contract's
# name. All containers then share one folder for the logs of steps, whichever contract FRAUD_CONTRACT names.
set -eu
DAGSTER_HOME="$(python -c 'from fraud_assets.settings import Settings; print(Settings().dagster_home)')"
export DAGSTER_HOME
exec "$@"
