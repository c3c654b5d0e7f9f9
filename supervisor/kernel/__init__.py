"""System calls that Python lacks, and the one door for child processes."""
