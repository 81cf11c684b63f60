"""What a model is: config.pbtxt, its inputs and outputs, the search space, a candidate."""
