"""Who chooses candidates: the simulation-guided sampler, Optuna's own, and those of OptunaHub."""
