"""What a model is made of and what it costs, in numbers: parameters by part, memory, cache and computation."""
