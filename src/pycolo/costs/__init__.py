"""Which traffic costs what: the shape of a difference, sums over the last minute, hour and since the start, in words.

Pure: times are arguments. It knows the comparator's differences and the reasons for checkpoints, and is told of both.
"""
