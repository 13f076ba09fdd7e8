"""When the other node is silent, and who decides what follows.

Two steps, never one: `heartbeat` *suspects*, `arbiter` *permits*. A node that took its own suspicion for a
permission would serve beside a living twin whenever the link between them is cut.
"""
