"""Model Analyzer's configuration as experiments of tuner."""
