"""What a flow keeps between two runs: its columns, the stores, and who holds them."""
