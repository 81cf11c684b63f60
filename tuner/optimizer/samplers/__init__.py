"""The samplers: the simulation-guided one, Optuna's own, and those of OptunaHub."""
