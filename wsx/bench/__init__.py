"""How fast wsx is on this machine, beside the loops that it would replace, measured side by side in one run.

Every way to score is written against the same subject: one supernet, the same archs, images and BatchNorm
mode. Repeats are interleaved, counts are compared, ratios come with their spread.
"""
