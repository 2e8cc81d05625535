"""Whether a formula is true: closed forms from execution; what is published, held against them."""
