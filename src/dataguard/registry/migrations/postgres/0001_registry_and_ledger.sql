-- Registry and ledger, schema version 1, for PostgreSQL 12 or later. Applied in one transaction,
-- with the vault's schema first in search_path. The same tables as in SQLite; "added" keeps the order of addition.
CREATE TABLE registry (
    one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    version INTEGER NOT NULL,
    vault TEXT NOT NULL
);

CREATE TABLE datasets (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    lineage TEXT NOT NULL,
    version BIGINT NOT NULL,
    kind TEXT NOT NULL,
    "rows" BIGINT NOT NULL,
    "columns" BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    path TEXT NOT NULL,
    created TEXT NOT NULL,
    roots TEXT NOT NULL,
    meta TEXT NOT NULL,
    added BIGINT GENERATED ALWAYS AS IDENTITY,
    UNIQUE (name, version)
);

CREATE TABLE recipients (
    id TEXT PRIMARY KEY,
    created TEXT NOT NULL,
    added BIGINT GENERATED ALWAYS AS IDENTITY
);

CREATE TABLE mark_keys (
    lineage TEXT NOT NULL,
    recipient TEXT NOT NULL REFERENCES recipients (id),
    generation BIGINT NOT NULL,
    "commitment" TEXT NOT NULL,
    salt BYTEA NOT NULL,
    created TEXT NOT NULL,
    added BIGINT GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (lineage, recipient, generation)
);

CREATE TABLE exports (
    id TEXT PRIMARY KEY,
    dataset_id TEXT NOT NULL REFERENCES datasets (id),
    recipient TEXT NOT NULL REFERENCES recipients (id),
    generation BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    created TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    "out" TEXT NOT NULL,
    meta TEXT NOT NULL,
    added BIGINT GENERATED ALWAYS AS IDENTITY
);
CREATE INDEX exports_by_dataset ON exports (dataset_id);

CREATE TABLE fingerprints (
    dataset_id TEXT NOT NULL REFERENCES datasets (id),
    scheme TEXT NOT NULL,
    "blob" BYTEA NOT NULL,
    added BIGINT GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (dataset_id, scheme)
);

CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    dataset_id TEXT NOT NULL REFERENCES datasets (id),
    created TEXT NOT NULL,
    votes_digest TEXT NOT NULL,
    k BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    meta TEXT NOT NULL,
    added BIGINT GENERATED ALWAYS AS IDENTITY,
    UNIQUE (dataset_id, k)
);

CREATE TABLE ledger (
    seq BIGINT PRIMARY KEY,
    type TEXT NOT NULL,
    scope TEXT NOT NULL,
    payload BYTEA NOT NULL,
    salt BYTEA NOT NULL,
    leaf_hash BYTEA NOT NULL
);
CREATE INDEX ledger_by_type ON ledger (type, scope);

CREATE TABLE checkpoints (
    number BIGINT PRIMARY KEY,
    size BIGINT NOT NULL,
    time TEXT NOT NULL,
    envelope BYTEA NOT NULL
);

-- Append-only by trigger, for every program that opens this database. Sequence numbers have no gap even
-- where another program does not take our lock: the next one is the only one the trigger admits, and the
-- primary key lets only one transaction have it.
CREATE FUNCTION ledger_next() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.seq IS DISTINCT FROM (SELECT COALESCE(MAX(seq) + 1, 0) FROM ledger) THEN
        RAISE EXCEPTION 'ledger rows are appended in sequence' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION checkpoints_next() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.number IS DISTINCT FROM (SELECT COALESCE(MAX(number) + 1, 0) FROM checkpoints) THEN
        RAISE EXCEPTION 'checkpoints are appended in sequence' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% rows never change', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER ledger_no_gap BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION ledger_next();
CREATE TRIGGER ledger_no_change BEFORE UPDATE OR DELETE ON ledger FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER ledger_no_truncate BEFORE TRUNCATE ON ledger FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER checkpoints_no_gap BEFORE INSERT ON checkpoints FOR EACH ROW EXECUTE FUNCTION checkpoints_next();
CREATE TRIGGER checkpoints_no_change BEFORE UPDATE OR DELETE ON checkpoints
FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER checkpoints_no_truncate BEFORE TRUNCATE ON checkpoints
FOR EACH STATEMENT EXECUTE FUNCTION append_only();
