"""PostgreSQL: the server, connections, and months of tables in and out."""
