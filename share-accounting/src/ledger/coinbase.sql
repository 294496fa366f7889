-- Version 2 of the ledger: by its coinbase a block's reserve output can be spent. Blocks from before have none.
ALTER TABLE blocks ADD COLUMN coinbase BLOB CHECK (length(coinbase) = 32);
