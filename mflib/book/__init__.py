"""The book: its chapters, their runs, the ledger, the figures and the pages."""
