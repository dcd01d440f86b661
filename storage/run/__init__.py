"""The ledger of a run, its lock and its layout of shards."""
