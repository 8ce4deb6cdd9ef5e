"""The tests; their names are the guarantees."""
