-- Who may do what in the database. The image of docker-compose.yml runs it once, when its volume is empty; with other
-- passwords, or where tables have another owner, run it again. Nothing is lost by it. `fraud restore` keeps the owners.
--
-- One database, because the months, Dagster's runs and MLflow's models are one thing: they are backed up as they were at
-- one moment, and who looks for a run that lost its process joins them. Each has a schema and a role of its own:
--   fraud    owns the database and the months, and may do what the other two may: it backs up, restores and erases.
--   dagster  owns the schema dagster, and sees nothing else. The webserver has this one alone.
--   mlflow   owns the schema mlflow, and sees nothing else. The MLflow server has this one alone.
-- None is a superuser, or may make databases and roles.
\set ON_ERROR_STOP on
\set fraud `cat /run/secrets/fraud_password`
\set dagster `cat /run/secrets/dagster_password`
\set mlflow `cat /run/secrets/mlflow_password`

-- A statement that fails is written to the log as it stands; these have passwords.
SET log_min_error_statement = panic;

SELECT :'fraud' = '' OR :'dagster' = '' OR :'mlflow' = '' AS missing \gset
\if :missing
    DO $$ BEGIN RAISE 'a password is missing: fraud_password, dagster_password and mlflow_password in the folder of secrets'; END $$;
\endif

SELECT format('CREATE ROLE %I', name) FROM (VALUES ('fraud'), ('dagster'), ('mlflow')) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE fraud LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'fraud';
ALTER ROLE dagster LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'dagster';
ALTER ROLE mlflow LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'mlflow';
GRANT dagster, mlflow TO fraud;

SELECT 'CREATE DATABASE fraud OWNER fraud' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'fraud') \gexec
REVOKE ALL ON DATABASE fraud, postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE fraud TO dagster, mlflow;

\connect fraud
SET client_min_messages = warning;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE SCHEMA IF NOT EXISTS dagster AUTHORIZATION dagster;
CREATE SCHEMA IF NOT EXISTS mlflow AUTHORIZATION mlflow;
ALTER SCHEMA dagster OWNER TO dagster;
ALTER SCHEMA mlflow OWNER TO mlflow;
-- What was made by another user, as by pg_restore. A sequence goes with its table.
SELECT format('ALTER TABLE %I.%I OWNER TO %I', nspname, relname, nspname)
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname IN ('dagster', 'mlflow') AND relkind IN ('r', 'p', 'v', 'm') AND pg_get_userbyid(relowner) <> nspname \gexec
