"""Pages that show an experiment's results, made from results.jsonl only."""
