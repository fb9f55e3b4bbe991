"""Mutation testing of esper/passes and esper/ops: how many small slips in them the tests notice."""
