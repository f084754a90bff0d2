"""The command line: one file a verb, imported when the verb is chosen. Nothing in here measures or computes."""
