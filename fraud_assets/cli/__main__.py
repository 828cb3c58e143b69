"""`python -m fraud_assets.cli`, which is the `fraud` command."""

from fraud_assets.cli import app

app()
