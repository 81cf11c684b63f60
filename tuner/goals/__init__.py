"""What is asked of a candidate: the SLA and its verdicts, constraints, objectives."""
