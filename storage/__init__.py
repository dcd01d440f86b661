"""Bytes on disk: data set readers, tables, stores and the ledger. Imports no torch."""
