"""Stand-ins for jobs that need minutes: their commands, files, reports and exit codes, no training."""
