"""What two processes of the pipeline must agree on. Imports nothing of ours."""
