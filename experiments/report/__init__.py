"""Pages that show what an experiment found, made from results.jsonl alone."""
