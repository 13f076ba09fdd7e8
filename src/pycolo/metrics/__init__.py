"""What a node tells those who watch it: Prometheus metrics and how often a log line may repeat itself.

Everything is made of the node's status answer, so that a scrape and `colo status` cannot disagree.
"""
