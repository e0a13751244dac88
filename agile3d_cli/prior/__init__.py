"""Training of the embedded generator ``mini`` on synthetic heads. No user command imports it."""
