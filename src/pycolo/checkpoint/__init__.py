"""Checkpoints: when the primary's state is copied to the secondary, and with what outcome.

`coordinator` receives facts and gives commands, `table` has the transitions, `pace` says how often and for how long,
`records` is the history of checkpoints, `diagram` draws the table for the documentation.
"""
