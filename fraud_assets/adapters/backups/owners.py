"""Who owns the platform's schemas, and who else may read them: what a dump does not hold, and a restore has to keep.

On servers, Dagster and MLflow have users of their own (deploy/postgres/roles.sql). A restore makes every table as the
user who restores, so what was theirs is given back to them in the same transaction.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.conninfo import conninfo_to_dict

from fraud_assets.adapters.postgres.database import Database

# Before the schemas are dropped. One that is not there, or is of the user who restores, goes to a role of its name if
# that role was granted to this user, as roles.sql does.
KEEP_OWNERS = """
SELECT set_config('fraud.owners',
    coalesce(jsonb_object_agg(wanted.name, coalesce(had.owner, named.owner))::text, '{}'), true)
FROM (VALUES ('dagster'), ('mlflow')) AS wanted (name)
LEFT JOIN (
    SELECT nspname AS name, pg_get_userbyid(nspowner) AS owner FROM pg_namespace
    WHERE pg_get_userbyid(nspowner) <> current_user
) AS had ON had.name = wanted.name
LEFT JOIN (
    SELECT rolname AS name, rolname AS owner FROM pg_roles JOIN pg_auth_members ON roleid = pg_roles.oid
    WHERE pg_get_userbyid(member) = current_user
) AS named ON named.name = wanted.name
WHERE coalesce(had.owner, named.owner) IS NOT NULL;
"""
# After the dump, when all of it is of the user who restores. A sequence and a type of rows go with their table.
GIVE_BACK = """
DO $$
DECLARE kept record; statement text;
BEGIN
    FOR kept IN SELECT key AS name, value AS owner FROM jsonb_each_text(current_setting('fraud.owners')::jsonb)
        WHERE to_regnamespace(quote_ident(key)) IS NOT NULL
    LOOP
        EXECUTE format('ALTER SCHEMA %I OWNER TO %I', kept.name, kept.owner);
        FOR statement IN
            SELECT format('ALTER TABLE %s OWNER TO %I', pg_class.oid::regclass, kept.owner) FROM pg_class
            WHERE relnamespace = to_regnamespace(quote_ident(kept.name)) AND relkind IN ('r', 'p', 'v', 'm', 'f')
            UNION ALL
            SELECT format('ALTER ROUTINE %s OWNER TO %I', pg_proc.oid::regprocedure, kept.owner) FROM pg_proc
            WHERE pronamespace = to_regnamespace(quote_ident(kept.name))
            UNION ALL
            SELECT format('ALTER TYPE %s OWNER TO %I', pg_type.oid::regtype, kept.owner) FROM pg_type
            WHERE typnamespace = to_regnamespace(quote_ident(kept.name)) AND typtype IN ('d', 'e')
        LOOP
            EXECUTE statement;
        END LOOP;
    END LOOP;
END $$;
"""
GRANTED = """
SELECT DISTINCT schema, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee) END
FROM (
    SELECT nspname AS schema, nspowner AS owner, acl.grantee FROM pg_namespace, aclexplode(nspacl) AS acl
    UNION ALL
    SELECT nspname, relowner, acl.grantee FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace,
        aclexplode(relacl) AS acl
    UNION ALL
    SELECT nspname, relowner, acl.grantee FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        JOIN pg_namespace ON pg_namespace.oid = relnamespace, aclexplode(attacl) AS acl
) AS granted
WHERE schema = ANY(%s) AND grantee <> owner
"""


@dataclass(frozen=True)
class Rights:
    """Who may do something in which schema.

    Attributes:
        owners: the owner of each schema.
        granted: schema and role, of everybody who was granted something in it.
    """

    owners: dict[str, str]
    granted: frozenset[tuple[str, str]]


def read_rights(database: Database, schemas: tuple[str, ...]) -> Rights:
    """Who owns schemas, and who was granted rights in them; of those that are there."""
    with database.session() as connection:
        owners = connection.execute(
            "SELECT nspname, pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = ANY(%s)", [list(schemas)]
        ).fetchall()
        granted = connection.execute(GRANTED, [list(schemas)]).fetchall()
    return Rights(dict(owners), frozenset((schema, role) for schema, role in granted))


def lost_rights(before: Rights, after: Rights) -> list[str]:
    """What a restore could not keep, and what is to be done about it, in sentences."""
    roles: dict[str, list[str]] = {}
    for schema, role in sorted(before.granted - after.granted):
        roles.setdefault(role, []).append(schema)
    return [
        f"{role} had rights on tables in {' and '.join(schemas)}, which a restore makes anew: grant them again "
        "(GRANT SELECT ON ... TO ...)"
        for role, schemas in roles.items()
    ]


def shut_out(database: Database, url: str | None) -> list[str]:
    """A sentence, where the user of Dagster's URL cannot use what is Dagster's; else nothing."""
    user = None if url is None else conninfo_to_dict(url).get("user")
    with database.session() as connection:
        found = connection.execute(
            "SELECT rolname FROM pg_roles, pg_namespace WHERE rolname = %s AND nspname = 'dagster' "
            "AND NOT has_schema_privilege(pg_roles.oid, pg_namespace.oid, 'CREATE')",
            [user],
        ).fetchall()
    return [
        f"{name}, the user of FRAUD_DAGSTER_URL, has no rights on Dagster's tables: run deploy/postgres/roles.sql "
        "again, as docs/servers.md says"
        for (name,) in found
    ]
