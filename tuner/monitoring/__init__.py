"""What a run found, for Prometheus and Grafana."""
