"""The command line: parsing and printing only; the commands are found through entry points."""
