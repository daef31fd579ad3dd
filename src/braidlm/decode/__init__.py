"""How models run at their fastest: decode plans and the slots that sequences take in them."""
