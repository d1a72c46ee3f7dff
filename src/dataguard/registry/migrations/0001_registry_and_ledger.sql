-- Registry and ledger, schema version 1. Applied in one transaction.
PRAGMA application_id = 1684501089; -- "dgra": tells a registry from any other SQLite file

CREATE TABLE datasets (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    lineage TEXT NOT NULL,
    version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    "rows" INTEGER NOT NULL,
    "columns" INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    path TEXT NOT NULL,
    created TEXT NOT NULL,
    roots TEXT NOT NULL,
    meta TEXT NOT NULL,
    UNIQUE (name, version)
);

CREATE TABLE recipients (
    id TEXT PRIMARY KEY NOT NULL,
    created TEXT NOT NULL
);

CREATE TABLE mark_keys (
    lineage TEXT NOT NULL,
    recipient TEXT NOT NULL REFERENCES recipients (id),
    generation INTEGER NOT NULL,
    "commitment" TEXT NOT NULL,
    salt BLOB NOT NULL,
    created TEXT NOT NULL,
    PRIMARY KEY (lineage, recipient, generation)
);

CREATE TABLE exports (
    id TEXT PRIMARY KEY NOT NULL,
    dataset_id TEXT NOT NULL REFERENCES datasets (id),
    recipient TEXT NOT NULL REFERENCES recipients (id),
    generation INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    created TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    out TEXT NOT NULL,
    meta TEXT NOT NULL
);
CREATE INDEX exports_by_dataset ON exports (dataset_id);

CREATE TABLE fingerprints (
    dataset_id TEXT NOT NULL REFERENCES datasets (id),
    scheme TEXT NOT NULL,
    blob BLOB NOT NULL,
    PRIMARY KEY (dataset_id, scheme)
);

CREATE TABLE runs (
    id TEXT PRIMARY KEY NOT NULL,
    dataset_id TEXT NOT NULL REFERENCES datasets (id),
    created TEXT NOT NULL,
    votes_digest TEXT NOT NULL,
    k INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    meta TEXT NOT NULL,
    UNIQUE (dataset_id, k)
);

CREATE TABLE ledger (
    seq INTEGER PRIMARY KEY NOT NULL,
    type TEXT NOT NULL,
    scope TEXT NOT NULL,
    payload BLOB NOT NULL,
    salt BLOB NOT NULL,
    leaf_hash BLOB NOT NULL
);
CREATE INDEX ledger_by_type ON ledger (type, scope);

CREATE TABLE checkpoints (
    number INTEGER PRIMARY KEY NOT NULL,
    size INTEGER NOT NULL,
    time TEXT NOT NULL,
    envelope BLOB NOT NULL
);

-- Append-only by trigger, for every program that opens this file. The check on insertion also stops
-- INSERT OR REPLACE, which would otherwise delete a row without firing the trigger on deletion.
CREATE TRIGGER ledger_no_gap BEFORE INSERT ON ledger
WHEN NEW.seq IS NOT (SELECT COALESCE(MAX(seq) + 1, 0) FROM ledger)
BEGIN SELECT RAISE(ABORT, 'ledger rows are appended in sequence'); END;
CREATE TRIGGER ledger_no_update BEFORE UPDATE ON ledger
BEGIN SELECT RAISE(ABORT, 'ledger rows never change'); END;
CREATE TRIGGER ledger_no_delete BEFORE DELETE ON ledger
BEGIN SELECT RAISE(ABORT, 'ledger rows are never deleted'); END;

CREATE TRIGGER checkpoints_no_gap BEFORE INSERT ON checkpoints
WHEN NEW.number IS NOT (SELECT COALESCE(MAX(number) + 1, 0) FROM checkpoints)
BEGIN SELECT RAISE(ABORT, 'checkpoints are appended in sequence'); END;
CREATE TRIGGER checkpoints_no_update BEFORE UPDATE ON checkpoints
BEGIN SELECT RAISE(ABORT, 'checkpoints never change'); END;
CREATE TRIGGER checkpoints_no_delete BEFORE DELETE ON checkpoints
BEGIN SELECT RAISE(ABORT, 'checkpoints are never deleted'); END;
