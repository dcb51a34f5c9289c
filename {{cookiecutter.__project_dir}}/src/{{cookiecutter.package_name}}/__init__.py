"""Your service. How it runs is in ``threadkit``; what it is for is here."""
