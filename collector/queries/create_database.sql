-- The one statement that cannot be a migration: the ledger of migrations lives inside of the database.
CREATE DATABASE IF NOT EXISTS {database:Identifier}
