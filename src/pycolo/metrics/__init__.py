"""Monitoring of a node: Prometheus metrics, and a limit on repeated log lines.

All metrics are made from the node's status answer, so a scrape and `colo status` cannot disagree.
"""
