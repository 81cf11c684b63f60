"""What follows from records: typed findings with their figures, and no sentences.

``SearchFindings`` and ``ComparisonFindings`` are what a run comes to. Ratios, doubts, where the
time went, bands of rates, costs, replicas and rules of thumb are modules of their own.
``tuner.report.wording`` turns findings into sentences, for pages and terminals alike.
"""
