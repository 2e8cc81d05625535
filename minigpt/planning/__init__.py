"""What a pass would cost, whether it fits, how fast it can be: found on shapes, without weights."""
