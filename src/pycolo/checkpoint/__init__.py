"""Checkpoints: when the primary's state is copied over the secondary's, and what became of it.

`coordinator` is told facts and gives commands, `table` says what follows from what, `records` is what is kept of each
checkpoint, `diagram` draws the table for the documentation.
"""
