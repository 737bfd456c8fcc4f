"""What the way of a packet through the router costs: the rules that connbal writes, beside none at all."""
