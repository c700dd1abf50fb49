"""The bank of mistakes and accepted variants, and the table of what finds and names them."""
