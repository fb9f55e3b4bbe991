"""One seed's life in one slot: stages, gates, the control it is judged against, its optimizer, rollback.

It knows the slots of one host, and no loop, policy or file.
"""
