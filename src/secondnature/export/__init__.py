"""From a finished run to what others can use: weights, a model card, the training set in common formats, the hub."""
