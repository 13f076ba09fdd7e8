"""Which node serves when one of them is silent.

Two steps, never one: `heartbeat` *suspects*, `arbiter` *permits*. A node that took its own suspicion for a
permission would serve beside a living one whenever the link between them is cut.
"""
