"""The command line: parse, call one task, print. The only place that prints; one file per verb."""
