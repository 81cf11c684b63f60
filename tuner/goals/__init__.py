"""The goals of a search: the SLA and its verdicts, constraints, objectives."""
