"""What stands at a slot: the hook in the host's forward pass, and what must be known of the host around it.

Owns finding, probing and refusing, isolation, blending, and the slot inside a compiled host. It knows no
lifecycle: what acts when is told to the hook.
"""
