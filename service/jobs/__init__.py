"""Jobs. The job table holds their state, the queue carries their ids, and workers claim them."""
