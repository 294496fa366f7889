-- Version 3 of the ledger: whether a block's share is known to be in the share log. Blocks from before have nothing beside
-- their files that could be logged, so nobody looks for them.
ALTER TABLE blocks ADD COLUMN logged INTEGER NOT NULL DEFAULT 0;
UPDATE blocks SET logged = 1;
