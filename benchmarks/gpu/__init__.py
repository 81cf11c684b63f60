"""What is measured on a GPU: stages, each of which writes one result file as it goes."""
