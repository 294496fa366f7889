-- Version 1 of the ledger. Hashes are in internal byte order.
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE payees (
    script     BLOB NOT NULL,
    worker     TEXT NOT NULL,
    first_seen INTEGER NOT NULL, -- Unix ms
    PRIMARY KEY (script, worker)
) STRICT;
CREATE TABLE blocks (
    hash      BLOB PRIMARY KEY CHECK (length(hash) = 32),
    height    INTEGER NOT NULL,
    prev_hash BLOB NOT NULL CHECK (length(prev_hash) = 32),
    found_ms  INTEGER NOT NULL, -- Unix ms
    value     INTEGER NOT NULL, -- satoshis
    reserve   INTEGER NOT NULL, -- satoshis
    state     TEXT NOT NULL
) STRICT;
CREATE INDEX blocks_by_height ON blocks (height);
CREATE TABLE outputs (
    block    BLOB NOT NULL REFERENCES blocks (hash),
    position INTEGER NOT NULL,
    script   BLOB NOT NULL,
    value    INTEGER NOT NULL, -- satoshis
    PRIMARY KEY (block, position)
) STRICT;
CREATE TABLE credit_deltas (
    block  BLOB NOT NULL REFERENCES blocks (hash),
    script BLOB NOT NULL,
    delta  INTEGER NOT NULL, -- satoshis
    PRIMARY KEY (block, script)
) STRICT;
