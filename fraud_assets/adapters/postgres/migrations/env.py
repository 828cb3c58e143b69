"""What alembic runs when it migrates: on the connection that `schema.upgrade` gives it, in its transaction."""

from alembic import context

from fraud_assets.adapters.postgres.schema import CONTROL_TABLES, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=CONTROL_TABLES,
    version_table=VERSION_TABLE,
    version_table_schema="public",
)
with context.begin_transaction():
    context.run_migrations()
