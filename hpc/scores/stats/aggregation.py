"""Ways to aggregate the scores of events; imported before torch, to check arguments."""

POOLED, MEAN = "pooled", "mean"
AGGREGATIONS = (POOLED, MEAN)
