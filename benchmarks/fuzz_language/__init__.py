"""A coverage-guided fuzzer for the blueprint language: `make fuzz`."""
