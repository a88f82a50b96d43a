"""Jobs: a table that is the truth, a queue that carries their ids, workers that claim them."""
