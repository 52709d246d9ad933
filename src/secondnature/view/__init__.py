"""A run in the browser, also while it is going: a reader of the run folder that writes nothing."""
